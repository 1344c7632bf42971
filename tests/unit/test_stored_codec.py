"""A codec as plain values and tensors, and back."""

import json
import math
from typing import Any

import pytest
import torch

from lavindit.codecs import CODECS, Codec, DepthCodec, PaletteCodec, PanopticCodec
from lavindit.codecs.stored import restore_codec, store_codec
from lavindit.errors import LavinditError

GENERATOR = torch.Generator().manual_seed(5)
OTHERS = [
    DepthCodec(0.1, 8.0, "cube"),
    PaletteCodec(5, GENERATOR, margin=1, void=True),  # a whole number where a float is usual
    PanopticCodec((), (3, 4), 2, GENERATOR),
    PanopticCodec((7,), (), 1, GENERATOR),
]


def through_json(codec: Codec) -> Codec:
    stored, tensors = store_codec(codec)
    return restore_codec(json.loads(json.dumps(stored, allow_nan=False)), tensors)


@pytest.mark.parametrize("codec", [*(kind() for kind in CODECS.values()), *OTHERS], ids=lambda codec: codec.name)
def test_comes_back_as_it_was(codec: Codec) -> None:
    again = through_json(codec)
    assert type(again) is type(codec)
    assert list(vars(again)) == list(vars(codec))
    for key, value in vars(codec).items():
        other = getattr(again, key)
        if isinstance(value, torch.Tensor):
            assert torch.equal(other, value)
        else:
            assert other == value
    if codec.pixelwise:
        native = codec.random_native(1, 8, 8, torch.Generator().manual_seed(0))
        valid = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        picture = codec.encode(native, valid)
        assert torch.equal(again.encode(native, valid), picture)
        assert torch.equal(again.decode(picture), codec.decode(picture))


def test_json_has_no_infinity() -> None:
    assert store_codec(CODECS["boxes"]())[0]["values"]["bounds"] == [0.0, "inf"]
    bounds: Any = through_json(CODECS["boxes"]()).bounds
    assert bounds == (0.0, math.inf)


class OwnDepth(DepthCodec):
    """A plugin's own, under a name of ours."""


class OwnName(DepthCodec):
    name = "own"


@pytest.mark.parametrize("codec", [OwnDepth(), OwnName(), object()])
def test_a_codec_of_ones_own_is_refused(codec: object) -> None:
    with pytest.raises(LavinditError, match=f"{type(codec).__name__} cannot be stored"):
        store_codec(codec)


def test_a_changed_codec_is_refused() -> None:
    codec = DepthCodec()
    vars(codec)["more"] = 1
    with pytest.raises(LavinditError, match="more"):
        store_codec(codec)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "deep"}, "no codec 'deep'; there are identity"),
        ({"name": ["depth"]}, "no codec"),
        ({"values": None}, "no codec"),
        ({"values": {"bounds": [1.0, 2.0]}}, "_log_near"),
        ({"margin": "0.5"}, "margin: '0.5' is no float"),
        ({"margin": True}, "margin: True is no float"),
        ({"count": 5.0}, "count: 5.0 is no int"),
        ({"void": 0}, "void: 0 is no bool"),
        ({"bounds": [0.0, None]}, "bounds: None is no float"),
        ({"bounds": 3.0}, "bounds: 3.0 is no tuple"),
        ({"colours": torch.zeros(6, 4)}, "colours: not a tensor of float32"),
        ({"colours": torch.zeros(6, 3, dtype=torch.int64)}, "colours: not a tensor"),
        ({"colours": torch.full((6, 3), torch.nan)}, "colours: not a tensor"),
    ],
)
def test_what_is_damaged_is_told(change: dict[str, Any], words: str) -> None:
    name = "depth" if "name" in change or "values" in change else "palette"
    stored, tensors = store_codec(DepthCodec() if name == "depth" else PaletteCodec(5))
    for key, value in change.items():
        if key in stored:
            stored[key] = value
        elif isinstance(value, torch.Tensor):
            tensors[key] = value
        else:
            stored["values"][key] = value
    with pytest.raises(LavinditError) as error:
        restore_codec(stored, tensors)
    assert words in str(error.value)


def test_no_codec_at_all() -> None:
    for stored in (None, [], {}, {"name": "mask"}):
        with pytest.raises(LavinditError, match="no codec"):
            restore_codec(stored, {})
