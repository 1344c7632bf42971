"""What every codec promises: the round trip within its stated tolerance, and pictures that are pictures."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lavindit.codecs import CODECS, Codec, get_codec
from lavindit.errors import LavinditError

SHAPE = (3, 16, 24)  # T, H, W
ROOMY = (3, 64, 96)  # for things
OPTIONS = {"panoptic": {"stuff": (7, 11), "things": (1, 2, 9), "instances": 4}}
MAPS = sorted(name for name in CODECS if CODECS[name].pixelwise)
THINGS = sorted(name for name in CODECS if not CODECS[name].pixelwise)


@pytest.fixture(params=[*MAPS, "depth as colours"])
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "depth as colours":
        return get_codec("depth", mapping="cube")
    return get_codec(request.param, **OPTIONS.get(request.param, {}))


@pytest.fixture(params=THINGS)
def things(request: pytest.FixtureRequest) -> Codec:
    return get_codec(request.param)


def sample(codec: Codec, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return codec.random_native(*shape, torch.Generator().manual_seed(seed))


def in_8_bits(picture: Tensor) -> Tensor:
    return (picture * 255).round() / 255


def everywhere(shape: tuple[int, int, int] = SHAPE, value: bool = True) -> Tensor:
    return torch.full((1, *shape), value)


def is_picture(picture: Tensor, shape: tuple[int, int, int] = SHAPE) -> bool:
    return (
        picture.shape == (3, *shape)
        and picture.dtype == torch.float32
        and bool(((picture >= 0) & (picture <= 1)).all())  # false for NaN too
    )


@pytest.mark.parametrize("name", sorted(CODECS))
def test_states_what_it_can_hold(name: str) -> None:
    codec = get_codec(name)
    assert CODECS[codec.name] is type(codec)
    assert codec.channels >= 1
    assert codec.bounds[0] < codec.bounds[1]
    assert 0 < codec.tolerance <= codec.tolerance_8bit < codec.bounds[1] - codec.bounds[0]
    assert codec.unit
    assert codec.invalid


def test_random_natives_keep_to_the_bounds(codec: Codec) -> None:
    native = sample(codec)
    assert native.shape == (codec.channels, *SHAPE)
    assert codec.bounds[0] <= float(native.min()) <= float(native.max()) <= codec.bounds[1]
    assert torch.equal(native, sample(codec))
    assert not torch.equal(native, sample(codec, seed=1))


@pytest.mark.parametrize("shape", [SHAPE, (1, 8, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_round_trip(codec: Codec, seed: int, shape: tuple[int, int, int]) -> None:
    native = sample(codec, seed, shape)
    picture = codec.encode(native, everywhere(shape))
    assert is_picture(picture, shape)
    assert picture.is_contiguous()
    decoded = codec.decode(picture)
    assert decoded.shape == native.shape
    assert float((decoded - native).abs().max()) <= codec.tolerance


@pytest.mark.parametrize("seed", range(3))
def test_round_trip_through_8_bits(codec: Codec, seed: int) -> None:
    native = sample(codec, seed)
    picture = (codec.encode(native, everywhere()) * 255).round() / 255
    assert float((codec.decode(picture) - native).abs().max()) <= codec.tolerance_8bit


def test_frames_do_not_mix(codec: Codec) -> None:
    native = sample(codec)
    together = codec.encode(native, everywhere())
    alone = codec.encode(native[:, 1:2], everywhere()[:, 1:2])
    torch.testing.assert_close(together[:, 1:2], alone, rtol=0, atol=0)


def test_all_invalid_is_still_a_picture(codec: Codec) -> None:
    native = sample(codec)
    picture = codec.encode(native, everywhere(value=False))
    assert is_picture(picture)
    assert codec.decode(picture).shape == native.shape
    assert codec.decode(picture).isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("valid", [True, False])
def test_natives_that_are_not_finite_never_reach_the_picture(codec: Codec, bad: float, valid: bool) -> None:
    native = sample(codec)
    spoilt = native.clone()
    spoilt[:, :, 2:5] = bad
    picture = codec.encode(spoilt, everywhere(value=valid))
    assert is_picture(picture)
    untouched = codec.encode(native, everywhere(value=valid))
    assert torch.equal(picture[:, :, 5:], untouched[:, :, 5:])


def test_pictures_outside_the_range_are_clamped(codec: Codec) -> None:
    picture = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2
    torch.testing.assert_close(codec.decode(picture), codec.decode(picture.clamp(0, 1)), rtol=0, atol=0)


def test_natives_outside_the_bounds_are_clamped(codec: Codec) -> None:
    if codec.name == "panoptic":
        pytest.skip("a class without a colour is an error")
    assert is_picture(codec.encode(sample(codec) * 1000, everywhere()))


def test_decoded_values_keep_to_the_bounds(codec: Codec) -> None:
    picture = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    native = codec.decode(picture)
    assert float(native.min()) >= codec.bounds[0] - codec.tolerance
    assert float(native.max()) <= codec.bounds[1] + codec.tolerance


def test_a_blown_up_picture_stays_nan_for_the_metric_to_see(codec: Codec) -> None:
    picture = torch.full((3, *SHAPE), 0.7)
    picture[:, :, 3, 3] = math.nan
    native = codec.decode(picture)
    assert native[:, :, 3, 3].isnan().all()
    assert native[:, :, 4].isfinite().all()


@pytest.mark.parametrize("shape", [ROOMY, (1, 61, 83)])
@pytest.mark.parametrize("seed", range(5))
def test_round_trip_of_things(things: Codec, seed: int, shape: tuple[int, int, int]) -> None:
    native = sample(things, seed, shape)
    assert torch.equal(native, sample(things, seed, shape))
    assert native.isfinite().all()
    picture = things.encode(native, everywhere(shape))
    assert is_picture(picture, shape)
    assert picture.is_contiguous()
    decoded = things.decode(picture)
    assert decoded.shape == native.shape
    assert float((decoded - native).abs().max()) <= things.tolerance
    assert float((things.decode(in_8_bits(picture)) - native).abs().max()) <= things.tolerance_8bit


def test_frames_of_things_do_not_mix(things: Codec) -> None:
    native = sample(things, shape=ROOMY)
    time = native.ndim - 2
    together = things.encode(native, everywhere(ROOMY))
    alone = things.encode(native.narrow(time, 1, 1), everywhere((1, *ROOMY[1:])))
    torch.testing.assert_close(together[:, 1:2], alone, rtol=0, atol=0)
    torch.testing.assert_close(things.decode(alone), things.decode(together).narrow(time, 1, 1), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_things_that_are_not_finite_are_not_drawn(things: Codec, bad: float) -> None:
    native = torch.full_like(sample(things, shape=ROOMY), bad)
    assert not things.encode(native, everywhere(ROOMY)).any()


def test_no_things_where_nothing_is_valid_or_drawn(things: Codec) -> None:
    native = sample(things, shape=ROOMY)
    for picture in (
        things.encode(native, everywhere(ROOMY, value=False)),
        things.encode(native[:0], everywhere(ROOMY)),
    ):
        assert is_picture(picture, ROOMY)
        assert not picture.any()
        assert not things.decode(picture).any()


def test_nan_and_noise_in_a_picture_of_things(things: Codec) -> None:
    native = sample(things, shape=ROOMY)
    picture = things.encode(native, everywhere(ROOMY))
    assert not things.decode(torch.full_like(picture, math.nan)).any()
    holed = picture.clone()
    holed[:, :, ::9, ::7] = math.nan
    assert things.decode(holed).shape == native.shape
    assert things.decode(holed).isfinite().all()
    noise = torch.randn(3, *ROOMY, generator=torch.Generator().manual_seed(0)) * 2
    for picture in (noise, noise.clamp(0, 1)):
        decoded = things.decode(picture)
        assert decoded.ndim == native.ndim
        assert not decoded.isinf().any()
    torch.testing.assert_close(things.decode(noise), things.decode(noise.clamp(0, 1)), rtol=0, atol=0, equal_nan=True)


def test_depth_is_logarithmic() -> None:
    codec = get_codec("depth", near=1.0, far=100.0)
    picture = codec.encode(torch.tensor([1.0, 10.0, 100.0]).reshape(1, 1, 1, 3), torch.ones(1, 1, 1, 3).bool())
    torch.testing.assert_close(picture[0, 0, 0], torch.tensor([0.0, 0.5, 1.0]))
    nothing = torch.tensor([math.inf, math.nan, 0.0]).reshape(1, 1, 1, 3)
    assert (codec.encode(nothing, torch.ones(1, 1, 1, 3).bool()) == 1).all()


@pytest.mark.parametrize(("near", "far"), [(0.1, 80.0), (0.5, 3.0), (1.0, 1000.0), (5, 6)])
def test_depth_tolerance_follows_the_range(near: float, far: float) -> None:
    codec = get_codec("depth", near=near, far=far)
    native = sample(codec)
    picture = codec.encode(native, everywhere())
    assert float((codec.decode(picture) - native).abs().max()) <= codec.tolerance
    rounded = (picture * 255).round() / 255
    assert float((codec.decode(rounded) - native).abs().max()) <= codec.tolerance_8bit


def test_depth_as_colours_is_a_path_from_corner_to_corner() -> None:
    codec = get_codec("depth", near=1.0, far=10.0, mapping="cube")
    depth_m = torch.logspace(0, 1, 8 * 71).view(1, 1, 8, 71)
    picture = codec.encode(depth_m, torch.ones_like(depth_m, dtype=torch.bool))
    path = picture[:, 0].flatten(1).T
    assert path[0].tolist() == [0, 0, 0]
    assert path[-1].tolist() == [1, 0, 0]
    steps = (path[1:] - path[:-1]).abs()
    assert float(steps.sum(1).max()) < 1.5 * 7 / len(path)  # no jumps
    assert bool(((path == 0) | (path == 1)).sum(1).ge(2).all())  # on edges
    noisy = picture + 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    gray = get_codec("depth", near=1.0, far=10.0)
    shades = gray.encode(depth_m, torch.ones_like(depth_m, dtype=torch.bool))
    of_gray = (gray.decode(shades + noisy - picture) / depth_m - 1).abs().mean()
    assert float((codec.decode(noisy) / depth_m - 1).abs().mean()) < 0.5 * float(of_gray)


def test_normals_axes_and_nothing() -> None:
    codec = get_codec("normals")
    axes = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1).reshape(3, 1, 1, 4)
    picture = codec.encode(axes, torch.ones(1, 1, 1, 4).bool())
    assert picture[:, 0, 0, 2].tolist() == [0.5, 0.5, 1.0]  # towards the camera: light blue
    assert picture[:, 0, 0, 3].tolist() == [0.5, 0.5, 0.5]
    gray_8bit = (picture * 255).round() / 255
    torch.testing.assert_close(codec.decode(gray_8bit), axes, rtol=0, atol=codec.tolerance_8bit)
    assert (codec.decode(gray_8bit)[:, 0, 0, 3] == 0).all()
    lengths = codec.decode(torch.rand(3, *SHAPE)).norm(dim=0)
    assert ((lengths - 1).abs() < 1e-5).logical_or(lengths == 0).all()


def test_mask_takes_any_dtype_and_decodes_softly() -> None:
    codec = get_codec("mask")
    truth = torch.tensor([0, 1, 1, 0]).reshape(1, 1, 1, 4)
    valid = torch.tensor([True, True, False, True]).reshape(1, 1, 1, 4)
    for native in (truth, truth.bool(), truth.float()):
        assert codec.decode(codec.encode(native, valid)).flatten().tolist() == [0, 1, 0, 0]
    picture = torch.tensor([0.0, 0.3, 0.9]).reshape(3, 1, 1, 1)
    assert float(codec.decode(picture)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("dept", {}, "did you mean 'depth'"),
        ("quaternion", {}, "depth, flow, identity"),
        ("depth", {"fra": 2.0}, "did you mean 'far'"),
        ("mask", {"far": 2.0}, "no option 'far'"),
        ("depth", {"near": 3.0, "far": 2.0}, "0 < near < far"),
        ("depth", {"near": 0.0}, "0 < near < far"),
        ("depth", {"far": math.inf}, "0 < near < far"),
        ("depth", {"mapping": "rainbow"}, "no mapping 'rainbow'; there are gray, cube"),
        ("flow", {"max_px": 0}, "0 < max_px"),
        ("flow", {"power": 1.5}, "power <= 1"),
        ("palette", {"colours": 0}, "1 to 4096"),
        ("palette", {"margin": 0}, "0 < margin"),
        ("panoptic", {"stuff": (1,), "things": (1,)}, "different class ids"),
        ("panoptic", {"stuff": (), "things": ()}, "different class ids"),
        ("panoptic", {"things": (0,)}, "above 0"),
        ("boxes", {"boxes": 0}, "1 to 256 boxes"),
        ("boxes", {"cleanup": 0}, "cleanup >= 1"),
        ("keypoints", {"parents": ()}, "1 to 128 parents"),
        ("keypoints", {"parents": (-1, 5)}, "number of a joint"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(LavinditError, match=words):
        get_codec(name, **options)
