"""Surface normals, scored by angle."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.normals import normal_errors


class NormalMetric(RowMetric):
    """Mean and median angular error in degrees of each sample, and shares of its pixels in %."""

    names = ("mean_deg", "median_deg", "within_11_25", "within_22_5", "within_30")
    units = ("deg", "deg", "%", "%", "%")
    ideals = (0.0, 0.0, 100.0, 100.0, 100.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Normals [3, T, H, W] -> [5]; see `normal_errors`."""
        return normal_errors(answer, truth, valid)
