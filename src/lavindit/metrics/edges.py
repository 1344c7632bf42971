"""Edge maps."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.edges import edge_f_score
from lavindit.metrics.functional.pictures import mean_squared_error


class EdgeMetric(RowMetric):
    """F-score at a tolerance of 1 px (share, not %) and mean squared error of the soft map on [0, 1]."""

    names = ("f_score", "mse")
    units = ("1", "1")
    ideals = (1.0, 0.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Edges in [0, 1] [1, T, H, W] -> [2]; see `edge_f_score` and `mean_squared_error`."""
        return torch.stack([edge_f_score(answer, truth, valid), mean_squared_error(answer, truth, valid)])
