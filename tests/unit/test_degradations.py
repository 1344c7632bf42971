"""Degradations: what all of them promise, and what each of them draws."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate
from torch import Tensor

from lavindit.data.degradations import (
    average_frames,
    camera_path,
    find_holes,
    glass_blur,
    grayscale,
    motion_blur,
    path_kernel,
    rain,
    square_hole,
)
from lavindit.data.degradations.filters import splat
from lavindit.data.degradations.rain import LAYERS, RainLayer
from lavindit.data.world import WorldSource
from lavindit.errors import LavinditError

Degradation = Callable[[Tensor, torch.Generator], Tensor]
SEEDED: dict[str, Degradation] = {
    "glass": glass_blur,
    "motion": motion_blur,
    "rain": rain,
    "hole": square_hole,
}
WEATHER = pytest.mark.parametrize("name", ["glass", "motion", "rain"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blocks(height: int, width: int, frames: int = 1, seed: int = 0) -> Tensor:
    """Flat cells of random colours, some of them black or white: edges, and both ends of the range."""
    cells = (1.5 * torch.rand(3, frames, 8, 8, generator=seeded(seed)) - 0.25).clamp(0, 1)
    return F.interpolate(cells, (height, width), mode="nearest")


def shrink(picture: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(picture.transpose(0, 1), factor).transpose(0, 1)


def psnr(degraded: Tensor, clean: Tensor) -> float:
    return -10 * math.log10(float((degraded - clean).square().mean()))


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 48, 100), (1, 75, 33), (5, 32, 32), (1, 16, 16), (1, 5, 9)])
def test_gives_a_picture_of_the_same_shape(name: str, shape: tuple[int, int, int]) -> None:
    frames, height, width = shape
    picture = blocks(height, width, frames)
    before = picture.clone()
    for seed in range(3):
        degraded = SEEDED[name](picture, seeded(seed))
        assert degraded.shape == picture.shape
        assert degraded.dtype == torch.float32
        assert bool(((degraded >= 0) & (degraded <= 1)).all())  # false for NaN too
        assert not torch.equal(degraded, picture)
    assert torch.equal(picture, before)


@pytest.mark.parametrize("name", SEEDED)
def test_depends_on_the_seed_alone(name: str) -> None:
    picture = blocks(40, 40)
    first, again, other = (SEEDED[name](picture, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["glass", "motion", "hole"])
def test_frames_of_a_clip_share_one_draw(name: str) -> None:
    clip = blocks(32, 32).expand(-1, 5, -1, -1)
    degraded = SEEDED[name](clip, seeded(4))
    assert torch.allclose(degraded, degraded[:, :1].expand_as(degraded), atol=1e-6)
    assert torch.allclose(degraded[:, :1], SEEDED[name](clip[:, :1], seeded(4)), atol=1e-6)


def test_zero_strength_changes_nothing() -> None:
    picture = blocks(32, 40, frames=5)
    nothing = (0.0, 0.0)
    assert torch.equal(rain(picture, seeded(), brightness=nothing, veil=nothing), picture)
    assert torch.equal(rain(picture, seeded(), layers=(), veil=nothing), picture)
    assert torch.equal(glass_blur(picture, seeded(), sigma_px=0, max_delta_px=0), picture)
    assert torch.equal(glass_blur(picture, seeded(), sigma_px=0, rounds=0), picture)
    assert torch.allclose(motion_blur(picture, seeded(), length_px=nothing), picture, atol=1e-6)
    assert torch.allclose(average_frames(picture, 1), picture, atol=1e-6)


@WEATHER
@pytest.mark.parametrize("factor", [2, 4])
def test_looks_alike_at_every_resolution(name: str, factor: int) -> None:
    small, large = blocks(64, 64), blocks(64 * factor, 64 * factor)
    for seed in range(3):
        degraded = SEEDED[name](small, seeded(seed))
        agreement = psnr(shrink(SEEDED[name](large, seeded(seed)), factor), degraded)
        assert agreement > psnr(degraded, small) + 8
        assert psnr(SEEDED[name](large, seeded(seed)), large) == pytest.approx(psnr(degraded, small), abs=1.5)


def test_harms_the_world_as_documented() -> None:
    source = WorldSource("test", 64, 16)
    for name, expected in (("rain", 22.5), ("glass", 21.2), ("motion", 22.4)):
        figures = [psnr(SEEDED[name](source[i].rgb, seeded(i)), source[i].rgb) for i in range(16)]
        assert sum(figures) / len(figures) == pytest.approx(expected, abs=1.0)


# Glass


def test_glass_moves_colours_and_makes_none() -> None:
    picture = torch.rand(3, 1, 32, 32, generator=seeded())
    scattered = glass_blur(picture, seeded(), sigma_px=0, max_delta_px=4)
    known = {tuple(colour) for colour in picture.flatten(1).T.tolist()}
    assert {tuple(colour) for colour in scattered.flatten(1).T.tolist()} < known


def test_grains_move_as_one() -> None:
    cells = torch.rand(3, 1, 16, 16, generator=seeded())
    picture = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)  # 128 px: a grain of 4 has 8
    scattered = glass_blur(picture, seeded(), sigma_px=0, max_delta_px=8, grain_px=4)
    assert not torch.equal(scattered, picture)
    assert torch.equal(scattered, scattered[:, :, ::8, ::8].repeat_interleave(8, 2).repeat_interleave(8, 3))


# Motion


def centroid(kernel: Tensor) -> list[float]:
    ticks = torch.arange(kernel.shape[0]) - kernel.shape[0] // 2
    return [float((kernel.sum(0) * ticks).sum()), float((kernel.sum(1) * ticks).sum())]


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 7.5, 40.0])
@pytest.mark.parametrize("bend", [0.0, 1.0, math.pi])
def test_kernels_sum_to_one_and_are_centred(length: float, bend: float) -> None:
    for seed in range(4):
        waves = torch.randn(3, generator=seeded(seed))
        kernel = path_kernel(camera_path(length, 0.7 + seed, bend, waves))
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert float(kernel.min()) >= 0
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert centroid(kernel) == pytest.approx([0, 0], abs=1e-4)


def test_paths_have_the_length_and_the_bend_that_are_asked_for() -> None:
    for seed in range(5):
        points = camera_path(12.0, 1.0, 2.0, torch.randn(3, generator=seeded(seed)))
        steps = points.diff(dim=0)
        assert float(steps.norm(dim=1).sum()) == pytest.approx(12.0, rel=0.03)
        direction = torch.atan2(steps[:, 1], steps[:, 0]) - 1.0
        turn = torch.atan2(direction.sin(), direction.cos())
        assert float(turn.max() - turn.min()) == pytest.approx(2.0, rel=0.05)


def test_a_straight_path_is_a_uniform_segment() -> None:
    kernel = path_kernel(camera_path(9.0, 0.0))
    middle = kernel.shape[0] // 2
    ninths = [0.125, 0.875, *[1.0] * 7, 0.875, 0.125]  # the ends at 4.5 px, shared bilinearly
    assert (9 * kernel[middle]).tolist() == pytest.approx(ninths, abs=0.01)
    assert float(kernel.sum() - kernel[middle].sum()) == pytest.approx(0, abs=1e-6)
    points = camera_path(9.0, math.pi / 2)
    assert float(points[:, 0].abs().max()) < 1e-6
    assert float(points[:, 1].var(correction=0)) == pytest.approx(9**2 / 12, rel=0.01)
    assert path_kernel(camera_path(0.0, 1.0)).tolist() == [[1.0]]


@pytest.mark.parametrize("curved", [0.0, 1.0])
def test_motion_blur_is_a_correlation_with_its_kernel(curved: float) -> None:
    draw = torch.rand(4, generator=(generator := seeded(3))).tolist()
    waves = torch.randn(3, generator=generator)
    bend = (math.pi / 3 + 2 * math.pi / 3 * draw[2]) * curved
    kernel = path_kernel(camera_path(0.75 * (5 + 6 * draw[0]), 2 * math.pi * draw[1], bend, waves))
    picture = blocks(48, 60)
    expected = correlate(picture.numpy(), kernel[None, None].numpy(), mode="nearest")
    assert torch.allclose(motion_blur(picture, seeded(3), curved=curved), torch.from_numpy(expected), atol=1e-5)


def test_motion_is_straight_or_curved_with_equal_chances() -> None:
    picture = blocks(24, 24)
    straight = 0
    for seed in range(100):
        either = motion_blur(picture, seeded(seed))
        is_straight = torch.equal(either, motion_blur(picture, seeded(seed), curved=0.0))
        assert is_straight or torch.equal(either, motion_blur(picture, seeded(seed), curved=1.0))
        straight += is_straight
    assert 35 <= straight <= 65


def test_blur_leaves_flat_pictures_as_they_are() -> None:
    flat = torch.full((3, 1, 20, 30), 0.3)
    assert torch.allclose(motion_blur(flat, seeded()), flat, atol=1e-6)
    assert torch.allclose(glass_blur(flat, seeded()), flat, atol=1e-6)
    assert torch.allclose(average_frames(flat.expand(-1, 5, -1, -1), 3), flat.expand(-1, 5, -1, -1), atol=1e-6)


def test_frames_are_averaged_in_linear_light() -> None:
    clip = torch.zeros(3, 5, 1, 5)
    clip[:, range(5), 0, range(5)] = 1  # a dot that moves one pixel a frame
    assert average_frames(clip, 3, gamma=1.0)[0, 2, 0].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])
    third = (1 / 3) ** (1 / 2.2)
    assert average_frames(clip, 3)[0, 2, 0].tolist() == pytest.approx([0, third, third, third, 0])
    # Before the first frame stands the first frame.
    assert average_frames(clip, 3, gamma=1.0)[0, 0, 0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    assert average_frames(clip, 99).shape == clip.shape


@pytest.mark.parametrize("window", [0, -3, 4])
def test_a_window_without_a_middle_is_refused(window: int) -> None:
    with pytest.raises(LavinditError, match=f"window of {window} frames"):
        average_frames(torch.zeros(3, 5, 4, 4), window)


# Rain


def test_rain_is_streaks_over_a_veil() -> None:
    picture = blocks(64, 64)
    veiled = rain(picture, seeded(), layers=(), veil=(0.2, 0.2))
    assert torch.allclose(veiled, 0.8 * picture + 0.2 * 0.85, atol=1e-6)
    # Screen blend: the same opacity everywhere, whatever lies behind.
    black, white, gray = (rain(torch.full_like(picture, v), seeded(2), veil=(0.0, 0.0)) for v in (0.0, 1.0, 0.5))
    assert torch.allclose(gray, 1 - 0.5 * (1 - black), atol=1e-6)
    assert torch.equal(white, torch.ones_like(white))
    assert 0.02 < float(black.mean()) < 0.3


@pytest.mark.parametrize("tilt", [-40.0, 0.0, 40.0])
def test_streaks_follow_one_angle(tilt: float) -> None:
    """The smaller axis of the structure tensor lies along the streaks."""
    black = torch.zeros(3, 1, 192, 192)
    found = []
    for seed in range(12):
        picture = rain(black, seeded(seed), LAYERS[1:], veil=(0.0, 0.0), tilt_deg=tilt)[0, 0]
        drawn = math.radians(tilt * (2 * float(torch.rand(2, generator=seeded(seed))[1]) - 1))
        dy, dx = torch.gradient(picture)
        angle = 0.5 * torch.atan2(2 * (dx * dy).sum(), (dx * dx).sum() - (dy * dy).sum())
        found.append(abs(math.degrees(float(angle) + drawn)))
    assert max(found) < 4


def test_a_streak_has_the_length_width_and_brightness_that_are_asked_for() -> None:
    layer = RainLayer(drops=0.2, length_px=20.0, width_px=1.0, defocus_px=0.0)
    black = torch.zeros(3, 1, 128, 128)
    peaks, sums = [], []
    for seed in range(120):
        picture = rain(black, seeded(seed), (layer,), (0.5, 0.5), (0.0, 0.0), 0.0, 0.0)[0, 0]
        rows = picture.sum(1)
        if rows[0] == 0 and rows[-1] == 0 and picture[:, 0].sum() == picture[:, -1].sum() == 0 and rows.sum() > 0:
            peaks.append(float(picture.max()))
            sums.append(float(picture.sum()))
    assert len(peaks) > 5
    assert peaks == pytest.approx([0.5] * len(peaks), rel=0.1)
    # Mean over the fading ends of a streak of 40 px, 2 px wide (deviation), between 0.7 and 1.3 of that.
    full = 0.5 * 40 * 2 * math.sqrt(2 * math.pi) * 0.8
    assert 0.69 * full < min(sums) < max(sums) < 1.31 * full


def test_near_layers_are_longer_thicker_blurrier_and_fewer() -> None:
    for far, near in pairwise(LAYERS):
        assert near.length_px > far.length_px
        assert near.width_px > far.width_px
        assert near.defocus_px > far.defocus_px
        assert near.drops < far.drops


def test_drops_fall_along_their_streaks() -> None:
    layer = RainLayer(drops=1, length_px=4.0, width_px=1.0, defocus_px=0.0)
    black = torch.zeros(3, 9, 64, 64)
    tracks = 0
    for seed in range(20):
        clip = rain(black, seeded(seed), (layer,), (0.5, 0.5), (0.0, 0.0), 0.0, 0.0)[0]
        inside = [i for i in range(9) if clip[i].sum() > 0 and clip[i, [0, 1, -2, -1]].sum() == 0]
        weights = clip / clip.sum((1, 2), keepdim=True)
        rows = (weights.sum(2) * torch.arange(64)).sum(1)
        columns = (weights.sum(1) * torch.arange(64)).sum(1)
        falls = [float(rows[j] - rows[i]) for i, j in pairwise(inside) if j == i + 1]
        if len(falls) < 3:
            continue
        tracks += 1
        assert float(columns[inside].std()) < 0.05
        assert falls == pytest.approx([falls[0]] * len(falls), abs=0.05)
        assert 8 * 0.7 <= falls[0] <= 8 * 1.3  # the shutter is open for half of the time
    assert tracks > 5


def test_rain_does_not_thin_out() -> None:
    clip = rain(torch.zeros(3, 33, 32, 48), seeded(), veil=(0.0, 0.0))
    light = clip.mean((0, 2, 3))
    assert float(light[-8:].mean()) == pytest.approx(float(light[:8].mean()), rel=0.2)
    assert not torch.equal(clip[:, 0], clip[:, 1])


# Shared, and what was there before


def test_splat_shares_a_point_between_four_pixels() -> None:
    points = torch.tensor([[1.25, 0.5], [-0.5, 0.0], [7.0, 1.0], [1.0, -9.0]])
    plane = splat(points, torch.tensor([1.0, 2.0, 1.0, 1.0]), 2, 3)
    assert plane.tolist() == [[1.0, 0.375, 0.125], [0.0, 0.375, 0.125]]


def test_gray_is_luma() -> None:
    picture = torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1, 1)
    assert grayscale(picture).flatten().tolist() == pytest.approx([0.299 + 0.2935 + 0.0285] * 3)


def test_holes_are_squares_of_half_the_side() -> None:
    holed = square_hole(torch.ones(3, 1, 20, 31), seeded())
    rows, columns = (holed[0, 0] == 0.5).nonzero().unbind(1)
    assert len(rows) == 100
    assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 9


class TestFindHoles:
    @pytest.mark.parametrize("clip", [1, 3])
    def test_what_was_covered_is_found(self, clip: int) -> None:
        picture = torch.rand(3, clip, 40, 56, generator=seeded())
        holed = square_hole(picture, seeded())
        assert torch.equal(find_holes(holed), (holed != picture).any(0, keepdim=True))
        in_a_file = (holed * 255).round() / 255
        assert torch.equal(find_holes(in_a_file), find_holes(holed))

    def test_at_the_edge(self) -> None:
        picture = torch.zeros(3, 1, 20, 20)
        picture[..., 12:, :7] = 0.5
        assert torch.equal(find_holes(picture), picture[:1] == 0.5)

    def test_single_gray_pixels_are_none(self) -> None:
        picture = torch.rand(3, 1, 20, 20, generator=seeded())
        picture[..., 3:7, 5:16] = 0.5
        assert not find_holes(picture).any()
        assert not find_holes(torch.full((3, 1, 4, 4), 0.5)).any()
