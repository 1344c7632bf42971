"""Blur of a moving camera: straight, along a smooth random curve, or by averaging the frames of a clip."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lavindit.data.degradations.filters import pixels_per_unit, splat
from lavindit.errors import LavinditError

WAVES = 3
STEPS_PER_PIXEL = 8
GAMMA = 2.2


def camera_path(length_px: float, angle: float, bend: float = 0.0, waves: Tensor | None = None) -> Tensor:
    """Where a point of the scene lies during the exposure, at equal steps of time and speed.

    The direction of motion is angle + g(s), s from 0 to 1 along the path, with g a sum of three cosines scaled to a
    range of `bend`: smooth, and of a known length, unlike the random walks of Boracchi & Foi (IEEE TIP 2012) and
    Kupyn et al. (CVPR 2018, DeblurGAN), whose blur by accumulation along a trajectory it follows.

    Args:
        length_px: Length along the path, in pixels.
        angle: Direction in radians.
        bend: Largest difference of direction along the path, in radians; 0 is a straight line.
        waves: [3] amplitudes of cos(pi s), cos(2 pi s), cos(3 pi s); the m-th is divided by m. None: the first alone.

    Returns:
        Points [N, 2] as (x, y) in pixels; their mean is (0, 0).
    """
    count = max(1, math.ceil(STEPS_PER_PIXEL * length_px))
    s = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    order = torch.arange(1, WAVES + 1, dtype=torch.float64)
    amplitudes = torch.tensor([1.0, 0.0, 0.0]) if waves is None else waves
    turn = torch.cos(math.pi * order * s[:, None]) @ (amplitudes.double() / order)
    spread = turn.max() - turn.min()
    heading = angle + (turn * (bend / spread) if spread > 0 else turn * 0)
    velocity = torch.stack([heading.cos(), heading.sin()], dim=1) * (length_px / count)
    points = velocity.cumsum(0) - velocity / 2
    return points - points.mean(0)


def path_kernel(points: Tensor) -> Tensor:
    """Kernel [k, k], k odd, of a path [N, 2] around (0, 0): the time spent in each pixel, bilinear between pixels.

    It sums to 1, and its centroid is the mean of the points.
    """
    radius = math.ceil(float(points.abs().max()))
    side = 2 * radius + 1
    kernel = splat(points + radius, torch.ones(len(points), dtype=points.dtype), side, side)
    return (kernel / kernel.sum()).float()


def motion_blur(
    picture: Tensor,
    generator: torch.Generator,
    length_px: tuple[float, float] = (5.0, 11.0),
    curved: float = 0.5,
    bend: tuple[float, float] = (math.pi / 3, math.pi),
) -> Tensor:
    """Blur by a camera motion of random length and direction, straight or curved; borders repeat.

    Args:
        picture: [3, T, H, W] in [0, 1]; all frames take the same kernel.
        generator: Source of the motion.
        length_px: Range of the length along the path, for a shorter side of 64.
        curved: Share of curved motions.
        bend: Range of the largest difference of direction along a curved path, in radians.
    """
    draw = torch.rand(4, generator=generator).tolist()
    waves = torch.randn(WAVES, generator=generator)
    length = pixels_per_unit(picture) * (length_px[0] + (length_px[1] - length_px[0]) * draw[0])
    turn = bend[0] + (bend[1] - bend[0]) * draw[2] if draw[3] < curved else 0.0
    kernel = path_kernel(camera_path(length, 2 * math.pi * draw[1], turn, waves))
    return _correlate(picture, kernel.to(picture)).clamp(0, 1)


def average_frames(clip: Tensor, window: int, gamma: float = GAMMA) -> Tensor:
    """Motion blur of a clip [3, T, H, W]: each frame becomes the mean of the `window` frames around it.

    A sensor adds up light, so that frames are averaged in linear light, as Nah et al. (CVPR 2017) made GoPro: values
    to the power `gamma`, mean, and back. The first and last frame repeat beyond the ends.

    Args:
        clip: [3, T, H, W] in [0, 1].
        window: Number of frames, odd; 1 changes nothing.
        gamma: Exponent from values to light; 1 averages the values.

    Raises:
        LavinditError: The window is even or less than 1.
    """
    if window < 1 or window % 2 == 0:
        raise LavinditError(f"a window of {window} frames has no middle; give an odd number of at least 1")
    frames = clip.shape[1]
    around = torch.arange(frames)[:, None] + torch.arange(window) - window // 2
    light = clip.clamp(0, 1) ** gamma
    return light[:, around.clamp(0, frames - 1)].mean(2) ** (1 / gamma)


def _correlate(picture: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every plane of [3, T, H, W] with a kernel [k, k]; borders repeat."""
    radius = kernel.shape[0] // 2
    # By FFT, since kernels grow with pictures.
    planes = F.pad(picture, (radius,) * 4, mode="replicate")
    size = planes.shape[2:]
    product = torch.fft.rfft2(planes) * torch.fft.rfft2(kernel, s=size).conj()
    return torch.fft.irfft2(product, s=size)[:, :, : picture.shape[2], : picture.shape[3]]
