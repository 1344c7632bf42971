"""Instances in id maps: overlaps, COCO's matching and average precision, best overlaps, one-to-one pairing.

Shape legend: P pixels of an image or clip, A answered and G true instances, S overlap thresholds.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# COCO's 0.5:0.05:0.95 and 0:0.01:1, rounded as NumPy's linspace rounds them: an overlap may lie exactly on one.
OVERLAP_THRESHOLDS = (*(i * ((0.95 - 0.5) / 9) + 0.5 for i in range(9)), 0.95)
RECALLS = (*(i * 0.01 for i in range(100)), 1.0)


@dataclass(frozen=True, eq=False)
class Instances:
    """The n instances of an id map, in order of class, then id.

    Attributes:
        labels: int64 [P]: which instance a pixel belongs to, -1 for none.
        classes: Class of each instance [n].
        ids: Id of each instance [n].
        areas_px: Pixels of each instance [n], double.
    """

    labels: Tensor
    classes: Tensor
    ids: Tensor
    areas_px: Tensor


def label_segments(classes: Tensor, ids: Tensor, member: Tensor) -> Instances:
    """Group pixels by class and id.

    Args:
        classes: Class of each pixel [P].
        ids: Id of each pixel [P]; ids of different classes are different instances.
        member: bool [P]; the others belong to no instance.

    Returns:
        The instances that have a pixel.
    """
    kinds, kind = _distinct(classes[member])
    names, name = _distinct(ids[member])
    keys, place = _distinct(kind * len(names) + name)
    areas = torch.bincount(place, minlength=len(keys))
    labels = torch.full(member.shape, -1, dtype=torch.long, device=member.device)
    labels[member] = place
    width = max(len(names), 1)
    return Instances(labels, kinds[keys // width], names[keys % width], areas.double())


def find_instances(native: Tensor, usable: Tensor, class_id: float = 0.0) -> Instances:
    """Instances of an id map; in a clip an id is one instance over all frames.

    Args:
        native: Ids [1, T, H, W], or classes and ids [2, T, H, W], rounded to the nearest whole number. An id of
            0 or less is background; so is a pixel that is not finite.
        usable: bool [T, H, W]; the other pixels belong to no instance.
        class_id: Class of all instances where the map has no classes.

    Returns:
        The instances, over P = T H W pixels.
    """
    flat = native.flatten(1).round()
    classes = flat[0] if len(flat) == 2 else torch.full_like(flat[0], class_id)
    return label_segments(classes, flat[-1], usable.flatten() & flat.isfinite().all(dim=0) & (flat[-1] > 0))


def count_overlaps(answer: Instances, truth: Instances) -> Tensor:
    """Pixels that each answered and each true instance share.

    Args:
        answer: Instances over P pixels.
        truth: Instances over the same pixels.

    Returns:
        [A + 1, G + 1]; row 0 and column 0 count the pixels of no instance.
    """
    width = len(truth.ids) + 1
    cells = (answer.labels + 1) * width + truth.labels + 1
    counts = torch.bincount(cells, minlength=(len(answer.ids) + 1) * width)
    return counts.reshape(-1, width).to(truth.areas_px.dtype)


def mask_iou(answer: Instances, truth: Instances, unknown: Tensor | None = None) -> Tensor:
    """Intersection over union of each answered and each true instance, of whatever class.

    Args:
        answer: Instances over P pixels.
        truth: Instances over the same pixels.
        unknown: bool [P], pixels without an answer (of no answered instance): they count as the opposite of the
            truth, so they are in every union.

    Returns:
        [A, G] in [0, 1].
    """
    shared = count_overlaps(answer, truth)[1:, 1:]
    union = answer.areas_px[:, None] + truth.areas_px - shared
    if unknown is not None:
        inside = torch.bincount(truth.labels[unknown] + 1, minlength=len(truth.ids) + 1)[1:]
        union = union + unknown.sum() - inside
    return shared / union


def match_detections(overlap: Tensor, scores: Tensor, ignored: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Match answers to truths by COCO's rule, once for each of the ten thresholds 0.50, 0.55 .. 0.95.

    Best score first, an answer takes the truth it overlaps most among those that are free and overlap it by the
    threshold or more; an ignored truth only where no other is left. Of equal overlaps the last wins, of equal scores
    the first.

    Args:
        overlap: [A, G] in [0, 1]: IoU, or OKS, of answers and truths of one class in one image.
        scores: [A], larger is surer.
        ignored: bool [G]; truths that count neither way. None by default.

    Returns:
        bool [A, S], bool [A, S]: matched to a truth that counts; matched to an ignored one.

    Source: Lin et al., "Microsoft COCO", ECCV 2014; `COCOeval.evaluateImg` of pycocotools, without crowds.
    """
    answers, truths = overlap.shape
    hits = torch.zeros(answers, len(OVERLAP_THRESHOLDS), dtype=torch.bool, device=overlap.device)
    aside = hits.clone()
    if truths == 0:
        return hits, aside
    ignored = torch.zeros(truths, dtype=torch.bool, device=overlap.device) if ignored is None else ignored
    limits = overlap.new_tensor(OVERLAP_THRESHOLDS).clamp(max=1 - 1e-10)[:, None]
    free = torch.ones(len(limits), truths, dtype=torch.bool, device=overlap.device)
    for i in scores.argsort(descending=True, stable=True).tolist():
        fits = free & (overlap[i] >= limits)
        regular = fits & ~ignored
        fits = torch.where(regular.any(dim=1, keepdim=True), regular, fits)
        # argmax takes the first of equals; COCO the last
        best = truths - 1 - torch.where(fits, overlap[i], -1.0).flip(1).argmax(dim=1)
        found = fits.any(dim=1)
        free[found, best[found]] = False
        hits[i], aside[i] = found & ~ignored[best], found & ignored[best]
    return hits, aside


def average_precision(scores: Tensor, hits: Tensor, misses: Tensor, truths: int) -> Tensor:
    """Precision averaged over 101 recalls, of the answers of one class in a whole set.

    Precision at a recall is the best precision at that recall or a higher one, 0 where the recall is never reached.

    Args:
        scores: [n], larger is surer; equal scores keep their order.
        hits: bool [n, S], matched to a truth that counts.
        misses: bool [n, S], matched to none. An answer that is neither does not count.
        truths: Number of truths that count.

    Returns:
        [S] in [0, 1]; 0 without a hit, NaN without a truth.

    Source: `COCOeval.accumulate` of pycocotools.
    """
    if truths == 0:
        return scores.new_full((hits.shape[1],), float("nan"))
    if len(scores) == 0:
        return scores.new_zeros(hits.shape[1])
    order = scores.argsort(descending=True, stable=True)
    right, wrong = (flags[order].T.to(scores.dtype).cumsum(dim=1) for flags in (hits, misses))
    precision = right / (right + wrong + torch.finfo(torch.float64).eps)
    envelope = precision.flip(1).cummax(dim=1).values.flip(1)
    recalls = scores.new_tensor(RECALLS).expand(len(right), -1).contiguous()
    place = torch.searchsorted((right / truths).contiguous(), recalls)
    reached = place < len(scores)
    return torch.where(reached, envelope.gather(1, place.clamp(max=len(scores) - 1)), 0.0).mean(dim=1)


def best_overlaps(overlap: Tensor) -> Tensor:
    """The largest overlap of each truth with any answer; an answer may serve several truths.

    Args:
        overlap: [A, G] in [0, 1].

    Returns:
        [G]; 0 without an answer. Their mean is the average best overlap.

    Source: Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, section 5.1.
    """
    return overlap.amax(dim=0) if len(overlap) else overlap.new_zeros(overlap.shape[1])


def pair_one_to_one(gain: Tensor) -> tuple[Tensor, Tensor]:
    """Pair rows with columns, each at most once, so that the sum of the paired gains is largest.

    Args:
        gain: Finite [m, n].

    Returns:
        int64 [min(m, n)] rows and columns, in order of row where m <= n, else of column.

    Source: shortest augmenting paths; Jonker and Volgenant, Computing 1987. As SciPy's `linear_sum_assignment`.
    """
    if gain.shape[0] > gain.shape[1]:
        columns, rows = pair_one_to_one(gain.T)
        return rows, columns
    cost = [[-value for value in row] for row in gain.tolist()]
    m, n = gain.shape
    row_price, column_price = [0.0] * m, [0.0] * n
    row_of = [-1] * n
    for start in range(m):
        _augment(start, cost, row_price, column_price, row_of)
    column_of = sorted((row, column) for column, row in enumerate(row_of) if row >= 0)
    pairs = torch.tensor(column_of, dtype=torch.long, device=gain.device).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _distinct(values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct whole numbers among the values [P], ascending, and which of them each value is, int64 [P]."""
    span = float(values.max() - values.min()) if len(values) else math.inf
    if span > 2**20:
        return torch.unique(values, return_inverse=True)
    lowest = values.min().long()  # a table is ten times as fast as unique, which sorts
    offset = values.long() - lowest
    present = torch.zeros(int(span) + 1, dtype=torch.bool, device=values.device)
    present[offset] = True
    return (present.nonzero().squeeze(1) + lowest).to(values.dtype), (present.cumsum(0) - 1)[offset]


def _augment(
    start: int, cost: list[list[float]], row_price: list[float], column_price: list[float], row_of: list[int]
) -> None:
    """Give row `start` a column along the cheapest path of swaps; changes the prices and `row_of` in place."""
    n = len(row_of)
    distance, came_from, seen = [float("inf")] * n, [-1] * n, [False] * n
    row, column, length = start, -1, 0.0
    reached: list[tuple[int, float]] = []
    while row >= 0:
        for j in range(n):
            step = length + cost[row][j] - row_price[row] - column_price[j]
            if not seen[j] and step < distance[j]:
                distance[j], came_from[j] = step, column
        column = min((j for j in range(n) if not seen[j]), key=distance.__getitem__)
        seen[column], length = True, distance[column]
        row = row_of[column]
        reached.append((column, length))
    row_price[start] += length
    for j, at in reached[:-1]:
        row_price[row_of[j]] += length - at
        column_price[j] -= length - at
    while column >= 0:
        previous = came_from[column]
        row_of[column] = start if previous < 0 else row_of[previous]
        column = previous
