"""Pictures against the true picture."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.pictures import mean_squared_error, psnr_db, ssim


class RestorationMetric(RowMetric):
    """PSNR in dB and MSE on [0, 1] over valid pixels; SSIM over the whole picture."""

    names = ("psnr", "ssim", "mse")
    units = ("dB", "1", "1")
    ideals = (100.0, 1.0, 0.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """RGB in [0, 1] [3, T, H, W] -> [3]; see `psnr_db`, `ssim` and `mean_squared_error`."""
        figures = [figure(answer, truth, valid) for figure in (psnr_db, ssim, mean_squared_error)]
        return torch.stack(figures)
