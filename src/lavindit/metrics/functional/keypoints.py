"""Keypoints: object keypoint similarity (OKS) and percentage of correct keypoints (PCK).

Shape legend: A answered and G true figures of J joints in one frame; coordinates are x, y in pixels.
"""

import torch
from torch import Tensor

# How far annotators disagree on each of COCO's 17 joints, as a share of the figure's scale.
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip
# A person fills about half of the box around it; the share is that of xtcocotools, for data without silhouettes.
AREA_OF_BOX = 0.53


def joint_extents(points: Tensor, known: Tensor) -> Tensor:
    """Width and height of the tight box around the known joints of each figure.

    Args:
        points: [n, J, 2] in pixels.
        known: bool [n, J].

    Returns:
        [n, 2] in pixels; 0 for fewer than two known joints.
    """
    low = torch.where(known[..., None], points, float("inf")).amin(dim=1)
    high = torch.where(known[..., None], points, float("-inf")).amax(dim=1)
    return (high - low).clamp(min=0)


def object_keypoint_similarity(
    answer: Tensor, truth: Tensor, labelled: Tensor, areas_px: Tensor, sigmas: Tensor
) -> Tensor:
    """OKS: mean over a figure's labelled joints of `exp(-d^2 / (2 s^2 k^2))`.

    d is the distance in pixels, s^2 the figure's area, k twice the joint's sigma.

    Args:
        answer: [A, J, 2]; a joint that is not finite is infinitely far.
        truth: [G, J, 2].
        labelled: bool [G, J]; the true joints that count.
        areas_px: [G], square pixels.
        sigmas: [J].

    Returns:
        [A, G] in [0, 1]; 0 for a truth without a labelled joint (COCO would measure the distance to its box instead).

    Source: `COCOeval.computeOks` of pycocotools.
    """
    squared = (answer[:, None] - truth).square().sum(dim=-1)  # [A, G, J]
    areas = (areas_px + torch.finfo(torch.float64).eps)[:, None]
    exponent = squared / (2 * sigmas).square() / areas / 2
    likeness = torch.where(labelled & exponent.isfinite(), (-exponent).exp(), 0.0)
    return likeness.sum(dim=-1) / labelled.sum(dim=-1).clamp(min=1)


def count_correct_keypoints(answer: Tensor, truth: Tensor, labelled: Tensor, share: float = 0.1) -> Tensor:
    """PCK of paired figures: joints within `share` of the figure's size from their truth.

    The size is the longer side of the tight box around the figure's labelled joints, not the torso, which COCO's
    figures often hide. A figure of one labelled joint has no size: its joint must be exact.

    Args:
        answer: [n, J, 2], figure by figure the answer to the truth; a joint that is not finite is wrong.
        truth: [n, J, 2].
        labelled: bool [n, J]; the true joints that count.
        share: Of the size.

    Returns:
        [2]: right and labelled joints, over all figures.

    Source: Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", TPAMI 2013, section 7.
    """
    reach = share * joint_extents(truth, labelled).amax(dim=-1, keepdim=True)
    distance = (answer - truth).norm(dim=-1)
    right = labelled & (distance <= reach)
    return torch.stack([right.sum(), labelled.sum()]).to(truth.dtype)
