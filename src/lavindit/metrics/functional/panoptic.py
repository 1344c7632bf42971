"""Panoptic quality: every pixel has a class, and things are told apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.metrics.functional.instances import Instances, count_overlaps, label_segments


def panoptic_counts(
    answer: Tensor, truth: Tensor, valid: Tensor, things: Sequence[int], stuff: Sequence[int]
) -> Tensor:
    """Match the segments of an image, or of a clip as a whole, and count by class.

    An answered and a true segment of one class match where their IoU is above 0.5, which leaves at most one partner.
    A void pixel of the truth (invalid, not finite or of no listed class) is taken out of the unions; an unmatched
    answer that lies for more than half in void is no false positive. A void pixel of the answer belongs to no segment
    and stays in the truth's area.

    Args:
        answer: Classes and ids [2, T, H, W], rounded to the nearest whole number; void where not finite.
        truth: Likewise. A segment is the pixels of one class and one id; 0 is an id like any other.
        valid: bool [1, T, H, W].
        things: Classes whose ids tell segments apart.
        stuff: Classes that are one segment an image, whatever the ids.

    Returns:
        [len(things) + len(stuff), 4], in the order given: sum of the matches' IoU, matches (TP), false positives (FP),
        misses (FN), double; NaN where the whole truth is void.

    Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4; `panopticapi`, without crowds.
    """
    classes = torch.tensor([*things, *stuff], dtype=torch.float64, device=truth.device)
    true = _segments(truth, valid[0], classes, len(things))
    answered = _segments(answer, torch.ones_like(valid[0]), classes, len(things))
    counts = torch.zeros(len(classes), 4, dtype=torch.float64, device=truth.device)
    if len(true.ids) == 0:
        return counts.fill_(float("nan"))
    overlaps = count_overlaps(answered, true)
    shared, in_void = overlaps[1:, 1:], overlaps[1:, 0]
    union = (answered.areas_px - in_void)[:, None] + true.areas_px - shared
    iou = shared / union
    matches = (iou > 0.5) & (answered.classes[:, None] == true.classes)
    found, used = matches.any(dim=0), matches.any(dim=1)
    wrong = ~used & (in_void / answered.areas_px <= 0.5)
    kind, answered_kind = true.classes.long(), answered.classes.long()
    counts[:, 0].index_add_(0, kind, torch.where(matches, iou, 0.0).sum(dim=0))
    counts[:, 1].index_add_(0, kind, found.to(counts.dtype))
    counts[:, 2].index_add_(0, answered_kind, wrong.to(counts.dtype))
    counts[:, 3].index_add_(0, kind, (~found).to(counts.dtype))
    return counts


def panoptic_quality(counts: Tensor) -> Tensor:
    """Panoptic, segmentation and recognition quality of each class.

    `SQ = sum(IoU) / TP`, `RQ = TP / (TP + FP / 2 + FN / 2)`, `PQ = SQ * RQ`.

    Args:
        counts: [classes, 4] of `panoptic_counts`, summed over the set.

    Returns:
        [classes, 3] in [0, 1]: PQ, SQ, RQ; 0 for a class without a match, NaN for one that neither truth nor answer
        shows. The figures of a set are the means over the other classes.
    """
    iou, right, wrong, missed = counts.unbind(dim=-1)
    segments = right + wrong / 2 + missed / 2
    quality = torch.stack([iou / segments, iou / right.clamp(min=1), right / segments], dim=-1)
    return torch.where(segments[..., None] > 0, quality, float("nan"))


def _segments(native: Tensor, usable: Tensor, classes: Tensor, things: int) -> Instances:
    """Segments of a map [2, T, H, W]; their `classes` are places in the list of classes, the first `things` things."""
    kind, ids = native.flatten(1).double().round()
    ascending, order = classes.sort()
    at = torch.searchsorted(ascending, kind.contiguous()).clamp(max=len(classes) - 1)
    place = order[at]
    is_thing = place < things
    # Stuff needs no id: its own is not read, so it may be anything.
    known = usable.flatten() & (ascending[at] == kind) & (ids.isfinite() | ~is_thing)
    return label_segments(place.double(), torch.where(is_thing, ids, 0.0), known)
