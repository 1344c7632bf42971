"""Optical flow errors."""

import torch
from torch import Tensor


def flow_errors(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """End-point error and share of outliers.

    `epe = mean(|a - t|)`; a pixel is an outlier (`fl_all`) where its error is above 3 px and above 5 % of the true
    motion. A pixel whose answer is not finite errs by the diagonal of the frame.

    Args:
        answer: Flow [2, T, H, W] in pixels.
        truth: Flow [2, T, H, W] in pixels; pixels that are not finite are ignored.
        valid: bool [1, T, H, W].

    Returns:
        [2]: epe (px), fl_all (%); NaN without a valid pixel.

    Source: Menze and Geiger, "Object Scene Flow for Autonomous Vehicles" (KITTI 2015), CVPR 2015, section 5.
    """
    usable = valid[0] & truth.isfinite().all(dim=0)
    diagonal_px = (truth.shape[-2] ** 2 + truth.shape[-1] ** 2) ** 0.5
    answer, truth = answer[:, usable], truth[:, usable]
    error = (answer - truth).norm(dim=0)
    error = torch.where(error.isfinite(), error, diagonal_px)
    outlier = (error > 3) & (error > 0.05 * truth.norm(dim=0))
    return torch.stack([error.mean(), 100 * outlier.to(error.dtype).mean()])
