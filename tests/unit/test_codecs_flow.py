"""Optical flow as colour."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lavindit.codecs import FlowCodec

EVERYWHERE = torch.ones(1, 1, 64, 64, dtype=torch.bool)


def uniform(codec: FlowCodec) -> Tensor:
    return codec.random_native(1, 64, 64, torch.Generator().manual_seed(0))


def one(dx: float, dy: float) -> Tensor:
    return torch.tensor([float(dx), float(dy)]).reshape(2, 1, 1, 1)


def through_8_bits(codec: FlowCodec, flow_px: Tensor) -> Tensor:
    picture = codec.encode(flow_px, torch.ones_like(flow_px[:1], dtype=torch.bool))
    return codec.decode((picture * 255).round() / 255)


def test_hues_and_rest() -> None:
    codec = FlowCodec(max_px=32)
    yes = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    torch.testing.assert_close(codec.encode(one(32, 0), yes).flatten(), torch.tensor([1.0, 0.25, 0.25]))
    torch.testing.assert_close(codec.encode(one(0, 0), yes).flatten(), torch.full((3,), 0.5))
    up = codec.encode(one(0, -32), yes).flatten()
    assert up.argmax() == 2
    assert not through_8_bits(codec, one(0, 0)).any()


def test_8_bits_cost_little_and_least_for_small_motions() -> None:
    codec = FlowCodec(max_px=32)
    flow_px = uniform(codec)
    error = (through_8_bits(codec, flow_px) - flow_px).norm(dim=0)
    assert 0.05 < float(error.mean()) < 0.12
    small = flow_px / 32
    assert float((through_8_bits(codec, small) - small).norm(dim=0).mean()) < 0.02
    assert float((through_8_bits(codec, small / 100)).norm(dim=0).max()) < 0.02


def test_long_motions_keep_their_direction() -> None:
    codec = FlowCodec(max_px=5)
    answer = through_8_bits(codec, one(300, -400))
    torch.testing.assert_close(answer, one(3, -4), rtol=0, atol=codec.tolerance_8bit)


def test_invalid_pixels_are_black_and_rest() -> None:
    codec = FlowCodec()
    flow_px = uniform(codec)
    valid = EVERYWHERE.clone()
    valid[..., :8] = False
    flow_px[1, ..., 60:] = math.nan
    picture = codec.encode(flow_px, valid)
    assert not picture[..., :8].any()
    assert not picture[..., 60:].any()
    assert not codec.decode(picture)[..., :8].any()
    known = codec.decode_valid(picture)
    assert torch.equal(known, valid & flow_px.isfinite().all(0, keepdim=True))
    noisy = picture + 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.decode_valid(noisy), known)


def test_decoding_ignores_brightness() -> None:
    codec = FlowCodec(max_px=32)
    flow_px = uniform(codec) / 4  # not at the rim of the cube
    picture = codec.encode(flow_px, EVERYWHERE)
    torch.testing.assert_close(codec.decode(picture + 0.1), codec.decode(picture), rtol=0, atol=1e-3)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_blur_and_noise(power: float) -> None:
    """A smooth field, blurred by 1 px and with noise of 0.02: EPE below 0.9 px, without the root below 1.5 px."""
    codec = FlowCodec(max_px=32, power=power)
    axis = torch.linspace(-1, 1, 64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    flow_px = torch.stack([6 * x + 4 * y, 5 * x * y])[:, None]
    picture = codec.encode(flow_px, EVERYWHERE)[:, 0]
    picture = gaussian_blur(picture, [7, 7], [1.0, 1.0])
    picture += 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    error = float((codec.decode(picture[:, None]) - flow_px).norm(dim=0).mean())
    assert error < (0.9 if power == 0.5 else 1.5)
