"""Clips against the true clip, from frame to frame."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.temporal import temporal_error


class TemporalMetric(RowMetric):
    """Error of the change between successive frames in 8-bit grey levels; mean over clips."""

    names = ("dt_rmse",)
    units = ("1/255",)
    ideals = (0.0,)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """RGB in [0, 1] [3, T, H, W] -> [1]; NaN for T = 1. See `temporal_error`."""
        return temporal_error(answer, truth, valid)[None]
