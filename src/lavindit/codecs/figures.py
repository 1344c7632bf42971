"""Skeletons told apart along their limbs, whether they touch or not.

The idea of following limbs is that of Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity
Fields", CVPR 2017; here the limbs are drawn, so their pixels are looked at.

Shape legend: H W pixels; a blob is a connected region of one joint's colour.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Share of a limb that must lie on drawn pixels. From 0.3 to 0.7 COCO's people come out the same, blurred ones too; at
# 0.9 a limb whose joint's disc was cut, and so seems to lie a little beside it, is lost.
DRAWN = 0.5
# A figure of fewer is a stray spot, unless there is nothing larger.
FEWEST_JOINTS = 3

Figure = dict[int, "Blob"]


class Blob(NamedTuple):
    """The pixels (row, column) of a joint, int64 [P, 2], and their centroid."""

    pixels: np.ndarray
    centre: np.ndarray


def take_apart(
    labels: Tensor,
    joints: int,
    first_joint: int,
    radius: float,
    joined_to: Callable[[int, Sequence[bool]], int | None],
) -> list[Tensor]:
    """The figures of a picture, which may touch.

    Joints are added in order. Each blob goes to the figure whose limb to it, as it would be drawn, is on drawn pixels;
    of several the sum of drawn shares decides. A blob without a figure begins one.

    Args:
        labels: int64 [H, W]: 0 nothing, from `first_joint` on the joints, anything else limbs.
        joints: How many there are.
        first_joint: Label of joint 0.
        radius: Of a joint's disc in px.
        joined_to: Of a joint, and of which joints a figure has: where the joint's limb leads.

    Returns:
        Masks [H, W] of the figures' joints; none where no colour is there twice.
    """
    drawn = labels.numpy()
    blobs = [_blobs(drawn == first_joint + joint, radius) for joint in range(joints)]
    if max(map(len, blobs)) < 2:
        return []
    figures: list[Figure] = []
    for joint, found in enumerate(blobs):
        shares = np.zeros((len(found), len(figures)))
        for column, figure in enumerate(figures):
            other = joined_to(joint, [place in figure or place == joint for place in range(joints)])
            for row, blob in enumerate(found):
                shares[row, column] = 0.0 if other is None else _share(drawn, blob.centre, figure[other].centre)
        shares[shares < DRAWN] = 0.0
        taken = {int(r): int(c) for r, c in zip(*linear_sum_assignment(-shares), strict=True) if shares[r, c] > 0}
        for row, blob in enumerate(found):
            if row in taken:
                figures[taken[row]][joint] = blob
            else:
                figures.append({joint: blob})
    most = max(map(len, figures))
    return [_mask(figure, labels) for figure in figures if len(figure) >= min(FEWEST_JOINTS, most)]


def _blobs(mask: np.ndarray, radius: float) -> list[Blob]:
    """The blobs of a joint that are a fifth of a disc or more; those of one disc that was cut in two are one."""
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    found: list[Blob] = []
    for part in range(1, count + 1):
        pixels = np.argwhere(parts == part)
        for place, other in enumerate(found):
            if np.linalg.norm(other.centre - pixels.mean(0)) < 1.5 * radius:
                pixels = np.concatenate([found.pop(place).pixels, pixels])
                break
        found.append(Blob(pixels, pixels.mean(0)))
    return [blob for blob in found if len(blob.pixels) >= 0.2 * np.pi * radius**2]


def _share(drawn: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Share of the pixels on the line between two places (row, column) that are drawn."""
    steps = np.linspace(0, 1, 2 + int(np.linalg.norm(end - start)))[:, None]
    row, column = (start + steps * (end - start)).round().astype(int).T
    return float((drawn[row, column] > 0).mean())


def _mask(figure: Figure, labels: Tensor) -> Tensor:
    mask = torch.zeros_like(labels, dtype=torch.bool)
    for blob in figure.values():
        row, column = torch.from_numpy(blob.pixels).T
        mask[row, column] = True
    return mask
