"""Instance masks; and the base of all metrics that find things and match them by COCO's rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.base import RowMetric
from lavindit.metrics.functional.instances import (
    OVERLAP_THRESHOLDS,
    average_precision,
    best_overlaps,
    find_instances,
    mask_iou,
    match_detections,
)

AT_75 = OVERLAP_THRESHOLDS.index(0.75)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """What was answered (A things) and what is true (G things) in one image.

    Attributes:
        overlap: [A, G] in [0, 1]: IoU or OKS, of whatever class.
        scores: [A], larger is surer.
        answer_classes: [A].
        truth_classes: [G].
        answer_areas_px: [A], square pixels.
        truth_areas_px: [G], square pixels.
    """

    overlap: Tensor
    scores: Tensor
    answer_classes: Tensor
    truth_classes: Tensor
    answer_areas_px: Tensor
    truth_areas_px: Tensor


class DetectionMetric(RowMetric):
    """Average precision (AP) over a set, as COCO has it: matched in each image, ranked and pooled over all.

    AP is the mean over the IoU (or OKS) thresholds 0.50, 0.55 .. 0.95 of the precision averaged over 101 recalls, in
    each class of the truth, then the mean over those classes.

    A row has room for `max_instances` truths (class, best overlap) and as many answers (class, score, and a bit for
    each threshold at which it is right, or wrong), after the number of truths left aside. Unused places are NaN.

    Args:
        max_instances: Answers beyond the best scored so many of a sample are dropped (COCO: 100 a class and image);
            truths beyond the largest so many are left aside.
        min_area_px: Truths below this area are left aside: they are neither missed nor found, and an answer that fits
            no other truth but one of them does not count. An unmatched answer below it does not count either. This is
            COCO's area range.
        by_class: False takes all classes for one.
    """

    def __init__(self, max_instances: int = 100, min_area_px: float = 0.0, by_class: bool = True) -> None:
        super().__init__()
        self.max_instances, self.min_area_px, self.by_class = max_instances, min_area_px, by_class

    def left_aside(self) -> int:
        """Truths of the set that were too small, or too many for their row; every process must call it."""
        return int(self.unique_rows()[:, 0].nansum())

    def detection_row(self, images: Sequence[Overlaps]) -> Tensor:
        """Row of a sample of one or more images, each matched by itself."""
        counted = self._counted([image.truth_areas_px for image in images])
        none = images[0].scores.new_zeros
        truths, answers = [none(0, 2)], [none(0, 4)]
        for image, keep in zip(images, counted, strict=True):
            classes = torch.cat([image.answer_classes, image.truth_classes]).unique()
            for kind in classes if self.by_class else [None]:
                found, present = self._match(image, keep, kind)
                truths.append(present)
                answers.append(found)
        true, answered = torch.cat(truths), torch.cat(answers)
        surest = answered[:, 1].argsort(descending=True, stable=True)[: self.max_instances]
        aside = true.new_tensor([float(sum(int((~keep).sum()) for keep in counted))])
        return torch.cat([aside, self._padded(true), self._padded(answered[surest])])

    def detection_figures(self, rows: Tensor) -> Tensor:
        """Rows -> [4] in %: AP, AP at 0.50, AP at 0.75, mean best overlap; NaN without a truth."""
        places = rows[:, 1:]
        truths = places[:, : 2 * self.max_instances].unflatten(1, (-1, 2))
        answers = places[:, 2 * self.max_instances :].unflatten(1, (-1, 4))
        truths, answers = truths[~truths[..., 0].isnan()], answers[~answers[..., 0].isnan()]
        figures = []
        for kind in truths[:, 0].unique():
            best = truths[truths[:, 0] == kind, 1]
            _, scores, hits, misses = answers[answers[:, 0] == kind].unbind(dim=1)
            ap = average_precision(scores, _unpack(hits), _unpack(misses), len(best))
            figures.append(torch.stack([ap.mean(), ap[0], ap[AT_75], best.mean()]))
        return 100 * torch.stack(figures).mean(dim=0) if figures else rows.new_full((4,), float("nan"))

    def _row_width(self) -> int:
        return 1 + 6 * self.max_instances

    def _counted(self, areas_px: list[Tensor]) -> list[Tensor]:
        """Which truths of a sample's images count: large enough, and among the largest `max_instances`."""
        areas = torch.cat(areas_px)
        keep = torch.zeros_like(areas, dtype=torch.bool)
        keep[areas.argsort(descending=True, stable=True)[: self.max_instances]] = True
        return list((keep & (areas >= self.min_area_px)).split([len(image) for image in areas_px]))

    def _match(self, image: Overlaps, keep: Tensor, kind: Tensor | None) -> tuple[Tensor, Tensor]:
        """Answers [A, 4] and counted truths [G, 2] of one class of one image, as a row holds them."""
        mine, own = torch.ones_like(image.scores, dtype=torch.bool), torch.ones_like(keep)
        if kind is not None:
            mine, own = image.answer_classes == kind, image.truth_classes == kind
        overlap, scores, keep = image.overlap[mine][:, own], image.scores[mine], keep[own]
        hits, aside = match_detections(overlap, scores, ~keep)
        small = (image.answer_areas_px[mine] < self.min_area_px)[:, None]
        number = 0.0 if kind is None else float(kind)
        label = torch.full_like(scores, number)
        found = torch.stack([label, scores, _pack(hits), _pack(~hits & ~aside & ~small)], dim=1)
        best = best_overlaps(overlap)[keep]
        return found, torch.stack([torch.full_like(best, number), best], dim=1)

    def _padded(self, things: Tensor) -> Tensor:
        """Things [n, k] -> [max_instances * k], NaN where there is none."""
        row = things.new_full((self.max_instances, things.shape[1]), float("nan"))
        row[: len(things)] = things
        return row.flatten()


class InstanceMetric(DetectionMetric):
    """Mask AP at IoU 0.50:0.95, at 0.50 and at 0.75, and mean best overlap, in %, of id maps.

    In a clip an id is one instance over all frames, and the IoU is taken over space and time. A pixel without an
    answer counts as the opposite of the truth: it is in the union of every pair. See `DetectionMetric` for the pooling.

    A decoded picture has no scores: answers are ranked by their area, largest first. `meta["scores"]`, a mapping from
    answered id to score, ranks them otherwise.
    """

    names = ("ap", "ap50", "ap75", "mbo")
    units = ("%", "%", "%", "%")
    ideals = (100.0, 100.0, 100.0, 100.0)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Ids [1, T, H, W], or classes and ids [2, T, H, W]; see `find_instances`.

        Where there is no class channel all instances are of `meta["class_id"]`, 0 by default.
        """
        usable = valid[0] & truth.isfinite().all(dim=0)
        if not bool(usable.any()):
            return truth.new_full((self._row_width(),), float("nan"))
        class_id = float(meta.get("class_id", 0))
        true, answered = find_instances(truth, usable, class_id), find_instances(answer, usable, class_id)
        unknown = usable & ~answer.isfinite().all(dim=0)
        overlap = mask_iou(answered, true, unknown.flatten())
        scores = scores_of_ids(answered.ids, answered.areas_px, meta)
        return self.detection_row(
            [Overlaps(overlap, scores, answered.classes, true.classes, answered.areas_px, true.areas_px)]
        )

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> figures in %; NaN where no sample holds an instance that counts."""
        return dict(zip(self.names, self.detection_figures(rows), strict=True))


def scores_of_ids(ids: Tensor, areas_px: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Score of each answer [n]: `meta["scores"]` by id (ids without one come last), else its area."""
    scores = meta.get("scores")
    if scores is None:
        return areas_px
    return areas_px.new_tensor([float(scores.get(int(i), float("-inf"))) for i in ids.tolist()])


def scores_of_things(areas_px: Tensor, meta: Mapping[str, Any], t: int) -> Tensor:
    """Score of each answer [M] in frame t: `meta["scores"]` [M] or [M, T], else its area."""
    scores = meta.get("scores")
    if scores is None:
        return areas_px
    scores = torch.as_tensor(scores).to(areas_px)
    return scores[:, t] if scores.dim() == 2 else scores


def _pack(flags: Tensor) -> Tensor:
    """Flags [n, S] -> one number each [n]: S bits, which a float holds exactly."""
    return (flags * 2 ** torch.arange(flags.shape[1], device=flags.device)).sum(dim=1).double()


def _unpack(numbers: Tensor) -> Tensor:
    """Numbers [n] -> flags [n, S]."""
    bits = 2 ** torch.arange(len(OVERLAP_THRESHOLDS), device=numbers.device)
    return (numbers.long()[:, None] & bits) > 0
