"""Pictures against the true picture."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric, check_figures
from lavindit.metrics.functional.pictures import mean_squared_error, psnr_db, ssim


class RestorationMetric(RowMetric):
    """PSNR in dB and MSE on [0, 1] over valid pixels; SSIM over the whole picture.

    Args:
        figures: Those that are wanted, in order.

    Raises:
        LavinditError: There is no such figure, or one is asked for twice.
    """

    names = ("psnr", "ssim", "mse")
    units = ("dB", "1", "1")
    ideals = (100.0, 1.0, 0.0)
    measures: ClassVar[dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
        "psnr": psnr_db,
        "ssim": ssim,
        "mse": mean_squared_error,
    }

    def __init__(self, figures: Sequence[str] = ("psnr", "ssim", "mse")) -> None:
        super().__init__()
        check_figures(figures, list(self.measures))
        places = [self.names.index(name) for name in figures]
        self.units, self.ideals = tuple(self.units[i] for i in places), tuple(self.ideals[i] for i in places)
        self.names = tuple(figures)

    def only(self, name: str) -> "RestorationMetric":
        """The figure `name` alone."""
        super().only(name)
        return type(self)((name,))

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """RGB in [0, 1] [3, T, H, W] -> [figures]; see `psnr_db`, `ssim` and `mean_squared_error`."""
        return torch.stack([self.measures[name](answer, truth, valid) for name in self.names])
