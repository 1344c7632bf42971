"""Records: frozen dataclasses that become JSON and are built, and checked, from it again."""

import math
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, cast, get_args, get_origin, get_type_hints

from lavindit.errors import LavinditError


class Record:
    """A dataclass that goes to JSON and back."""

    def to_json(self) -> dict[str, Any]:
        """The record as what `json` can write: dicts, lists, str, int, float, bool, None."""
        return cast(dict[str, Any], _plain(self))

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The record that `to_json` wrote; fields it does not know are ignored.

        Raises:
            LavinditError: A field is missing or has another type; the message says where.
        """
        return _build(cls, data, cls.__name__)


def finite(value: float | None) -> float | None:
    """A Python float, or None for what is missing, NaN or infinite; takes NumPy and torch scalars too."""
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(value: Any) -> Any:
    """Anything as what `json` can write; what it cannot is written as text."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return finite(value)
    item = getattr(value, "item", None)  # NumPy and torch scalars
    return _plain(item()) if callable(item) and getattr(value, "ndim", 1) == 0 else str(value)


def _build(kind: Any, data: Any, where: str) -> Any:
    """The value of type `kind` that `data`, as `json` reads it, stands for; `where` names it in an error."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _build_record(cast(type[Record], kind), data, where)
    if origin in (Union, UnionType):  # only "X | None" occurs
        return None if data is None else _build(next(a for a in arguments if a is not NoneType), data, where)
    if origin is Literal:
        _require(data in arguments, where, f"one of {', '.join(map(str, arguments))}", data)
        return data
    if origin is list:
        _require(isinstance(data, list), where, "a list", data)
        return [_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data)]
    if origin is tuple:
        _require(isinstance(data, list) and len(data) == len(arguments), where, f"a list of {len(arguments)}", data)
        return tuple(_build(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, data, strict=True)))
    if origin is dict:
        _require(isinstance(data, dict), where, "an object", data)
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if kind is float:
        _require(isinstance(data, int | float) and not isinstance(data, bool), where, "a number", data)
        return float(data)
    if kind in (int, str, bool):
        _require(type(data) is kind, where, {int: "a whole number", str: "a text", bool: "true or false"}[kind], data)
    return data


def _build_record(kind: type[Record], data: Any, where: str) -> Any:
    _require(isinstance(data, dict), where, "an object", data)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for f in fields(cast(Any, kind)):
        if f.name in data:
            values[f.name] = _build(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise LavinditError(f"{where}.{f.name} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise LavinditError(f"{where}: {error}") from error


def _require(condition: bool, where: str, expected: str, found: Any) -> None:
    if not condition:
        shown = repr(found)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise LavinditError(f"{where} must be {expected}, not {shown}")
