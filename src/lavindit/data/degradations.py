"""Degradations of pictures: seeded by a generator, every parameter in pixels stated for a picture of 64.

Lengths scale with the picture's shorter side, so that a degradation looks alike at every resolution.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

REFERENCE_SIDE = 64
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grayscale(picture: Tensor) -> Tensor:
    """Luma of a picture [3, T, H, W], repeated over the three channels."""
    weights = picture.new_tensor(LUMA).view(3, 1, 1, 1)
    return (picture * weights).sum(0, keepdim=True).expand_as(picture).contiguous()


def square_hole(picture: Tensor, generator: torch.Generator, share: float = 0.5, fill: float = 0.5) -> Tensor:
    """Cover a square of `share` of the shorter side, at a random place, with gray `fill`."""
    height, width = picture.shape[2:]
    side = round(share * min(height, width))
    top = int(torch.randint(height - side + 1, (1,), generator=generator))
    left = int(torch.randint(width - side + 1, (1,), generator=generator))
    holed = picture.clone()
    holed[:, :, top : top + side, left : left + side] = fill
    return holed


def motion_kernel(length_px: float, angle: float) -> Tensor:
    """Kernel [k, k] of a uniform linear motion: a segment of `length_px` through the centre at `angle` (radians)."""
    radius = math.ceil(length_px / 2)
    points = torch.linspace(-length_px / 2, length_px / 2, 8 * radius + 1)
    x, y = points * math.cos(angle) + radius, points * math.sin(angle) + radius
    kernel = torch.zeros(2 * radius + 2, 2 * radius + 2)
    x0, y0 = x.floor().long().clamp(0, 2 * radius), y.floor().long().clamp(0, 2 * radius)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - (x - x0 - dx).abs()).clamp(min=0) * (1 - (y - y0 - dy).abs()).clamp(min=0)
            kernel.index_put_((y0 + dy, x0 + dx), weight, accumulate=True)
    kernel = kernel[: 2 * radius + 1, : 2 * radius + 1]
    return kernel / kernel.sum()


def motion_blur(picture: Tensor, generator: torch.Generator, length_px: tuple[float, float] = (5.0, 11.0)) -> Tensor:
    """Blur by a linear motion of random length and angle; lengths for a side of 64, borders repeat."""
    draw = torch.rand(2, generator=generator)
    scale = min(picture.shape[2:]) / REFERENCE_SIDE
    length = scale * (length_px[0] + (length_px[1] - length_px[0]) * float(draw[0]))
    kernel = motion_kernel(length, math.pi * float(draw[1])).to(picture)
    radius = kernel.shape[0] // 2
    channels, frames = picture.shape[:2]
    planes = F.pad(picture.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(planes, kernel[None, None])[:, 0].unflatten(0, (channels, frames)).clamp(0, 1)
