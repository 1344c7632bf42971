"""Codecs: invertible maps between native units and pictures, one a file."""

import inspect
from difflib import get_close_matches
from typing import Any

from lavindit.codecs.base import Codec
from lavindit.codecs.boxes import BoxesCodec
from lavindit.codecs.depth import DepthCodec
from lavindit.codecs.flow import FlowCodec
from lavindit.codecs.identity import IdentityCodec
from lavindit.codecs.keypoints import KeypointsCodec
from lavindit.codecs.mask import MaskCodec
from lavindit.codecs.normals import NormalsCodec
from lavindit.codecs.palette import PaletteCodec, PanopticCodec
from lavindit.errors import LavinditError

__all__ = [
    "CODECS",
    "BoxesCodec",
    "Codec",
    "DepthCodec",
    "FlowCodec",
    "IdentityCodec",
    "KeypointsCodec",
    "MaskCodec",
    "NormalsCodec",
    "PaletteCodec",
    "PanopticCodec",
    "get_codec",
]

CODECS: dict[str, type[Codec]] = {
    codec.name: codec
    for codec in (
        IdentityCodec,
        DepthCodec,
        NormalsCodec,
        MaskCodec,
        FlowCodec,
        PaletteCodec,
        PanopticCodec,
        BoxesCodec,
        KeypointsCodec,
    )
}


def get_codec(name: str, **options: Any) -> Codec:
    """The codec of that name, built with its options.

    Args:
        name: Key of `CODECS`.
        options: Arguments of the codec, e.g. `near` and `far` of "depth", in metres.

    Raises:
        LavinditError: For a name or an option that does not exist; the message names the closest one that does.
    """
    if name not in CODECS:
        raise LavinditError(f"no codec is called {name!r}{_suggest(name, list(CODECS))}")
    known = list(inspect.signature(CODECS[name]).parameters)
    for option in options:
        if option not in known:
            raise LavinditError(f"codec {name!r} has no option {option!r}{_suggest(option, known)}")
    return CODECS[name](**options)


def _suggest(name: str, known: list[str]) -> str:
    """The end of the sentence: the closest known name, or all of them."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(sorted(known))}" if known else "; it has none"
