"""Overlap of binary masks."""

import torch
from torch import Tensor


def intersection_union(answer: Tensor, truth: Tensor, valid: Tensor, threshold: float = 0.5) -> Tensor:
    """Pixels in both masks and in either, over the valid pixels of an image or clip.

    Args:
        answer: Soft mask in [0, 1] [1, T, H, W], binarised above `threshold`; a pixel that is not finite is taken as
            the opposite of the truth.
        truth: Mask [1, T, H, W], likewise; pixels that are not finite are ignored.
        valid: bool [1, T, H, W].
        threshold: Where soft becomes foreground.

    Returns:
        [2]: intersection and union in pixels; NaN without a valid pixel.
    """
    usable = valid & truth.isfinite()
    if not bool(usable.any()):
        return answer.new_full((2,), float("nan"))
    true = truth > threshold
    answered = torch.where(answer.isfinite(), answer > threshold, ~true)
    return torch.stack([(answered & true & usable).sum(), ((answered | true) & usable).sum()]).to(answer.dtype)


def pooled_iou(intersections: Tensor, unions: Tensor, classes: Tensor) -> Tensor:
    """Class-wise mean IoU: pool intersection and union over the samples of a class, divide, average over classes.

    Args:
        intersections: Pixels [n].
        unions: Pixels [n].
        classes: Class of each sample [n].

    Returns:
        Scalar in [0, 1]; a class with an empty union is left out, NaN where that leaves none.

    Source: Shaban et al., "One-Shot Learning for Semantic Segmentation" (Pascal-5i), BMVC 2017, foreground only.
    """
    kinds, place = torch.unique(classes, return_inverse=True)
    pooled = [
        torch.zeros(len(kinds), dtype=values.dtype).index_add_(0, place, values) for values in (intersections, unions)
    ]
    return (pooled[0] / pooled[1]).nanmean()
