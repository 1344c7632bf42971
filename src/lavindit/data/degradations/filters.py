"""What several degradations share: the unit of length, a Gaussian blur, and points drawn between pixels."""

import torch
from torch import Tensor

REFERENCE_SIDE = 64
TRUNCATE = 4.0


def pixels_per_unit(picture: Tensor) -> float:
    """Pixels of this picture [3, T, H, W] in one pixel of a picture whose shorter side is 64."""
    return min(picture.shape[2:]) / REFERENCE_SIDE


def gaussian_blur(picture: Tensor, sigma: float) -> Tensor:
    """Blur [C, T, H, W] by a Gaussian of `sigma` pixels of this picture, cut at 4 sigma; borders repeat.

    The same as `scipy.ndimage.gaussian_filter` with mode "nearest" on each frame.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return picture
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights /= weights.sum()
    down, across = (_band(weights, offsets, size).to(picture) for size in picture.shape[2:])
    return down @ picture @ across.T


def _band(weights: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Matrix [size, size] that filters a row or column; what lies beyond an end counts for the end."""
    columns = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    return weights.new_zeros(size, size).scatter_add_(1, columns, weights.expand_as(columns))


def splat(points: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """Add weighted points to an empty plane, each shared bilinearly by the four pixels around it.

    Args:
        points: [..., N, 2] as (x, y) in pixels; (0, 0) is the centre of the first pixel. What lies outside is lost.
        weights: [..., N].
        height: Rows of the planes.
        width: Columns of the planes.

    Returns:
        Planes [..., height, width].
    """
    # A ring of one pixel, cut off at the end, takes what lies outside.
    x = points[..., 0].clamp(-1, width) + 1
    y = points[..., 1].clamp(-1, height) + 1
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    plane = torch.zeros(*weights.shape[:-1], (height + 3) * (width + 3), dtype=weights.dtype)
    first = (y0 * (width + 3) + x0).long()
    for dy, share_y in ((0, 1 - fy), (1, fy)):
        for dx, share_x in ((0, 1 - fx), (1, fx)):
            plane.scatter_add_(-1, first + dy * (width + 3) + dx, weights * share_y * share_x)
    return plane.unflatten(-1, (height + 3, width + 3))[..., 1 : height + 1, 1 : width + 1]
