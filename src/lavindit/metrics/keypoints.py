"""Poses: the joints of figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics.functional.instances import pair_one_to_one
from lavindit.metrics.functional.keypoints import (
    AREA_OF_BOX,
    COCO_SIGMAS,
    count_correct_keypoints,
    joint_extents,
    object_keypoint_similarity,
)
from lavindit.metrics.instances import DetectionMetric, Overlaps, scores_of_things


class KeypointMetric(DetectionMetric):
    """AP at OKS 0.50:0.95, at 0.50 and at 0.75, and PCK at a tenth of the figure's box, in %.

    Natives are joints [M, J, T, 3], as in `Scene.keypoints_px`: x and y in pixels (centres of pixels at integers) and
    visibility, above 0 for a joint that is labelled, or answered. Answer and truth may differ in M. Each frame is
    scored by itself.

    OKS needs the area of each true figure: `meta["areas_px"]` [M] or [M, T], in square pixels; without it 0.53 of the
    tight box around its labelled joints, at least 1. A true figure without a labelled joint is left aside; an answer
    there is a false one. Answers are ranked by the area of the tight box around their joints, largest first, or by
    `meta["scores"]`, [M] or [M, T]. See `DetectionMetric` for the pooling.

    For PCK figures are paired one to one so that the sum of OKS is largest. It counts all labelled joints of the set;
    those of a figure without a partner are wrong, and superfluous figures cost nothing.

    Args:
        sigmas: Of the J joints; COCO's by default.
        max_instances: As in `DetectionMetric`, over all frames of a sample.
        min_area_px: As in `DetectionMetric`; PCK has all figures.
    """

    names = ("oks_ap", "oks_ap50", "oks_ap75", "pck_0_1")
    units = ("%", "%", "%", "%")
    ideals = (100.0, 100.0, 100.0, 100.0)

    def __init__(
        self, sigmas: Sequence[float] = COCO_SIGMAS, max_instances: int = 20, min_area_px: float = 0.0
    ) -> None:
        super().__init__(max_instances, min_area_px, by_class=False)
        self.sigmas = tuple(sigmas)

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Joints [M', J, T, 3] and [M, J, T, 3], valid bool [1, T, H, W]; NaN without a valid pixel.

        Frames without one are left out, and so are the labels of joints on a pixel that is not valid. A joint of the
        answer that is not finite is missing.
        """
        seen = valid[0].flatten(1).any(dim=1).nonzero().flatten()
        if len(seen) == 0:
            return truth.new_full((self._row_width(),), float("nan"))
        points, labelled = _read(truth)
        labelled = labelled & _on_valid_pixel(points, valid[0])
        found, present = _read(answer)
        areas_px = self._areas(points, labelled, meta)
        images, correct = [], truth.new_zeros(2)
        for t in seen.tolist():
            image, counts = self._compare(found[t], present[t], points[t], labelled[t], areas_px[t], meta, t)
            images.append(image)
            correct += counts
        row = self.detection_row(images)
        unlabelled = (~labelled[seen].any(dim=-1)).sum()
        return torch.cat([row[:1] + unlabelled, row[1:], correct])

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> figures in %; NaN where no sample holds a labelled figure."""
        ap, ap50, ap75, _ = self.detection_figures(rows[:, :-2])
        right, labelled = rows[:, -2:].nansum(dim=0)
        return {"oks_ap": ap, "oks_ap50": ap50, "oks_ap75": ap75, "pck_0_1": 100 * right / labelled}

    def _row_width(self) -> int:
        return super()._row_width() + 2

    def _areas(self, points: Tensor, labelled: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Areas of the true figures [T, M] in square pixels."""
        if "areas_px" in meta:
            areas = torch.as_tensor(meta["areas_px"]).to(points)
            return (areas.T if areas.dim() == 2 else areas).expand(points.shape[:2])
        extents = joint_extents(points.flatten(0, 1), labelled.flatten(0, 1))
        return (AREA_OF_BOX * extents.prod(dim=-1)).clamp(min=1).reshape(points.shape[:2])

    def _compare(
        self,
        answer: Tensor,
        present: Tensor,
        truth: Tensor,
        labelled: Tensor,
        areas_px: Tensor,
        meta: Mapping[str, Any],
        t: int,
    ) -> tuple[Overlaps, Tensor]:
        """One frame: figures [M', J, 2] and [M, J, 2] with their joints -> overlaps, and right and labelled joints."""
        extents = joint_extents(answer, present).prod(dim=-1)
        scores = scores_of_things(extents, meta, t)
        there, real = present.any(dim=-1), labelled.any(dim=-1)
        answer, scores, extents = answer[there], scores[there], extents[there]
        truth, labelled, areas_px = truth[real], labelled[real], areas_px[real]
        oks = object_keypoint_similarity(answer, truth, labelled, areas_px, answer.new_tensor(self.sigmas))
        rows, columns = pair_one_to_one(oks)
        partner = torch.full_like(truth, float("nan"))
        partner[columns] = answer[rows]
        image = Overlaps(oks, scores, torch.zeros_like(scores), torch.zeros_like(areas_px), extents, areas_px)
        return image, count_correct_keypoints(partner, truth, labelled)


def _read(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Joints [M, J, T, 3] -> places [T, M, J, 2], NaN for those that are not there, and bool [T, M, J]: which are."""
    there = joints.isfinite().all(dim=-1) & (joints[..., 2] > 0)
    points = torch.where(there[..., None], joints[..., :2], float("nan"))
    return points.permute(2, 0, 1, 3), there.permute(2, 0, 1)


def _on_valid_pixel(points: Tensor, valid: Tensor) -> Tensor:
    """Whether the pixel nearest to each point [T, M, J, 2] is valid in [T, H, W] -> bool [T, M, J]."""
    x, y = points.nan_to_num().round().unbind(dim=-1)
    row, column = y.clamp(0, valid.shape[1] - 1).long(), x.clamp(0, valid.shape[2] - 1).long()
    return valid[torch.arange(len(valid), device=valid.device)[:, None, None], row, column]
