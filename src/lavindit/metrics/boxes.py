"""Boxes around things."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.functional.boxes import box_area, box_iou, tight_boxes
from lavindit.metrics.functional.instances import find_instances
from lavindit.metrics.instances import DetectionMetric, Overlaps, scores_of_ids, scores_of_things


class BoxMetric(DetectionMetric):
    """Mean IoU of boxes and box AP at IoU 0.50:0.95, at 0.50 and at 0.75, in %.

    Natives are boxes [M, T, 4] (left, top, right, bottom in pixels, edges; not finite or empty where one is absent from
    a frame), or id maps [1 or 2, T, H, W], whose tight boxes are taken: a binary mask is an id map of one instance.
    Answer and truth may differ in M, and in kind. Each frame is scored by itself.

    `miou` is the mean over true boxes of the IoU with the best answered box, by class: for one box a picture, the mean
    IoU. See `DetectionMetric` for the pooling. Answers are ranked by the area of their box, largest first, or by
    `meta["scores"]`: [M] or [M, T] for boxes, a mapping from id for maps.
    """

    names = ("miou", "ap", "ap50", "ap75")
    units = ("%", "%", "%", "%")
    ideals = (100.0, 100.0, 100.0, 100.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Boxes or id maps, and valid bool [1, T, H, W]; NaN without a valid pixel.

        Frames without one are left out. In an id map only the valid pixels count, and those that are not finite belong
        to nothing; boxes are taken as they are. Boxes, and ids without a class channel, are of `meta["class_id"]`, 0
        by default.
        """
        usable = valid[0]
        if truth.dim() == 4:
            usable = usable & truth.isfinite().all(dim=0)
        images = [
            self._compare(answer[:, t], truth[:, t], usable[t], meta, t)
            for t in usable.flatten(1).any(dim=1).nonzero().flatten().tolist()
        ]
        if not images:
            return torch.full((self._row_width(),), float("nan"), dtype=torch.float64)
        return self.detection_row(images)

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> figures in %; NaN where no sample holds a box that counts."""
        ap, ap50, ap75, best = self.detection_figures(rows)
        return {"miou": best, "ap": ap, "ap50": ap50, "ap75": ap75}

    def _compare(self, answer: Tensor, truth: Tensor, usable: Tensor, meta: Mapping[str, Any], t: int) -> Overlaps:
        """One frame: boxes [M, 4] or maps [N, H, W]."""
        boxes, classes, scores = _read(answer, usable, meta, t)
        true_boxes, true_classes, _ = _read(truth, usable, {**meta, "scores": None}, t)
        overlap = box_iou(boxes, true_boxes)
        return Overlaps(overlap, scores, classes, true_classes, box_area(boxes), box_area(true_boxes))


def _read(native: Tensor, usable: Tensor, meta: Mapping[str, Any], t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [n, 4] of a frame that are there, their classes [n] and scores [n]."""
    class_id = float(meta.get("class_id", 0))
    if native.dim() == 3:
        found = find_instances(native, usable, class_id)
        boxes = tight_boxes(found, *usable.shape)
        return boxes, found.classes, scores_of_ids(found.ids, box_area(boxes), meta)
    areas_px = box_area(native)
    there = areas_px > 0
    scores = scores_of_things(areas_px, meta, t)[there]
    return native[there], torch.full_like(scores, class_id), scores
