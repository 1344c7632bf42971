"""Glass blur of Hendrycks & Dietterich (ICLR 2019, "Benchmarking Neural Network Robustness", ImageNet-C).

Blur, scatter pixels among their neighbours for some rounds, blur again. The published code visits pixels in raster
order from the bottom right and means to swap each with a random neighbour. It swaps NumPy views, so that the pixel
takes its neighbour's colour and the neighbour keeps it. ImageNet-C was made so, and this module does the same.
"""

import math

import torch
from torch import Tensor

from lavindit.data.degradations.filters import gaussian_blur, pixels_per_unit


def glass_blur(
    picture: Tensor,
    generator: torch.Generator,
    sigma_px: float = 0.9,
    max_delta_px: float = 2.0,
    rounds: int = 1,
    grain_px: float = 1.0,
) -> Tensor:
    """See a picture through frosted glass.

    Args:
        picture: [3, T, H, W] in [0, 1]; all frames are scattered alike.
        generator: Source of the displacements; their number depends on the number of grains.
        sigma_px: Deviation of the Gaussian before and after.
        max_delta_px: Displacements per round are uniform over the whole grains of [-max_delta_px, max_delta_px).
        rounds: How often every grain is displaced.
        grain_px: Side of the grains that move as one, at least a pixel of this picture. Lengths are for a shorter
            side of 64: severities of ImageNet-C, which are for 224, take 64/224 here and for each unit of length.
    """
    scale = pixels_per_unit(picture)
    height, width = picture.shape[2:]
    grain = max(1.0, grain_px * scale)
    rows, columns = max(1, round(height / grain)), max(1, round(width / grain))
    draws = torch.rand(rounds, rows, columns, 2, generator=generator)
    max_delta = max_delta_px * scale / grain
    source = scatter(grain_offsets(draws, max_delta), math.ceil(max_delta)).view(rows, columns)
    blurred = gaussian_blur(picture, sigma_px * scale)
    scattered = blurred.flatten(2)[:, :, _pixels_of(source, height, width)].view_as(picture)
    return gaussian_blur(scattered, sigma_px * scale).clamp(0, 1)


def grain_offsets(draws: Tensor, max_delta: float) -> Tensor:
    """Whole numbers of [-max_delta, max_delta) from uniform draws in [0, 1).

    A whole `max_delta` gives each of -max_delta ... max_delta - 1 the same chance, as NumPy's `randint` does; between
    whole numbers, the outermost get the chance that is left.
    """
    offsets = (2 * max_delta * draws - max_delta).floor().long()
    return offsets.clamp(max=max(0, math.ceil(max_delta) - 1))


def scatter(offsets: Tensor, border: int) -> Tensor:
    """Where each pixel's colour comes from when pixels take a neighbour's colour one after the other.

    Visiting pixels from the bottom right, each takes the colour that its neighbour has at that time. If the
    neighbour was visited before, that is the colour of the neighbour's neighbour, and so on: a chain of links. All
    chains are followed at once, in doubling steps, so that the result equals the sequential one exactly.

    Args:
        offsets: [rounds, H, W, 2], whole (dx, dy), none larger than `border`.
        border: As in the published code, rows and columns up to this index, and those after the size minus it, are
            not visited.

    Returns:
        Indices [H * W] into the flat picture before the first round.
    """
    _, height, width, _ = offsets.shape
    visited = torch.zeros(height, width, dtype=torch.bool)
    visited[border + 1 : height - border + 1, border + 1 : width - border + 1] = True
    visited = visited.flatten()
    count = height * width
    place = torch.arange(count)
    source = place
    for step in offsets.flatten(1, 2):
        taken = torch.where(visited, place + step[:, 1] * width + step[:, 0], place)
        changed_before = visited[taken] & (taken > place)
        # Nodes 0 ... count - 1 are colours after the visit, the rest colours before the round, where chains end.
        link = torch.cat([torch.where(changed_before, taken, taken + count), place + count])
        while not torch.equal(jumped := link[link], link):
            link = jumped
        source = source[link[:count] - count]
    return source


def _pixels_of(source: Tensor, height: int, width: int) -> Tensor:
    """Flat source index of every pixel [H * W] from that of every grain [rows, columns]."""
    rows, columns = source.shape
    row = torch.arange(height) * rows // height
    column = torch.arange(width) * columns // width
    down = ((source // columns - torch.arange(rows)[:, None]) * (height / rows)).round().long()
    right = ((source % columns - torch.arange(columns)) * (width / columns)).round().long()
    y = (torch.arange(height)[:, None] + down[row][:, column]).clamp(0, height - 1)
    x = (torch.arange(width) + right[row][:, column]).clamp(0, width - 1)
    return (y * width + x).flatten()
