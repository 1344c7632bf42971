"""Depth, scored after alignment."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.depth import depth_errors


class DepthMetric(RowMetric):
    """AbsRel, delta1 (shares, not %) and RMSE in metres after one scale-and-shift alignment a sample."""

    names = ("abs_rel", "delta1", "rmse")
    units = ("1", "1", "m")
    ideals = (0.0, 1.0, 0.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Depth [1, T, H, W] -> [3]; see `depth_errors`."""
        return depth_errors(answer, truth, valid)
