"""A codec as plain values and tensors, and back. Nothing that is read can run code.

What a codec is lies in its attributes alone: numbers, texts, tuples of numbers, tensors. A file names the codec by its
key in `CODECS`; what it says of the attributes is held against those of a default instance.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.codecs import CODECS
from lavindit.codecs.base import Codec
from lavindit.errors import LavinditError

# JSON has no numbers for these.
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def store_codec(codec: object) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a codec is.

    Returns:
        {"name": key of `CODECS`, "values": its attributes as JSON has them}, and those attributes that are tensors.

    Raises:
        LavinditError: Its class is a plugin's own, or has been changed.
    """
    name = getattr(codec, "name", None)
    if type(codec) is not CODECS.get(str(name)):
        raise LavinditError(
            f"a codec of the class {type(codec).__name__} cannot be stored, only lavindit's own can: "
            "keep its prompt in memory"
        )
    tensors = {key: value for key, value in vars(codec).items() if isinstance(value, Tensor)}
    stored = {"name": name, "values": {key: _plain(v) for key, v in vars(codec).items() if key not in tensors}}
    restore_codec(stored, tensors)  # what could not be read again is told now
    return stored, tensors


def restore_codec(stored: Any, tensors: Mapping[str, Tensor]) -> Codec:
    """The codec of what `store_codec` gave.

    Args:
        stored: Its name and values, as they came from JSON.
        tensors: Its tensors.

    Raises:
        LavinditError: There is no such codec in this version, or its attributes are not of that kind.
    """
    if not isinstance(stored, dict) or not isinstance(values := stored.get("values"), dict):
        raise LavinditError("what is stored is no codec")
    if not isinstance(name := stored.get("name"), str) or name not in CODECS:
        raise LavinditError(f"this version has no codec {name!r}; there are {', '.join(CODECS)}")
    usual = vars(CODECS[name]())
    given = values | dict(tensors)
    if wrong := sorted(usual.keys() ^ given.keys()):
        raise LavinditError(f"what is stored of the codec {name!r} does not fit this version: {', '.join(wrong)}")
    codec = CODECS[name].__new__(CODECS[name])
    for key, example in usual.items():
        try:
            setattr(codec, key, _like(given[key], example))
        except (TypeError, ValueError) as error:
            raise LavinditError(f"the codec {name!r} cannot have {key}: {error}") from error
    return codec


def _plain(value: Any) -> Any:
    """A number, text or tuple as JSON has it."""
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _like(value: Any, example: Any) -> Any:
    """A stored value as the attribute that it was.

    Raises:
        ValueError: It is of another kind than the example.
    """
    if isinstance(example, Tensor):
        fits = isinstance(value, Tensor) and value.dtype == example.dtype and value.shape[1:] == example.shape[1:]
        if not fits or value.ndim != example.ndim or not torch.isfinite(value).all():
            raise ValueError(f"not a tensor of {str(example.dtype).removeprefix('torch.')} {list(example.shape)}")
        return value
    if isinstance(example, tuple) and isinstance(value, list):
        return tuple(_like(part, example[0] if example else 0) for part in value)
    if isinstance(example, float):
        value = NOT_FINITE.get(value, value) if isinstance(value, str) else value
        if type(value) in (int, float):
            return float(value)
    elif type(value) is type(example):
        return value
    raise ValueError(f"{value!r} is no {type(example).__name__}")
