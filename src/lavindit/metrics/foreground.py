"""One foreground against the rest."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.masks import intersection_union, pooled_iou


class ForegroundMetric(RowMetric):
    """Class-wise mIoU of the binarised answer in %, foreground only: the Pascal-5i protocol.

    A row keeps (intersection, union, class); `meta["class_id"]` is the class of the sample, 0 by default.
    """

    names = ("miou",)
    units = ("%",)
    ideals = (100.0,)
    width = 3

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Masks in [0, 1] [1, T, H, W] -> [3]: intersection, union, class; all NaN without a valid pixel."""
        overlap = intersection_union(answer, truth, valid)
        class_id = overlap.new_tensor([float(meta.get("class_id", 0))])
        return torch.cat([overlap, torch.where(overlap[:1].isnan(), overlap[:1], class_id)])

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, 3] -> mIoU in %; NaN where no class has a pixel."""
        rows = rows[~rows.isnan().any(dim=1)]
        return {"miou": 100 * pooled_iou(rows[:, 0], rows[:, 1], rows[:, 2])}
