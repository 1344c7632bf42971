"""Panoptic segmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.panoptic import panoptic_counts, panoptic_quality


class PanopticMetric(RowMetric):
    """Panoptic, segmentation and recognition quality in %: pooled over the set by class, then mean over classes.

    A row keeps four numbers a class: sum of IoU, matches, false positives, misses. A clip is matched as a whole.

    Args:
        things: Classes whose ids tell segments apart.
        stuff: Classes that are one segment an image. Classes of the truth that are in neither list are void.

    Raises:
        ValueError: A class is listed twice, or none is listed.
    """

    names = ("pq", "sq", "rq")
    units = ("%", "%", "%")
    ideals = (100.0, 100.0, 100.0)

    def __init__(self, things: Sequence[int], stuff: Sequence[int] = ()) -> None:
        super().__init__()
        self.things, self.stuff = tuple(things), tuple(stuff)
        classes = (*self.things, *self.stuff)
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f"things {self.things} and stuff {self.stuff} must name at least one class, each once")

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Classes and ids [2, T, H, W] -> [4 a class]; see `panoptic_counts`."""
        return panoptic_counts(answer, truth, valid, self.things, self.stuff).flatten()

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> figures in %; NaN where neither truth nor answer shows a class."""
        counts = rows.nansum(dim=0).reshape(-1, 4)
        return dict(zip(self.names, 100 * panoptic_quality(counts).nanmean(dim=0), strict=True))

    def _row_width(self) -> int:
        return 4 * (len(self.things) + len(self.stuff))


class InstanceQualityMetric(PanopticMetric):
    """Panoptic quality of things, all of one class, each a segment of an id map.

    The background is a segment, too, which an answer may match, but its quality is left out. A clip's id is one
    segment in space and time.
    """

    def __init__(self) -> None:
        super().__init__(things=(1,), stuff=(2,))

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Ids [1, T, H, W], 0 for none -> [8]; see `panoptic_counts`."""
        answer, truth = (torch.cat([torch.where(ids > 0, 1.0, 2.0), ids]) for ids in (answer, truth))
        return super().score(answer, truth, valid, meta)

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> figures in %, of the things alone."""
        counts = rows.nansum(dim=0).reshape(-1, 4)
        return dict(zip(self.names, 100 * panoptic_quality(counts)[0], strict=True))
