"""Config files that compose: an experiment names the files it stands on under `base`."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from lavindit.errors import LavinditError

SHIPPED = "lavindit_configs"


def expand_configs(arguments: list[str]) -> list[str]:
    """Replace each `--config FILE` by the contents of its bases, in order, and then its own.

    Later contents override earlier ones, key by key. A FILE is a path or the name of a shipped config, such as
    `experiment/demo_jdit.yaml`; names under `base` are relative to the file that names them.

    Raises:
        LavinditError: A file is missing or is no YAML mapping, or bases go in a circle.
    """
    expanded: list[str] = []
    for argument in _parts(arguments):
        if isinstance(argument, str):
            expanded.append(argument)
            continue
        for _, content in argument:
            expanded += ["--config", yaml.safe_dump(content, sort_keys=False)]
    return expanded


def config_files(arguments: Sequence[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The config files that arguments name, with what each says itself; bases before what stands on them.

    Raises:
        LavinditError: As `expand_configs`.
    """
    return [file for argument in _parts(arguments) if not isinstance(argument, str) for file in argument]


def _parts(arguments: Sequence[str]) -> Iterator[str | list[tuple[Path, dict[str, Any]]]]:
    """Arguments as they are, but each config's files and contents."""
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if name not in ("--config", "-c"):
            yield argument
            continue
        if not equals:
            if not waiting:
                raise LavinditError(f"{name} needs a file")
            value = waiting.pop(0)
        yield _contents(find_config(value), ())


def model_options(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`model.init_args` of a config's content; none where it says nothing of a model.

    Args:
        content: A mapping, as `expand_configs` gives it.
        name: Of the config, for the message.

    Raises:
        LavinditError: `model` or `init_args` is no mapping.
    """
    found: Any = content
    for key in ("model", "init_args"):
        found = found.get(key) or {}
        if not isinstance(found, dict):
            raise LavinditError(f"the config {name} must have a mapping under {key}, not {found!r}")
    return found


def find_config(name: str) -> Path:
    """The path of a config file, or of the shipped config of that name.

    Raises:
        LavinditError: There is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = Path(str(files(SHIPPED)))
    relative = name.removeprefix("configs/")
    for candidate in (shipped / relative, shipped / f"{relative}.yaml"):
        if candidate.is_file():
            return candidate
    every = sorted(str(p.relative_to(shipped)) for p in shipped.rglob("*.yaml"))
    near = get_close_matches(relative, every, n=1, cutoff=0.7)
    if near:
        raise LavinditError(f"no config {name}; did you mean {near[0]}?")
    known = [config for config in every if config.startswith("experiment/")]
    raise LavinditError(f"no config {name}; shipped experiments are {', '.join(known)}")


def _contents(path: Path, above: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    if path.resolve() in above:
        raise LavinditError(f"{path} is its own base, by way of {above[-1]}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise LavinditError(f"cannot read the config {path}: {error}") from error
    if not isinstance(content, dict):
        raise LavinditError(f"the config {path} must be a mapping of keys to values")
    bases = content.pop("base", [])
    found: list[tuple[Path, dict[str, Any]]] = []
    for base in [bases] if isinstance(bases, str) else bases:
        target = path.parent / base
        if not target.is_file():
            raise LavinditError(f"{path} stands on {base}, but there is no {target}")
        found += _contents(target, (*above, path.resolve()))
    return [*found, (path, content)] if content else found
