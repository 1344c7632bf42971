"""Depth errors after alignment: single-image depth is known up to a scale and a shift."""

import torch
from torch import Tensor

# Depth in metres below which an aligned answer is clamped, and which a pixel without an answer gets.
SMALLEST_DEPTH_M = 1e-3


def align_scale_shift(answer: Tensor, truth: Tensor) -> Tensor:
    """Fit `scale * answer + shift` to the truth by least squares and apply it.

    Answers that are not finite are left out of the fit and stay as they are. A constant answer has no scale:
    it is shifted to the mean of the truth. The scale may come out negative, as in the usual protocol.

    Args:
        answer: Depth [n] in any unit.
        truth: Depth [n] in metres, finite.

    Returns:
        Aligned depth [n] in metres.

    Source: Ranftl et al., "Towards Robust Monocular Depth Estimation" (MiDaS), TPAMI 2022, eq. 1-2; here in depth,
    not disparity.
    """
    known = answer.isfinite()
    if not bool(known.any()):
        return answer
    x, y = answer[known], truth[known]
    mean_x, mean_y = x.mean(), y.mean()
    centred = x - mean_x
    variance = centred.square().mean()
    constant = variance.sqrt() <= 1e-9 * mean_x.abs().clamp_min(1e-9)
    slope = (centred * (y - mean_y)).mean() / variance.clamp_min(torch.finfo(x.dtype).tiny)
    scale = torch.where(constant, 0.0, slope)
    return mean_y + scale * (answer - mean_x)


def depth_errors(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """AbsRel, delta1 and RMSE after one scale-and-shift alignment over all valid pixels of an image or clip.

    `abs_rel = mean(|a - t| / t)`, `delta1 = mean(max(a / t, t / a) < 1.25)`, `rmse = sqrt(mean((a - t)^2))`, where a
    is the aligned answer, clamped from below to 1 mm. A pixel whose answer is not finite scores as 1 mm.

    Args:
        answer: Depth [1, T, H, W] in any unit.
        truth: Depth [1, T, H, W] in metres; pixels that are not finite or not positive are ignored.
        valid: bool [1, T, H, W].

    Returns:
        [3]: abs_rel (share), delta1 (share), rmse (m); NaN for fewer than two valid pixels.

    Source: Eigen et al., "Depth Map Prediction from a Single Image", NeurIPS 2014, section 4.
    """
    usable = valid & truth.isfinite() & (truth > 0)
    answer, truth = answer[usable], truth[usable]
    if len(truth) < 2:
        return answer.new_full((3,), float("nan"))
    aligned = align_scale_shift(answer, truth)
    aligned = torch.where(aligned.isfinite(), aligned, 0.0).clamp_min(SMALLEST_DEPTH_M)
    error = (aligned - truth).abs()
    abs_rel = (error / truth).mean()
    delta1 = (torch.maximum(aligned / truth, truth / aligned) < 1.25).to(answer.dtype).mean()
    return torch.stack([abs_rel, delta1, error.square().mean().sqrt()])
