"""Objects followed through clips."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.video_masks import score_objects


class VideoMaskMetric(RowMetric):
    """Region similarity J, boundary accuracy F and their mean J&F in %, the mean over all objects of the set.

    A row keeps (sum of J, sum of F, objects), each object being the mean over its clip's frames.

    Args:
        pairing: Which answered object is scored against which true one; see `score_objects`.
        max_answers: Objects of the answer that take part, the largest; for `pairing="best"`.
    """

    names = ("j_and_f", "j", "f")
    units = ("%", "%", "%")
    ideals = (100.0, 100.0, 100.0)
    width = 3

    def __init__(self, pairing: Literal["best", "id"] = "best", max_answers: int = 20) -> None:
        super().__init__()
        self.pairing: Literal["best", "id"] = pairing
        self.max_answers = max_answers

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Ids [1, T, H, W] -> [3]; NaN without a valid pixel; a clip without an object adds nothing."""
        if not bool((valid & truth.isfinite()).any()):
            return truth.new_full((3,), float("nan"))
        objects = score_objects(answer, truth, valid, self.pairing, self.max_answers)
        return torch.cat([objects.sum(dim=0), objects.new_tensor([float(len(objects))])])

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [n, 3] -> figures in %; NaN where no clip holds an object."""
        region, boundary, objects = rows.nansum(dim=0)
        figures = torch.stack([(region + boundary) / 2, region, boundary]) / objects
        return dict(zip(self.names, 100 * figures, strict=True))
