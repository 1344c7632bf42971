"""The metrics of `codec_floor.py` that no task has."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lavindit.metrics import RowMetric
from lavindit.metrics.functional.instances import pair_one_to_one
from lavindit.metrics.functional.keypoints import (
    AREA_OF_BOX,
    COCO_SIGMAS,
    count_correct_keypoints,
    joint_extents,
    object_keypoint_similarity,
)


class UnalignedDepth(RowMetric):
    """AbsRel, delta1 and RMSE of metric depth, as it comes out of the codec: no scale or shift is fitted."""

    names = ("unaligned_abs_rel", "unaligned_delta1", "unaligned_rmse")
    units = ("1", "1", "m")

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Depth in metres [1, T, H, W] -> [3]."""
        answer, truth = answer[valid], truth[valid]
        error = (answer - truth).abs()
        near = torch.maximum(answer / truth, truth / answer) < 1.25
        return torch.stack([(error / truth).mean(), near.double().mean(), error.square().mean().sqrt()])


class NarrowPck(RowMetric):
    """Share of labelled joints within 0.05 of the longer side of the figure's tight box, in %, over all joints."""

    names = ("pck_0_05",)
    units = ("%",)
    width = 2

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Joints [M, J, 1, 3] -> [2]: right and labelled joints; figures are paired as in `KeypointMetric`."""
        (found, seen), (points, labelled) = ((j[:, :, 0, :2], j[:, :, 0, 2] > 0) for j in (answer, truth))
        found = torch.where(seen[..., None], found, torch.nan)
        areas = (AREA_OF_BOX * joint_extents(points, labelled).prod(dim=-1)).clamp(min=1)
        sigmas = points.new_tensor(COCO_SIGMAS)
        rows, columns = pair_one_to_one(object_keypoint_similarity(found, points, labelled, areas, sigmas))
        partner = torch.full_like(points, torch.nan)
        partner[columns] = found[rows]
        return count_correct_keypoints(partner, points, labelled, share=0.05)

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> figure in %."""
        right, labelled = rows.nansum(dim=0)
        return {"pck_0_05": 100 * right / labelled}
