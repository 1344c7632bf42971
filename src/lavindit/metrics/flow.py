"""Optical flow."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.flow import flow_errors


class FlowMetric(RowMetric):
    """End-point error in pixels and share of outliers (above 3 px and above 5 % of the motion) in %."""

    names = ("epe", "fl_all")
    units = ("px", "%")
    ideals = (0.0, 0.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Flow in pixels [2, T, H, W] -> [2]; see `flow_errors`."""
        return flow_errors(answer, truth, valid)
