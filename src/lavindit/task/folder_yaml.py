"""`task.yaml`: what a folder of pairs may say about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from lavindit.clips import SHORTEST, usable_length
from lavindit.errors import LavinditError
from lavindit.types import CLIP_FRAMES

FILE_NAME = "task.yaml"
SUMMARY = "Whatever the pairs of a folder show."
CONTEXTS = ("random", "nearest", "all")
Named = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class FolderConfig:
    """What `task.yaml` says; every field has a default.

    Attributes:
        name: Name of the task; by default the folder's.
        summary: One sentence.
        version: Raised by hand whenever its figures change for the same answers.
        frames: Frames of its clips, 4k + 1.
        context: "random", "nearest" or "all", or the names of the pairs that are always shown.
        codec: Name and options of the codec of its targets.
        metrics: Names and options; empty: the codec's own.
        colours: RGB levels 0-255 that its targets are painted in; id i is the i-th that is not black. Empty: unknown.
    """

    name: str
    summary: str = SUMMARY
    version: int = 1
    frames: int = CLIP_FRAMES
    context: str | tuple[str, ...] = "random"
    codec: Named = ("identity", {})
    metrics: tuple[Named, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()


def read_config(folder: Path) -> FolderConfig:
    """What a folder says about itself; the defaults where it has no `task.yaml`.

    Raises:
        LavinditError: The file is no YAML, or has an unknown key or a value of the wrong type; the message names both.
    """
    path, name = folder / FILE_NAME, folder.resolve().name
    if (folder / "task.yml").exists():
        raise LavinditError(f"{folder / 'task.yml'} is not read; call it {FILE_NAME}")
    if not path.exists():
        return FolderConfig(name)
    given = _parse(path)
    for key in given:
        if key not in _READERS:
            raise LavinditError(f"{path} has an unknown key {key!r}{suggest(str(key), list(_READERS))}")
    found: dict[str, Any] = {key: _READERS[key](value, f"{path}: {key}") for key, value in given.items()}
    found.setdefault("name", name)
    return FolderConfig(**found)


def suggest(name: str, known: list[str]) -> str:
    """The end of a sentence about an unknown name: the closest known one, or the first of them."""
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known[:20])}"


def _parse(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise LavinditError(f"{path} is no YAML: {error.problem}{place}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LavinditError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(given, dict | None):
        raise LavinditError(f"{path} must hold keys and values ({', '.join(_READERS)})")
    return given or {}


def _wrong(where: str, wanted: str, value: object) -> LavinditError:
    return LavinditError(f"{where} must be {wanted}, not {value!r}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, "a text", value)
    return value.strip()


def _task_name(value: object, where: str) -> str:
    name = _text(value, where)
    if "/" in name or "\\" in name or name.startswith("."):
        raise _wrong(where, "a name without slashes or a dot in front", value)
    return name


def _positive(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(where, "a whole number above 0", value)
    return value


def _frames(value: object, where: str) -> int:
    frames = _positive(value, where)
    if frames < SHORTEST or usable_length(frames) != frames:
        raise _wrong(where, f"4k+1 and at least {SHORTEST}", value)
    return frames


def _context(value: object, where: str) -> str | tuple[str, ...]:
    if isinstance(value, dict) and list(value) == ["fixed"] and isinstance(value["fixed"], list) and value["fixed"]:
        names = tuple(str(name) for name in value["fixed"])
        if len(set(names)) < len(names):
            raise LavinditError(f"{where} names a pair twice: {', '.join(names)}")
        return names
    if not isinstance(value, str) or value not in CONTEXTS:
        raise _wrong(where, f"{', '.join(CONTEXTS)} or fixed: [NAMES OF PAIRS]", value)
    return value


def _named(value: object, where: str) -> Named:
    """A name, or a mapping of `name` and options."""
    if isinstance(value, str):
        return value, {}
    if isinstance(value, dict) and isinstance(value.get("name"), str) and all(isinstance(key, str) for key in value):
        options = dict(value)
        return options.pop("name"), options
    raise _wrong(where, "a name, or a mapping of `name` and options", value)


def _list_of_named(value: object, where: str) -> tuple[Named, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong(where, "a list of names", value)
    return tuple(_named(item, where) for item in value)


def _colours(value: object, where: str) -> tuple[tuple[int, int, int], ...]:
    if not isinstance(value, list) or not all(_is_colour(item) for item in value):
        raise _wrong(where, "a list of colours [r, g, b] from 0 to 255", value)
    colours = tuple((int(r), int(g), int(b)) for r, g, b in value)
    if len(set(colours)) < len(colours):
        raise LavinditError(f"{where} has a colour twice")
    if not set(colours) - {(0, 0, 0)}:
        raise LavinditError(f"{where} must name a colour besides black, which is the background")
    return colours


def _is_colour(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return all(isinstance(level, int) and not isinstance(level, bool) and 0 <= level <= 255 for level in value)


_READERS: dict[str, Callable[[object, str], Any]] = {
    "name": _task_name,
    "summary": _text,
    "version": _positive,
    "frames": _frames,
    "context": _context,
    "codec": _named,
    "metrics": _list_of_named,
    "colours": _colours,
}
