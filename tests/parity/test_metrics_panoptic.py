"""Panoptic quality against panopticapi's rule, written out, and against torchmetrics."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lavindit.metrics import PanopticMetric
from lavindit.metrics import functional as MF

THINGS, STUFF, VOID = (1, 4), (2, 7), 0
SHAPE = (1, 40, 56)  # T, H, W


def regions(seed: int, jitter: float = 0.0, mistakes: float = 0.0, count: int = 14) -> Tensor:
    """Classes and ids [2, 1, 40, 56] of random regions; the same seed with some jitter is nearly the same picture."""
    truth, change = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    points = truth.random((count, 2)) * SHAPE[1:]
    classes = truth.choice([VOID, *THINGS, *STUFF], count)
    ids = truth.integers(0, 3, count)  # some regions share their id, as pieces of one segment or across classes
    points += jitter * change.standard_normal(points.shape)
    wrong = change.random(count) < mistakes
    classes = np.where(wrong, change.choice([*THINGS, *STUFF], count), classes)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    nearest = ((points[:, 0, None, None] - y) ** 2 + (points[:, 1, None, None] - x) ** 2).argmin(0)
    return torch.from_numpy(np.stack([classes[nearest], ids[nearest]]))[:, None].double()


def everywhere(native: Tensor) -> Tensor:
    return torch.ones_like(native[:1]).bool()


def metric_of(samples: list[tuple[Tensor, Tensor, Tensor]]) -> PanopticMetric:
    metric = PanopticMetric(THINGS, STUFF)
    for number, (answer, truth, valid) in enumerate(samples):
        metric.update(answer, truth, valid, number)
    return metric


def figures(*samples: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metric_of(list(samples)).compute().items()}


def segment_names(native: Tensor, known: np.ndarray) -> np.ndarray:
    """Each pixel's segment as a tuple, None for void."""
    names = np.full(native[0].numel(), None, dtype=object)
    for p, (kind, name) in enumerate(native.flatten(1).T.tolist()):
        if known[p] and kind in THINGS + STUFF:
            names[p] = (kind, name if kind in THINGS else 0)
    return names


def panopticapi(samples: list[tuple[Tensor, Tensor, Tensor]]) -> list[float]:
    """PQ, SQ, RQ in %: the loops of `pq_compute_single_core` and `pq_average`."""
    stat: dict[float, dict[str, float]] = defaultdict(lambda: {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0})
    for answer, truth, valid in samples:
        t = segment_names(truth, valid.flatten().numpy())
        a = segment_names(answer, np.ones(len(t), dtype=bool))
        area: dict[Any, int] = defaultdict(int)
        for p in range(len(t)):
            area["t", t[p]] += 1
            area["a", a[p]] += 1
            area[t[p], a[p]] += 1
        matched = set()
        for true in set(t) - {None}:
            for answered in set(a) - {None}:
                if true[0] != answered[0]:
                    continue
                shared = area[true, answered]
                iou = shared / (area["t", true] + area["a", answered] - shared - area[None, answered])
                if iou > 0.5:
                    stat[true[0]]["iou"] += iou
                    stat[true[0]]["tp"] += 1
                    matched |= {("t", true), ("a", answered)}
        for true in set(t) - {None}:
            stat[true[0]]["fn"] += ("t", true) not in matched
        for answered in set(a) - {None}:
            if ("a", answered) not in matched and area[None, answered] / area["a", answered] <= 0.5:
                stat[answered[0]]["fp"] += 1
    quality = []
    for s in stat.values():
        segments = s["tp"] + 0.5 * s["fp"] + 0.5 * s["fn"]
        if segments:
            quality.append((s["iou"] / segments, s["iou"] / s["tp"] if s["tp"] else 0, s["tp"] / segments))
    return [100 * float(value) for value in np.mean(quality, axis=0)]


def random_samples(seed: int, void_answers: bool = False) -> list[tuple[Tensor, Tensor, Tensor]]:
    samples = []
    for number in range(4):
        truth = regions(10 * seed + number)
        answer = regions(10 * seed + number, jitter=2.0, mistakes=0.2)
        if not void_answers:
            answer[0] = torch.where(answer[0] == VOID, 7.0, answer[0])
        valid = everywhere(truth)
        valid[..., 5:15, 20:40] = False
        samples.append((answer, truth, valid))
    return samples


@pytest.mark.parametrize("void_answers", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_against_panopticapi(seed: int, void_answers: bool) -> None:
    samples = random_samples(seed, void_answers)
    found = figures(*samples)
    assert 5 < found["pq"] < 95
    assert list(found.values()) == pytest.approx(panopticapi(samples), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_against_torchmetrics(seed: int) -> None:
    """In its single precision, and where the answer has no void, which it treats in another way."""
    from torchmetrics.detection import PanopticQuality

    reference = PanopticQuality(set(THINGS), set(STUFF), return_sq_and_rq=True)
    samples = random_samples(seed)
    for answer, truth, valid in samples:
        void = torch.where(valid, truth, VOID)
        reference.update(answer[:, 0].movedim(0, -1)[None].long(), void[:, 0].movedim(0, -1)[None].long())
    assert list(figures(*samples).values()) == pytest.approx((100 * reference.compute()).tolist(), rel=1e-6)


def test_by_hand() -> None:
    kinds = torch.tensor([1.0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    ids = torch.tensor([1.0, 1, 1, 2, 2, 2, 5, 6, 7, 8])  # two things and one stuff
    truth = torch.stack([kinds, ids]).reshape(2, 1, 1, 10)
    answer = truth.clone()
    answer[1, ..., 2] = 2  # thing 1: 2 of 3 pixels; thing 2: 3 of 4
    found = figures((answer, truth, everywhere(truth)))
    assert found == pytest.approx({"pq": 100 * ((2 / 3 + 3 / 4) / 2 + 1) / 2, "sq": 100 * (17 / 24 + 1) / 2, "rq": 100})
    answer[1, ..., 2:4] = 3  # thing 1: 2 of 3; thing 2: 2 of 3; and one that is none
    found = figures((answer, truth, everywhere(truth)))
    assert found["pq"] == pytest.approx(100 * ((2 / 3 + 2 / 3) / 2.5 + 1) / 2)
    answer[0, ..., :6] = 4  # another class: three wrong things of class 4, two missed of class 1
    assert figures((answer, truth, everywhere(truth))) == pytest.approx({"pq": 100 / 3, "sq": 100 / 3, "rq": 100 / 3})
    half = torch.stack([torch.tensor([1.0, 1, 0, 0]), torch.ones(4)]).reshape(2, 1, 1, 4)
    other = torch.stack([torch.tensor([1.0, 0, 0, 0]), torch.ones(4)]).reshape(2, 1, 1, 4)
    assert figures((other, half, everywhere(half)))["pq"] == 0  # an IoU of exactly one half is no match


def test_void() -> None:
    truth = torch.stack([torch.tensor([1.0, 1, 1, 0, 0, 0]), torch.ones(6)]).reshape(2, 1, 1, 6)
    wide = torch.ones_like(truth)
    valid = everywhere(truth)
    assert figures((wide, truth, valid))["pq"] == 100  # void counts for nobody
    extra = wide.clone()
    extra[1, ..., 2:] = 2  # a second thing, 3 of 4 pixels in void: no false positive
    assert figures((extra, truth, valid))["pq"] == pytest.approx(100 * 2 / 3)
    extra[1, ..., 3:] = 1
    extra[1, ..., 2] = 2  # one that lies on the truth
    assert figures((extra, truth, valid))["pq"] == pytest.approx(100 * (2 / 3) / 1.5)
    half = torch.ones_like(truth)
    half[0, ..., 5] = 0
    extra = torch.ones_like(truth)
    extra[1, ..., 4:] = 2  # one pixel of two in void: exactly half does not excuse it
    assert figures((extra, half, valid))["pq"] == pytest.approx(100 * (4 / 5) / 1.5)
    hidden = truth.clone()
    hidden[0, ..., 3:] = 1
    valid[..., 3:] = False
    assert figures((wide, hidden, valid))["pq"] == 100
    assert figures((truth, hidden, valid))["pq"] == 100
    nothing = torch.full_like(truth, math.nan)
    assert figures((nothing, hidden, valid)) == {"pq": 0, "sq": 0, "rq": 0}
    assert figures((torch.zeros_like(truth), hidden, valid)) == {"pq": 0, "sq": 0, "rq": 0}


def test_stuff_needs_no_id() -> None:
    truth = regions(3)
    answer = torch.where(torch.isin(truth[:1], torch.tensor(STUFF).double()), torch.nan, truth)
    answer[0] = truth[0]
    assert figures((answer, answer.clone(), everywhere(truth)))["pq"] == 100


def test_perfect_is_ideal_and_worse_is_worse() -> None:
    truths = [regions(seed) for seed in range(3)]
    perfect = figures(*((truth, truth, everywhere(truth)) for truth in truths))
    assert tuple(perfect.values()) == PanopticMetric.ideals
    last = perfect
    for mistakes in (0.2, 0.6):
        answers = [regions(seed, 1.5, mistakes) for seed in range(3)]
        found = figures(*((a, t, everywhere(t)) for a, t in zip(answers, truths, strict=True)))
        assert found["pq"] < last["pq"]
        assert found["rq"] < last["rq"]
        last = found
    for bad in (math.nan, math.inf, -math.inf):
        some = truths[0].clone()
        some[:, :, :12] = bad
        partly = figures((some, truths[0], everywhere(some)))
        wholly = figures((torch.full_like(some, bad), truths[0], everywhere(some)))
        assert 0 < partly["pq"] < 100
        assert wholly == {"pq": 0, "sq": 0, "rq": 0}


def test_degenerate_samples() -> None:
    truth, nowhere = regions(0), torch.zeros(1, *SHAPE).bool()
    answer = regions(0, 2.0, 0.3)
    assert all(math.isnan(value) for value in figures((answer, truth, nowhere)).values())
    void = torch.zeros_like(truth)  # valid, but of no class
    assert all(math.isnan(value) for value in figures((answer, void, everywhere(truth))).values())
    alone = figures((answer, truth, everywhere(truth)))
    assert figures((answer, truth, everywhere(truth)), (answer, truth, nowhere)) == alone
    spoilt = truth.clone()
    spoilt[:, :, 20:30] = math.nan
    masked = everywhere(truth)
    masked[:, :, 20:30] = False
    assert figures((answer, spoilt, everywhere(truth))) == figures((answer, truth, masked))
    whole = MF.panoptic_counts(answer.long(), truth.long(), everywhere(truth), THINGS, STUFF)
    assert torch.equal(whole, MF.panoptic_counts(answer, truth, everywhere(truth), THINGS, STUFF))


def test_a_clip_is_one_space() -> None:
    truth = torch.cat([regions(5), regions(5, 1.0)], dim=1)
    answer = torch.cat([regions(5), regions(5, 3.0)], dim=1)
    stacked = [native.reshape(2, 1, -1, SHAPE[2]) for native in (answer, truth)]
    expected = panopticapi([(stacked[0], stacked[1], everywhere(stacked[1]))])
    assert list(figures((answer, truth, everywhere(truth))).values()) == pytest.approx(expected, rel=1e-9)
    swapped = answer.clone()
    swapped[1, 1] = 2 - swapped[1, 1]  # the second frame exchanges its ids
    assert figures((swapped, truth, everywhere(truth)))["pq"] < figures((answer, truth, everywhere(truth)))["pq"]


def test_pools_over_the_set_and_counts_a_sample_once() -> None:
    samples = random_samples(2)
    metric = metric_of(samples)
    metric.update(*samples[0], 0)
    metric.update(*samples[2], 2)
    assert list(metric.compute().values()) == pytest.approx(panopticapi(samples), rel=1e-9)
    assert metric.unique_rows().shape == (4, 16)
    assert all(float(value) > 0 for value in metric.standard_error().values())


def test_classes_are_named_once() -> None:
    for things, stuff in (((), ()), ((1, 2), (2,))):
        with pytest.raises(ValueError, match="at least one class, each once"):
            PanopticMetric(things, stuff)
