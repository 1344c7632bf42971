"""The parser of options and configs: a mistake is told in one line, with the file it is in and what was meant."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from lavindit.cli.configs import config_files
from lavindit.errors import LavinditError

# What jsonargparse says around the one line that matters.
NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Expected a <class 'NoneType'>", "Given value")
# How it names an option that there is not, and one whose value is refused.
UNKNOWN = re.compile(r"(?:Group '([\w.]+)' does not accept )?(?:[oO]ption '|unrecognized arguments: --)([\w.]+)")
REFUSED = re.compile(r'Parser key "([\w.]+)"')


class OptionError(LavinditError):
    """What the parser refuses, before it is known where that stands."""


class Parser(LightningArgumentParser):
    """Tells mistakes in one line, as everything here does."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing the usage."""
        if "are required: " in message and message.endswith(".model"):
            message = "no model is described; name a config, --config experiment/demo_jdit.yaml say"
        raise OptionError(essence(message) + _meant(message, self)) from ex


@contextmanager
def mistakes_in(arguments: Sequence[str], command: str) -> Iterator[None]:
    """Parse in it: what is refused is told with the config file that says so.

    Args:
        arguments: The command line, configs by their names.
        command: Whose help has the options.

    Raises:
        LavinditError: In place of an `OptionError`.
    """
    try:
        yield
    except OptionError as error:
        message = str(error)
        key = _key(message)
        given = any(argument.split("=")[0].endswith((f"-{key}", f".{key}")) for argument in arguments)
        said = [path for path, content in config_files(arguments) if key and not given and _has(content, key)]
        where = f"{said[-1]}: " if said else ""  # what comes later has the last word
        raise LavinditError(f"{where}{message}; see `lavindit {command} --help`") from error


def essence(message: str) -> str:
    """A message of jsonargparse without the types it tried and the values it was given."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    return " ".join(line for line in lines if not line.startswith(NOISE))


def _key(message: str) -> str:
    """The option that a message is of, as far as it says."""
    unknown = UNKNOWN.search(message)
    if unknown is not None:
        return ".".join(part for part in unknown.groups() if part)
    return (REFUSED.findall(message) or [""])[-1]


def _meant(message: str, parser: ArgumentParser) -> str:
    """The option nearest to one that there is not, if any is near."""
    if not UNKNOWN.search(message) or "is meant" in message:
        return ""
    near = get_close_matches(_key(message), set(_options(parser)), n=1, cutoff=0.75)
    return f"; perhaps {near[0]} is meant" if near else ""


def _options(parser: ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (name.lstrip("-") for name in action.option_strings)
        if isinstance(action.choices, Mapping):
            for below in action.choices.values():
                yield from _options(below)


def _has(content: Mapping[str, Any], key: str, above: str = "") -> bool:
    """Whether a config says something of an option, which may be named without what it stands under."""
    return any(
        f"{above}.{name}".endswith(f".{key}") or (isinstance(value, Mapping) and _has(value, key, f"{above}.{name}"))
        for name, value in content.items()
    )
