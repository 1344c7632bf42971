"""Angles between predicted and true surface normals."""

import torch
from torch import Tensor

THRESHOLDS_DEG = (11.25, 22.5, 30.0)


def angular_errors_deg(answer: Tensor, truth: Tensor) -> Tensor:
    """Angle between vectors, `atan2(|a x t|, a . t)`: the arc cosine, but exact near 0 and 180 degrees.

    Lengths do not matter. A zero answer is at 90 degrees to everything; one that is not finite is at 180.

    Args:
        answer: Vectors [3, ...].
        truth: Finite, non-zero vectors [3, ...].

    Returns:
        Degrees [...] in [0, 180].
    """
    known = answer.isfinite().all(dim=0)
    a = torch.where(known, answer, -truth)
    sine = torch.linalg.cross(a, truth, dim=0).square().sum(dim=0).sqrt()  # norm(dim=0) is thirty times slower
    cosine = (a * truth).sum(dim=0)
    angle = torch.where((sine == 0) & (cosine == 0), torch.pi / 2, torch.atan2(sine, cosine))
    return angle.rad2deg()


def normal_errors(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean and median angular error, and the share of pixels within 11.25, 22.5 and 30 degrees.

    Args:
        answer: Normals [3, T, H, W], of any length.
        truth: Normals [3, T, H, W]; pixels with a zero or non-finite vector are ignored.
        valid: bool [1, T, H, W].

    Returns:
        [5]: mean (deg), median (deg, the mean of the middle two for an even number), three shares (%);
        NaN without a valid pixel.

    Source: Fouhey et al., "Data-Driven 3D Primitives for Single Image Understanding", ICCV 2013, section 5.
    """
    length = truth.square().sum(dim=0).sqrt()
    usable = valid[0] & length.isfinite() & (length > 1e-6)
    error = angular_errors_deg(answer, truth)[usable]
    n = len(error)
    if n == 0:
        return answer.new_full((5,), float("nan"))
    error = error.sort().values
    median = (error[(n - 1) // 2] + error[n // 2]) / 2
    shares = [100 * (error < threshold).to(error.dtype).mean() for threshold in THRESHOLDS_DEG]
    return torch.stack([error.mean(), median, *shares])
