"""Glass blur against the sequential procedure that made ImageNet-C, written out."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.filters import gaussian
from torch import Tensor

from lavindit.data.degradations import gaussian_blur, glass_blur
from lavindit.data.degradations.glass import grain_offsets, scatter
from lavindit.data.world import WorldSource

# Hendrycks & Dietterich's severities: sigma, largest displacement, rounds; pixels.
SEVERITIES = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
SIDE = 64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    source = WorldSource("test", SIDE, 4)
    return [source[index].rgb for index in range(4)]


def visit(pixels: np.ndarray, offsets: np.ndarray, border: int) -> None:
    """One round in place: [H, W, C] and [H, W, 2]; from the bottom right, assigned as the published code does."""
    height, width = pixels.shape[:2]
    for h in range(height - border, border, -1):
        for w in range(width - border, border, -1):
            dx, dy = offsets[h, w]
            pixels[h, w], pixels[h + dy, w + dx] = pixels[h + dy, w + dx], pixels[h, w]


def glass_by_hand(picture: Tensor, sigma: float, delta: int, rounds: list[np.ndarray], levels: int | None) -> Tensor:
    """[3, 1, H, W]; `levels` 255 cuts to 8 bits between blur and displacement, as the published code does."""
    pixels = gaussian(picture[:, 0].permute(1, 2, 0).double().numpy(), sigma=sigma, channel_axis=-1)
    if levels is not None:
        pixels = np.floor(pixels * levels) / levels
    for offsets in rounds:
        visit(pixels, offsets, delta)
    blurred = np.clip(gaussian(pixels, sigma=sigma, channel_axis=-1), 0, 1)
    return torch.from_numpy(blurred).permute(2, 0, 1)[:, None].float()


def psnr(degraded: Tensor, clean: Tensor) -> float:
    return -10 * math.log10(float((degraded - clean).square().mean()))


@pytest.mark.parametrize("shape", [(24, 31), (9, 9), (3, 40), (1, 1)])
@pytest.mark.parametrize(("delta", "rounds"), [(1, 1), (1, 3), (2, 2), (4, 2)])
def test_scatter_is_the_sequential_one(shape: tuple[int, int], delta: int, rounds: int) -> None:
    offsets = grain_offsets(torch.rand(rounds, *shape, 2, generator=seeded(delta)), delta)
    # Indices as pixels of one channel: a view, as colours are in the published code.
    places = np.arange(shape[0] * shape[1]).reshape(*shape, 1)
    for step in offsets.numpy():
        visit(places, step, delta)
    assert scatter(offsets, delta).tolist() == places.flatten().tolist()


def test_offsets_have_the_chances_of_randint() -> None:
    draws = torch.rand(200_000, generator=seeded(0))
    for delta in (1, 2, 4):
        values, counts = grain_offsets(draws, delta).unique(return_counts=True)
        assert values.tolist() == list(range(-delta, delta))
        assert (counts / len(draws)).tolist() == pytest.approx([1 / (2 * delta)] * (2 * delta), abs=0.005)
    assert grain_offsets(torch.tensor([0.0, 1 - 2**-24]), 3.0).tolist() == [-3, 2]
    assert not grain_offsets(draws, 0.0).any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_same_draws_give_the_same_picture(severity: tuple[float, int, int], pictures: list[Tensor]) -> None:
    sigma, delta, rounds = severity
    draws = torch.rand(rounds, SIDE, SIDE, 2, generator=seeded(5))
    steps = list(grain_offsets(draws, delta).numpy())
    ours = glass_blur(pictures[0], seeded(5), sigma, delta, rounds)
    exact = glass_by_hand(pictures[0], sigma, delta, steps, None)
    assert torch.allclose(ours, exact, atol=1e-5)
    # The published code drops up to one of 255 steps, on average a half; the second blur averages that.
    eight_bit = glass_by_hand(pictures[0], sigma, delta, steps, 255)
    assert float((ours - eight_bit).abs().max()) < 1.1 / 255


@pytest.mark.parametrize("severity", SEVERITIES)
def test_own_draws_harm_as_much(severity: tuple[float, int, int], pictures: list[Tensor]) -> None:
    sigma, delta, rounds = severity
    random = np.random.default_rng(1)
    ours, theirs = [], []
    for index, picture in enumerate(pictures):
        steps = [random.integers(-delta, delta, (SIDE, SIDE, 2)) for _ in range(rounds)]
        ours.append(psnr(glass_blur(picture, seeded(index), sigma, delta, rounds), picture))
        theirs.append(psnr(glass_by_hand(picture, sigma, delta, steps, 255), picture))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.3)


@pytest.mark.parametrize(("delta", "rounds"), [(1, 2), (2, 3), (4, 2)])
def test_displacements_are_as_long(delta: int, rounds: int) -> None:
    random = np.random.default_rng(2)
    side = 100
    theirs = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1)
    for _ in range(rounds):
        visit(theirs, random.integers(-delta, delta, (side, side, 2)), delta)
    source = scatter(grain_offsets(torch.rand(rounds, side, side, 2, generator=seeded(3)), delta), delta)
    ours = torch.stack([source // side, source % side], -1).view(side, side, 2).numpy()
    home = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1)
    first, second = (np.sort(np.linalg.norm(places - home, axis=-1).flatten()) for places in (ours, theirs))
    assert first.mean() == pytest.approx(second.mean(), rel=0.04)
    grid = np.unique(np.concatenate([first, second]))
    gap = np.searchsorted(first, grid, "right") - np.searchsorted(second, grid, "right")
    assert np.abs(gap).max() / side**2 < 0.02  # Kolmogorov-Smirnov


@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.7, 1.5, 5.0])
def test_gaussian_blur_is_scipys(sigma: float) -> None:
    picture = torch.rand(3, 2, 16, 23, generator=seeded(0))
    expected = gaussian_filter(picture.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    assert torch.allclose(gaussian_blur(picture, sigma), torch.from_numpy(expected).float(), atol=1e-6)
