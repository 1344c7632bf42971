"""Outlines and run lengths of COCO to masks.

COCO stores a mask as polygons, as run lengths down the columns (first 0s, then 1s, and so on), or as such run lengths
packed into a string. The rules are those of COCO's own mask API (Lin and Dollar, maskApi.c, pycocotools 2.0), so that
masks are the same to the pixel.

Shape legend: H W pixels, P points, N runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SUBPIXELS = 5
"""Edges are followed on a grid this much finer than the pixels."""

FARTHEST_PX = 1e5
"""Coordinates beyond it come from a broken file, and would take gigabytes to follow."""

_FIRST_CHARACTER, _VALUE_BITS, _MORE, _NEGATIVE = 48, 5, 0x20, 0x10


def segmentation_mask(segmentation: Any, height: int, width: int) -> Mask:
    """The mask of an annotation's `segmentation`: bool [H, W].

    Args:
        segmentation: Polygons as a list of x, y, x, y, ... (a pixel in any of them is in the mask), or a dict with
            `size` (H, W) and `counts`, a list of run lengths or the packed string.
        height: H of its picture.
        width: W of its picture.

    Raises:
        ValueError: It is neither, or does not fit the picture.
    """
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != [height, width]:
            raise ValueError(f"its run lengths are for {segmentation.get('size')} (H, W), not [{height}, {width}]")
        counts = segmentation.get("counts")
        return runs_mask(unpack_runs(counts) if isinstance(counts, str | bytes) else counts, height, width)
    mask = np.zeros((height, width), dtype=bool)
    for polygon in segmentation:
        mask |= polygon_mask(polygon, height, width)
    return mask


def runs_mask(counts: Sequence[int] | NDArray[np.int64] | None, height: int, width: int) -> Mask:
    """The mask of N run lengths, down the columns, beginning with 0s: bool [H, W].

    Raises:
        ValueError: There are none, one is negative, or they do not add up to H x W.
    """
    runs = np.asarray([] if counts is None else counts)
    if runs.ndim != 1 or not len(runs) or runs.dtype.kind not in "iu" or runs.min() < 0:
        raise ValueError("its run lengths are not a list of whole numbers of 0 or more")
    if runs.sum() != height * width:
        raise ValueError(f"its run lengths add up to {runs.sum()} pixels, not {height} x {width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def unpack_runs(packed: str | bytes) -> NDArray[np.int64]:
    """The run lengths [N] in a packed string.

    Each number takes characters of 5 bits from "0" on, lowest bits first; a sixth bit says that more follow, and the
    fifth bit of the last one that it is negative. From the fourth on, a number is the difference to the last but one.

    Raises:
        ValueError: It has characters out of range, or ends within a number.
    """
    codes = packed.encode("ascii", "replace") if isinstance(packed, str) else packed
    runs: list[int] = []
    value = bits = 0
    for code in codes:
        group = code - _FIRST_CHARACTER
        if not 0 <= group < 2 * _MORE:
            raise ValueError(f"its packed run lengths hold the character {chr(code)!r}")
        value |= (group & (_MORE - 1)) << bits
        bits += _VALUE_BITS
        if group & _MORE:
            continue
        if group & _NEGATIVE:
            value -= 1 << bits
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = bits = 0
    if bits:
        raise ValueError("its packed run lengths end within a number")
    return np.asarray(runs, dtype=np.int64)


def polygon_mask(polygon: Sequence[float] | NDArray[np.float64], height: int, width: int) -> Mask:
    """The inside of a polygon: bool [H, W].

    The outline is followed on a grid five times as fine. Where it passes the centre line of a column of pixels, the
    pixels below change sides; a pixel that changed sides an odd number of times is inside.

    Args:
        polygon: x, y, x, y, ... of P >= 3 points in pixels, 0 being the left or upper edge of the first pixel.
        height: H of its picture.
        width: W of its picture.

    Raises:
        ValueError: Fewer points, half a point, or coordinates that no picture has.
    """
    flat = np.asarray(polygon, dtype=np.float64)
    if flat.ndim != 1 or len(flat) < 6 or len(flat) % 2:
        raise ValueError("a polygon of it is not the x, y, x, y, ... of three points or more")
    if not (np.abs(flat) <= FARTHEST_PX).all():
        raise ValueError(f"a polygon of it has coordinates that are not numbers within {FARTHEST_PX:g} pixels")
    x, y = _follow(np.trunc(SUBPIXELS * flat.reshape(-1, 2) + 0.5).astype(np.int64))
    step = np.flatnonzero(x[1:] != x[:-1])
    column = (np.minimum(x[step], x[step + 1]) + 0.5) / SUBPIXELS - 0.5
    row = (np.minimum(y[step], y[step + 1]) + 0.5) / SUBPIXELS - 0.5
    counts = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    first = np.ceil(np.clip(row[counts], 0, height)).astype(np.int64)
    mask = np.zeros(height * width, dtype=bool)
    if len(first):
        # A closed outline passes every centre line an even number of times: nothing is inside before or after.
        changes = column[counts].astype(np.int64) * height + first
        begin, end = changes.min(), changes.max()
        mask[begin:end] = np.cumsum(np.bincount(changes - begin))[:-1] % 2 == 1
    return mask.reshape(width, height).T


def _follow(corners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Grid points along a closed outline of P corners [P, 2], in order: x and y.

    Each edge takes a step along its longer side at a time. It is always computed from its left or upper end, so that
    two polygons that share an edge share its points.
    """
    edges = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    edges = edges[(edges[:, :2] != edges[:, 2:]).any(axis=1)]
    start, end = edges[:, :2], edges[:, 2:]
    span = np.abs(end - start)
    # The axis that is stepped along; x where both are equal.
    axis = (span[:, 1] > span[:, 0]).astype(np.int64)
    number = np.arange(len(edges))
    backwards = start[number, axis] > end[number, axis]
    low = np.where(backwards[:, None], end, start)
    rise = np.where(backwards[:, None], start - end, end - start)
    length = span[number, axis]
    slope = rise[number, 1 - axis] / length
    edge = np.repeat(number, length + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    place = np.where(backwards[edge], length[edge] - place, place)
    points = np.empty((len(edge), 2), dtype=np.int64)
    rows = np.arange(len(edge))
    points[rows, axis[edge]] = low[edge, axis[edge]] + place
    points[rows, 1 - axis[edge]] = np.trunc(low[edge, 1 - axis[edge]] + slope[edge] * place + 0.5)
    return points[:, 0], points[:, 1]
