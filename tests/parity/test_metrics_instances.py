"""Instance masks and their figures against pycocotools, pairing against scipy."""

import numpy as np
import pytest
import torch

from instance_samples import W, best_overlap, blobs, coco_masks, everywhere, figures, masks_of, random_samples
from lavindit.metrics import InstanceMetric
from lavindit.metrics import functional as MF
from lavindit.metrics.functional.instances import OVERLAP_THRESHOLDS, RECALLS

# pycocotools and scipy are imported where they are used: the spawned processes import this file too.


def test_thresholds_are_cocos() -> None:
    assert np.array_equal(OVERLAP_THRESHOLDS, np.linspace(0.5, 0.95, 10))
    assert np.array_equal(RECALLS, np.linspace(0, 1, 101))


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_against_pycocotools(seed: int, by_class: bool) -> None:
    samples = random_samples(seed, by_class=by_class)
    found = figures(InstanceMetric(), *samples)
    assert 10 < found["ap"] < 90
    expected = [*coco_masks(samples), best_overlap(samples)]
    assert list(found.values()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_with_scores_against_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = [(a, t, v, {"scores": dict(enumerate(rng.random(20)))}) for a, t, v, _ in random_samples(seed)]
    found = figures(InstanceMetric(), *samples)
    assert list(found.values())[:3] == pytest.approx(coco_masks(samples), rel=1e-9)
    assert found["ap"] != pytest.approx(figures(InstanceMetric(), *random_samples(seed))["ap"])
    few = [(a, t, v, {"scores": {1: 0.5}}) for a, t, v, _ in samples]  # the others come last, but come
    assert 0 < figures(InstanceMetric(), *few)["ap"] < 100
    tied = [(a, t, v, {"scores": dict.fromkeys(range(20), 0.5)}) for a, t, v, _ in samples]
    assert list(figures(InstanceMetric(), *tied).values())[:3] == pytest.approx(coco_masks(tied), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_small_ones_left_aside_against_pycocotools(seed: int) -> None:
    samples, smallest = random_samples(seed, by_class=True), 120
    metric = InstanceMetric(min_area_px=smallest)
    found = figures(metric, *samples)
    expected = [*coco_masks(samples, area_px=(smallest, 1e10)), best_overlap(samples, smallest)]
    assert list(found.values()) == pytest.approx(expected, rel=1e-9)
    assert found["ap"] != pytest.approx(figures(InstanceMetric(), *samples)["ap"])
    small = sum(
        mask.sum() < smallest for _, t, v, _ in samples for _, _, mask in masks_of(t, v.numpy().reshape(-1, W), 0)
    )
    assert metric.left_aside() == small > 0


def test_classes_of_samples_against_pycocotools() -> None:
    samples = [(a, t, v, {"class_id": i % 2}) for i, (a, t, v, _) in enumerate(random_samples(7))]
    found = figures(InstanceMetric(), *samples)
    assert list(found.values()) == pytest.approx([*coco_masks(samples), best_overlap(samples)], rel=1e-9)
    agnostic = figures(InstanceMetric(by_class=False), *samples)
    assert agnostic == figures(InstanceMetric(), *random_samples(7))
    maps = random_samples(7, by_class=True)
    assert figures(InstanceMetric(by_class=False), *maps) == pytest.approx(agnostic)


def test_only_the_best_answers_against_pycocotools() -> None:
    samples = random_samples(8)
    metric = InstanceMetric(max_instances=4)
    found = figures(metric, *samples)
    # COCO keeps all truths where we keep the four largest, so hers are given four to begin with.
    largest = []
    for answer, truth, valid, meta in samples:
        ids = MF.find_instances(truth, valid[0])
        kept = ids.ids[ids.areas_px.argsort(descending=True, stable=True)[:4]]
        largest.append((answer, torch.where(torch.isin(truth, kept), truth, 0.0), valid, meta))
    assert metric.left_aside() == sum(len(MF.find_instances(t, v[0]).ids) for _, t, v, _ in samples) - 4 * 5
    assert list(figures(InstanceMetric(max_instances=4), *largest).values())[:3] == pytest.approx(
        coco_masks(largest, most=4), rel=1e-9
    )
    assert found["ap"] >= figures(InstanceMetric(max_instances=4), *largest)["ap"]


def test_a_clip_is_one_space_against_pycocotools() -> None:
    samples = []
    for seed in range(3):
        truth = torch.cat([blobs(seed), blobs(seed, 0.5)], dim=1)
        answer = torch.cat([blobs(seed, 1.0), blobs(seed, 1.5)], dim=1)
        samples.append((answer, truth, everywhere(truth), {}))
    found = figures(InstanceMetric(), *samples)
    assert list(found.values()) == pytest.approx([*coco_masks(samples), best_overlap(samples)], rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_pairing_against_scipy(seed: int) -> None:
    from scipy.optimize import linear_sum_assignment

    g = torch.Generator().manual_seed(seed)
    rows, columns = torch.randint(0, 9, (2,), generator=g).tolist()
    gain = torch.rand(rows, columns, generator=g, dtype=torch.float64)
    if seed % 2:
        gain = (4 * gain).floor()  # many ties
    chosen, partner = MF.pair_one_to_one(gain)
    assert len(chosen) == len(partner) == min(rows, columns)
    assert len(set(chosen.tolist())) == len(set(partner.tolist())) == len(chosen)
    best = linear_sum_assignment(gain.numpy(), maximize=True)
    assert float(gain[chosen, partner].sum()) == pytest.approx(float(gain.numpy()[best].sum()), abs=1e-12)


# ---------------------------------------------------------------- by hand
