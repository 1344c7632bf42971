"""Objects in clips: region similarity J and boundary accuracy F of DAVIS.

Shape legend: A answered and G true objects, T frames of H x W pixels.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lavindit.metrics.functional.instances import find_instances, pair_one_to_one

# A boundary may be off by this share of the frame's diagonal, rounded up to whole pixels.
BOUND_OF_DIAGONAL = 0.008


def mask_boundary(masks: Tensor) -> Tensor:
    """Boundary of masks, one pixel wide: where a pixel differs from its right, lower or lower right neighbour.

    The border of the frame is no boundary: the last row looks to the right only, the last column down only.

    Args:
        masks: bool [n, H, W].

    Returns:
        bool [n, H, W].

    Source: `_seg2bmap` of davis2017-evaluation, after Martin's `seg2bmap`.
    """
    right, below, across = (torch.zeros_like(masks) for _ in range(3))
    right[..., :-1] = masks[..., 1:]
    below[..., :-1, :] = masks[..., 1:, :]
    across[..., :-1, :-1] = masks[..., 1:, 1:]
    edge = (masks ^ right) | (masks ^ below) | (masks ^ across)
    edge[..., -1, :] = (masks ^ right)[..., -1, :]
    edge[..., :, -1] = (masks ^ below)[..., :, -1]
    edge[..., -1, -1] = False
    return edge


def dilate_disk(masks: Tensor, radius_px: int) -> Tensor:
    """Grow masks by a disk: true within Euclidean distance `radius_px` of a true pixel.

    Args:
        masks: bool [n, H, W].
        radius_px: Radius in pixels, 0 or more.

    Returns:
        bool [n, H, W].
    """
    height, width = masks.shape[-2:]
    sums = masks.cumsum(dim=-1, dtype=torch.int32)
    # True pixels to the left of each column, from `radius_px` columns outside the frame to as many beyond it.
    before = torch.cat([F.pad(sums, (radius_px + 1, 0)), sums[..., -1:].expand(*sums.shape[:-1], radius_px)], dim=-1)
    grown = torch.zeros_like(masks)
    for dy in range(min(radius_px, height - 1) + 1):  # the disk row by row, above and below
        reach = math.isqrt(radius_px**2 - dy**2)
        left, right = radius_px - reach, radius_px + reach + 1
        near = before[..., right : right + width] > before[..., left : left + width]
        grown[..., dy:, :] |= near[..., : height - dy, :]
        grown[..., : height - dy, :] |= near[..., dy:, :]
    return grown


def boundary_radius_px(height: int, width: int) -> int:
    """How far a boundary may be off in a frame: 0.008 of its diagonal, rounded up."""
    return math.ceil(BOUND_OF_DIAGONAL * math.hypot(height, width))


def region_and_boundary(answers: Tensor, truths: Tensor, valid: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
    """J and F of each answered with each true mask of one frame.

    J is the IoU. F is `2 P R / (P + R)`, where P is the share of the answer's boundary within
    `boundary_radius_px` (Euclidean) of the true boundary, R that of the true boundary near the answer's. Invalid
    pixels belong to no mask.

    Args:
        answers: bool [A, H, W].
        truths: bool [G, H, W].
        valid: bool [H, W].
        unknown: bool [H, W], pixels without an answer: one too many in every region, and in every boundary.

    Returns:
        [A, G], [A, G] in [0, 1], double: 1 where both masks are empty, 0 where one is.

    Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (DAVIS),
    CVPR 2016, section 4; `davis2017-evaluation`.
    """
    unknown = unknown & valid
    answers, truths = answers & valid & ~unknown, truths & valid
    lost = float(unknown.sum())
    a, t, u = (mask.flatten(-2).double() for mask in (answers, truths, unknown))
    shared = a @ t.T
    union = a.sum(dim=1)[:, None] + t.sum(dim=1) - shared + (lost - t @ u)
    region = torch.where(union > 0, shared / union, 1.0)

    radius_px = boundary_radius_px(*valid.shape)
    edges = [mask_boundary(masks) for masks in (answers, truths)]
    near = [dilate_disk(edge, radius_px).flatten(1).double() for edge in edges]
    a, t = (edge.flatten(1).double() for edge in edges)
    n_answer, n_truth = a.sum(dim=1)[:, None] + lost, t.sum(dim=1)
    precision, recall = a @ near[1].T / n_answer, near[0] @ t.T / n_truth
    f_score = (2 * precision * recall / (precision + recall)).nan_to_num(0.0)
    return region, torch.where((n_answer == 0) & (n_truth == 0), 1.0, f_score)


def score_objects(
    answer: Tensor,
    truth: Tensor,
    valid: Tensor,
    pairing: Literal["best", "id"] = "best",
    max_answers: int = 20,
) -> Tensor:
    """J and F of each true object of a clip, each the mean over frames.

    Frames without a valid pixel are left out; in a frame where an object is in neither map both are 1. Objects of the
    answer beyond those paired are not counted against it.

    Args:
        answer: Ids [1, T, H, W], rounded to the nearest whole number, 0 for background.
        truth: Likewise; pixels that are not finite are ignored.
        valid: bool [1, T, H, W].
        pairing: Which answer is scored against which truth. `best`: one to one, so that the sum of (J + F) / 2 is
            largest (DAVIS unsupervised: a model cannot know which id an object has). `id`: that of the same id
            (DAVIS semi-supervised). A truth without a partner is scored against an empty mask.
        max_answers: For `best`, only so many objects of the answer take part, the largest.

    Returns:
        [G, 2] in [0, 1], objects in order of id; [0, 2] where the truth has none.

    Source: `davis2017-evaluation`, but over all frames: DAVIS leaves out the first and, semi-supervised, the last.
    """
    usable = valid[0] & truth[0].isfinite()
    seen = usable.flatten(1).any(dim=1)
    true, answered = find_instances(truth, usable), find_instances(answer, usable)
    if len(true.ids) == 0:
        return truth.new_zeros(0, 2, dtype=torch.float64)
    ids = true.ids
    if pairing == "best":
        ids = answered.ids[answered.areas_px.argsort(descending=True, stable=True)[:max_answers]]
    missing = max(len(true.ids) - len(ids), 0)
    ids = torch.cat([ids, ids.new_full((missing,), float("nan"))])  # NaN equals no pixel: an empty mask
    scores = torch.stack(
        [
            torch.stack(
                region_and_boundary(
                    answer[0, t].round() == ids[:, None, None],
                    truth[0, t].round() == true.ids[:, None, None],
                    usable[t],
                    ~answer[0, t].isfinite(),
                ),
                dim=-1,
            )
            for t in seen.nonzero().flatten().tolist()
        ]
    ).mean(dim=0)  # [A, G, 2]
    if pairing == "id":
        return scores.diagonal().T
    rows, columns = pair_one_to_one(scores.mean(dim=-1))
    return scores[rows, columns][columns.argsort()]
