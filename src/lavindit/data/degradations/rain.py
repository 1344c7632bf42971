"""Rain: streaks in depth layers over a veil.

Formation: O = 1 - (1 - V) (1 - S_1) ... (1 - S_n), with V = (1 - a) B + a A. B is the picture, A the airlight and a
the opacity of the veil, in which far drops add up (the scattering model with accumulated streaks of Yang et al., CVPR
2017, and Li et al., CVPR 2019, "Heavy Rain Image Restoration"). The streak layers S are joined by screen blend (Luo et
al., ICCV 2015): a streak hides some of what lies behind it and adds light, less where the picture is bright already.
Streaks are drops drawn out by the exposure (Garg & Nayar, IJCV 2007, "Vision and Rain").
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.data.degradations.filters import REFERENCE_SIDE, TRUNCATE, gaussian_blur, pixels_per_unit, splat

AIRLIGHT = 0.85
POINTS_PER_PIXEL = 2
SHUTTER = 0.5
LENGTH_SPREAD = 0.3


@dataclass(frozen=True)
class RainLayer:
    """Drops at one distance; lengths in pixels of a picture whose shorter side is 64.

    Args:
        drops: Mean number in a picture of 64 x 64.
        length_px: Mean length of a streak; a drop moves twice as far from one frame to the next, as the shutter is
            open for half of the time.
        width_px: Deviation of the Gaussian across a streak in focus.
        defocus_px: Deviation of the lens's blur, which widens a streak and spreads its light.
    """

    drops: float
    length_px: float
    width_px: float
    defocus_px: float


# Twice as near: twice as large and fast, a quarter as many, and further out of focus.
LAYERS = (
    RainLayer(64, 6.0, 0.25, 0.0),
    RainLayer(16, 12.0, 0.5, 0.25),
    RainLayer(4, 24.0, 1.0, 0.75),
)


def rain(
    picture: Tensor,
    generator: torch.Generator,
    layers: tuple[RainLayer, ...] = LAYERS,
    brightness: tuple[float, float] = (0.25, 0.7),
    veil: tuple[float, float] = (0.05, 0.15),
    tilt_deg: float = 30.0,
    jitter_deg: float = 3.0,
) -> Tensor:
    """Let it rain on a picture; in a clip drops fall from frame to frame.

    Args:
        picture: [3, T, H, W] in [0, 1].
        generator: Source of the rain; the number of draws depends on the aspect ratio, not on the size or on T.
        layers: From far to near.
        brightness: Range of the opacity at the core of a streak in focus, drawn for each.
        veil: Range of the opacity of the veil, drawn once.
        tilt_deg: Largest angle between the rain and the vertical, drawn once.
        jitter_deg: Deviation of each drop's angle from it.
    """
    opacity, tilt = torch.rand(2, generator=generator).tolist()
    opacity = veil[0] + (veil[1] - veil[0]) * opacity
    tilt = math.radians(tilt_deg * (2 * tilt - 1))
    rainy = picture + opacity * (AIRLIGHT - picture)
    for layer in layers:
        streaks = _streaks(layer, picture, generator, brightness, tilt, math.radians(jitter_deg))
        rainy = rainy + streaks.clamp(0, 1) * (1 - rainy)
    return rainy.clamp(0, 1)


def _streaks(
    layer: RainLayer,
    picture: Tensor,
    generator: torch.Generator,
    brightness: tuple[float, float],
    tilt: float,
    jitter: float,
) -> Tensor:
    """Opacity [1, T, H, W] of a layer; sums of crossing streaks may pass 1."""
    frames, height, width = picture.shape[1:]
    scale = pixels_per_unit(picture)
    longest = layer.length_px * (1 + LENGTH_SPREAD)
    sigma = math.hypot(layer.width_px, layer.defocus_px)
    # Beyond this margin no streak reaches into the picture, so that drops can leave and enter there unseen.
    margin = longest + TRUNCATE * sigma
    area = torch.tensor([width / scale + 2 * margin, height / scale + 2 * margin])
    count = round(layer.drops * float(area.prod()) / REFERENCE_SIDE**2)
    start = torch.rand(count, 2, generator=generator) * area
    vary, shine = torch.rand(2, count, generator=generator)
    angle = tilt + jitter * torch.randn(count, generator=generator)
    length = layer.length_px * (1 + LENGTH_SPREAD * (2 * vary - 1))
    motion = torch.stack([angle.sin(), angle.cos()], 1) * length[:, None]

    time = torch.arange(frames)[:, None, None] / SHUTTER
    head = (start + time * motion).remainder(area) - margin
    steps = max(2, math.ceil(POINTS_PER_PIXEL * longest * scale))
    along = (torch.arange(steps) + 0.5) / steps
    points = (head[:, :, None] - along[:, None] * motion[:, None]) * scale - 0.5

    # The light across a streak is that of a Gaussian of `width_px`, however wide it is drawn.
    light = (brightness[0] + (brightness[1] - brightness[0]) * shine) * layer.width_px * math.sqrt(2 * math.pi)
    fade = 1 - (2 * along - 1) ** 4
    weights = (light * length * scale**2)[:, None] * fade / steps
    pad = math.ceil(TRUNCATE * sigma * scale) + 1
    weights = weights.expand(frames, count, steps).flatten(1)
    planes = splat(points.flatten(1, 2) + pad, weights, height + 2 * pad, width + 2 * pad)
    return gaussian_blur(planes[None], sigma * scale)[:, :, pad : pad + height, pad : pad + width].to(picture)
