"""Instance masks against pycocotools; matching, pooling and pairing by hand; and all such metrics on two processes."""

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lavindit.metrics import BoxMetric, InstanceMetric, KeypointMetric, PanopticMetric, RowMetric, VideoMaskMetric
from lavindit.metrics import functional as MF
from lavindit.metrics.functional.instances import OVERLAP_THRESHOLDS, RECALLS

# pycocotools and scipy are imported where they are used: the spawned processes import this file too.

H, W = 40, 56
Sample = tuple[Tensor, Tensor, Tensor, dict[str, Any]]  # answer, truth, valid, meta


def blobs(seed: int, jitter: float = 0.0, count: int = 16) -> Tensor:
    """Ids [1, 1, 40, 56] of random regions, a third of them background; jitter moves and sometimes merges them."""
    truth, change = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    points = truth.random((count, 2)) * (H, W) + jitter * change.standard_normal((count, 2))
    ids = np.where(truth.random(count) < 0.35, 0, truth.permutation(count) + 1)
    if jitter:
        ids = np.where(change.random(count) < 0.2, change.integers(0, count, count), ids)
    y, x = np.mgrid[:H, :W]
    nearest = ((points[:, 0, None, None] - y) ** 2 + (points[:, 1, None, None] - x) ** 2).argmin(0)
    return torch.from_numpy(ids[nearest])[None, None].double()


def with_classes(ids: Tensor) -> Tensor:
    """Three classes, by id."""
    return torch.cat([ids % 3, ids])


def everywhere(native: Tensor) -> Tensor:
    return torch.ones_like(native[:1]).bool()


def random_samples(seed: int, count: int = 5, by_class: bool = False) -> list[Sample]:
    samples: list[Sample] = []
    for number in range(count):
        pair = [blobs(100 * seed + number, jitter) for jitter in (1.5, 0.0)]
        valid = everywhere(pair[0])
        valid[..., :7, 30:45] = False
        answer, truth = [with_classes(native) for native in pair] if by_class else pair
        samples.append((answer, truth, valid, {}))
    return samples


def feed(metric: RowMetric, samples: Sequence[tuple], numbers: Sequence[int] | None = None) -> RowMetric:
    for number in range(len(samples)) if numbers is None else numbers:
        answer, truth, valid, *meta = samples[number]
        metric.update(answer, truth, valid, number, *meta)
    return metric


def figures(metric: RowMetric, *samples: tuple) -> dict[str, float]:
    return {name: float(value) for name, value in feed(metric, samples).compute().items()}


# ---------------------------------------------------------------- the reference


def coco_figures(
    truths: list[dict[str, Any]],
    answers: list[dict[str, Any]],
    kind: str,
    images: int,
    area_px: tuple[float, float] = (0, 1e10),
    most: int = 100,
    sigmas: Sequence[float] | None = None,
) -> list[float]:
    """AP, AP50 and AP75 in % by COCOeval, of annotations and results without their ids."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    classes = sorted({t["category_id"] for t in truths} | {a["category_id"] for a in answers})
    dataset = coco.COCO()
    dataset.dataset = {
        "info": {},
        "images": [{"id": i, "height": H, "width": W} for i in range(images)],
        "categories": [{"id": c, "name": str(c)} for c in classes],
        "annotations": [{"id": i + 1, "iscrowd": 0, **t} for i, t in enumerate(truths)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.createIndex()
        run = evaluation.COCOeval(dataset, dataset.loadRes(answers), kind)
        run.params.areaRng, run.params.areaRngLbl, run.params.maxDets = [list(area_px)], ["all"], [most]
        if sigmas is not None:
            run.params.kpt_oks_sigmas = np.array(sigmas)
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 0, 0]  # [threshold, recall, class]
    parts = [precision, precision[run.params.iouThrs == 0.5], precision[run.params.iouThrs == 0.75]]
    return [100 * float(part[part > -1].mean()) for part in parts]


def masks_of(native: Tensor, usable: np.ndarray, class_id: int) -> list[tuple[int, int, np.ndarray]]:
    """(class, id, mask [T H, W]) of each instance: frames lie below one another, so a clip is one image."""
    maps = native.numpy().reshape(len(native), -1, W)
    kinds = maps[0] if len(maps) == 2 else np.full_like(maps[0], class_id)
    found = []
    for kind in np.unique(kinds):
        for name in np.unique(maps[-1]):
            mask = (kinds == kind) & (maps[-1] == name) & usable
            if name > 0 and mask.any():
                found.append((int(kind), int(name), mask))
    return found


def coco_masks(samples: Sequence[Sample], **options: Any) -> list[float]:
    from_mask = pytest.importorskip("pycocotools.mask")
    truths, answers = [], []
    for image, (answer, truth, valid, meta) in enumerate(samples):
        usable = valid.numpy().reshape(-1, W)
        for native, into in ((truth, truths), (answer, answers)):
            for kind, name, mask in masks_of(native, usable, meta.get("class_id", 0)):
                score = meta["scores"][name] if "scores" in meta else int(mask.sum())
                into.append(
                    {
                        "image_id": image,
                        "category_id": kind,
                        "segmentation": from_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
                        "area": int(mask.sum()),
                        **({"score": score} if into is answers else {}),
                    }
                )
    return coco_figures(truths, answers, "segm", len(samples), **options)


def best_overlap(samples: Sequence[Sample], smallest: int = 0) -> float:
    """Mean over classes of the mean best IoU, in %, by loops."""
    best: dict[int, list[float]] = {}
    for answer, truth, valid, meta in samples:
        usable = valid.numpy().reshape(-1, W)
        answered = masks_of(answer, usable, meta.get("class_id", 0))
        for kind, _, true in masks_of(truth, usable, meta.get("class_id", 0)):
            if true.sum() >= smallest:
                ious = [(true & mask).sum() / (true | mask).sum() for other, _, mask in answered if other == kind]
                best.setdefault(kind, []).append(max(ious, default=0))
    return 100 * float(np.mean([np.mean(values) for values in best.values()]))


# ---------------------------------------------------------------- parity


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


def strip(*ids: float) -> Tensor:
    return torch.tensor(ids).reshape(1, 1, 1, -1)


def test_by_hand() -> None:
    truth = strip(1, 1, 1, 1, 0, 0, 2, 2, 2, 2)
    answer = strip(5, 5, 5, 0, 0, 9, 0, 0, 3, 3)  # IoU 3/4, none, 2/4; ranked in this order, but 3 before 9
    found = figures(InstanceMetric(), (answer, truth, everywhere(truth)))
    # Right at 0.50 .. 0.75 (6 of 10 thresholds): the first; at 0.50 the other as well, ranked second.
    half = 51 / 101  # recalls 0 .. 0.5 are reached at full precision
    assert found["ap50"] == pytest.approx(100)
    assert found["ap75"] == pytest.approx(100 * half)
    assert found["ap"] == pytest.approx(100 * (1 + 5 * half) / 10)
    assert found["mbo"] == pytest.approx(100 * (3 / 4 + 2 / 4) / 2)
    last = strip(5, 5, 5, 0, 9, 9, 9, 9, 3, 3)  # now a false one comes first: IoU of 9 and 2 is 2/6
    found = figures(InstanceMetric(), (last, truth, everywhere(truth)))
    assert found["ap50"] == pytest.approx(100 * 2 / 3)
    assert found["ap75"] == pytest.approx(100 * half / 2)


def test_an_id_is_one_instance_over_the_clip() -> None:
    """Two objects for four frames. An answer that exchanges their ids half-way has the right masks, and half an IoU."""
    frame = torch.tensor([1.0, 1, 0, 2, 2]).reshape(1, 1, 1, 5)
    truth = frame.repeat(1, 4, 1, 1)
    swapped = truth.clone()
    swapped[:, 2:] = torch.where(truth[:, 2:] > 0, 3 - truth[:, 2:], 0.0)
    valid = everywhere(truth)
    assert set(figures(InstanceMetric(), (truth, truth, valid)).values()) == {100}
    found = figures(InstanceMetric(), (swapped, truth, valid))  # 4 of 12 pixels: in two frames of four
    assert (found["ap50"], found["mbo"]) == pytest.approx((0, 100 / 3))
    late = truth.clone()
    late[:, :1] = 0  # both missed in the first frame: IoU 3/4, right at 0.50 .. 0.75
    assert figures(InstanceMetric(), (late, truth, valid)) == pytest.approx(
        {"ap": 60, "ap50": 100, "ap75": 100, "mbo": 75}
    )


def test_an_answer_serves_one_truth_of_its_class() -> None:
    truth = strip(1, 1, 1, 1, 1, 1)
    split = strip(1, 1, 1, 2, 2, 2)  # both have an IoU of 0.5, and only one may match
    found = figures(InstanceMetric(), (split, truth, everywhere(truth)))
    assert (found["ap50"], found["ap75"]) == pytest.approx((100, 0))
    other = torch.cat([torch.ones_like(truth), truth])
    zero = torch.cat([torch.zeros_like(truth), truth])
    assert figures(InstanceMetric(), (zero, other, everywhere(truth)))["ap"] == 0
    assert figures(InstanceMetric(by_class=False), (zero, other, everywhere(truth)))["ap"] == pytest.approx(100)


def test_matching_by_hand() -> None:
    overlap = torch.tensor([[0.6, 0.6, 0.9], [0.0, 0.55, 0.7], [0.6, 0.0, 0.0]], dtype=torch.float64)
    hits, aside = MF.match_detections(overlap, torch.tensor([3.0, 2.0, 1.0]), torch.tensor([False, False, True]))
    # The first prefers a truth that counts, of equals the last; the second is left with the ignored one above 0.5.
    assert hits[:, 0].tolist() == [True, False, True]
    assert aside[:, 0].tolist() == [False, True, False]
    assert aside[0].tolist() == [False] * 3 + [True] * 6 + [False]
    for shape in ((0, 3), (3, 0), (0, 0)):
        hits, aside = MF.match_detections(torch.zeros(shape), torch.zeros(shape[0]))
        assert hits.shape == aside.shape == (shape[0], 10)
        assert not hits.any()


# ---------------------------------------------------------------- degenerate


def test_empty_pictures() -> None:
    truth, empty = blobs(0), torch.zeros(1, 1, H, W)
    valid = everywhere(truth)
    assert set(figures(InstanceMetric(), (empty, truth, valid)).values()) == {0}
    for metric in (InstanceMetric(), BoxMetric()):
        for answer in (empty, truth, torch.full_like(empty, math.nan)):
            assert all(math.isnan(value) for value in figures(metric, (answer, empty, valid)).values())
            metric.reset()
    # a false instance in an empty picture counts against the others
    both = figures(InstanceMetric(), (truth, truth, valid, {}), (torch.ones(1, 1, H, W), empty, valid, {}))
    assert both["ap"] < 100
    assert both["mbo"] == pytest.approx(100)
    one = torch.ones_like(truth)
    assert list(figures(InstanceMetric(), (one, one, valid)).values()) == pytest.approx([100] * 4)


def test_answers_that_are_not_numbers() -> None:
    truth = blobs(1)
    valid = everywhere(truth)
    perfect = figures(InstanceMetric(), (truth, truth, valid))
    assert list(perfect.values()) == pytest.approx(list(InstanceMetric.ideals))
    for bad in (math.nan, math.inf, -math.inf):
        some = truth.clone()
        some[:, :, :1, :20] = bad
        partly = figures(InstanceMetric(), (some, truth, valid))
        wholly = figures(InstanceMetric(), (torch.full_like(truth, bad), truth, valid))
        for name, ideal in perfect.items():
            assert 0 < partly[name] <= ideal
            assert wholly[name] == 0
        assert partly["ap"] < 100
        assert partly["mbo"] < 100
        background = torch.where(truth == 0, bad, truth)  # every instance is right, the rest is no answer
        assert figures(InstanceMetric(), (background, truth, valid))["mbo"] < 100
        opposite = MF.mask_iou(
            MF.find_instances(background, valid[0]), MF.find_instances(truth, valid[0]), background.isinf().flatten()
        )
        if bad == math.inf:
            areas = MF.find_instances(truth, valid[0]).areas_px
            assert torch.allclose(opposite.diagonal(), areas / (areas + (truth == 0).sum()))


def test_a_pixel_without_an_answer_is_in_every_union() -> None:
    truth = strip(1, 1, 1, 1, 2, 2, 2, 2, 0, 0)
    answer = strip(5, 5, 5, math.nan, 6, 6, 6, 6, math.nan, 0)  # unions of 4 + 1 and 4 + 2
    found = figures(InstanceMetric(), (answer, truth, everywhere(truth)))
    assert found["mbo"] == pytest.approx(100 * (3 / 5 + 4 / 6) / 2)


def test_what_is_not_valid_is_not_there() -> None:
    answer, truth, valid, _ = random_samples(3)[0]
    nothing = torch.zeros_like(valid)
    expected = figures(InstanceMetric(), (answer, truth, valid))
    assert figures(InstanceMetric(), (answer, torch.where(valid, truth, math.nan), valid)) == expected
    assert figures(InstanceMetric(), (answer, torch.where(valid, truth, math.nan), everywhere(truth))) == expected
    assert figures(InstanceMetric(), (torch.where(valid, answer, 3.0), truth, valid)) == expected
    assert all(math.isnan(value) for value in figures(InstanceMetric(), (answer, truth, nothing)).values())
    metric = InstanceMetric()
    assert figures(metric, (answer, truth, valid), (answer, truth, nothing)) == expected
    assert len(metric.unique_rows()) == 2
    assert all(value.isnan() for value in metric.standard_error().values())


def test_a_sample_counts_once() -> None:
    samples = random_samples(4)
    metric = feed(InstanceMetric(), samples, [3, 1, 4, 0, 2, 4, 4, 1])
    assert {k: float(v) for k, v in metric.compute().items()} == figures(InstanceMetric(), *samples)
    assert all(0 < float(value) < 50 for value in metric.standard_error().values())


# ---------------------------------------------------------------- two processes


def poses_of(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    truth = torch.cat([50 * torch.rand(3, 17, 1, 2, generator=g), torch.full((3, 17, 1, 1), 2.0)], dim=-1)
    return truth + torch.randn(truth.shape, generator=g).clamp(-1, 1), truth, torch.ones(1, 1, 8, 8).bool()


def fed_everywhere(numbers: Sequence[int]) -> Mapping[str, RowMetric]:
    masks = random_samples(5, 4)
    maps = random_samples(5, 4, by_class=True)
    poses = [poses_of(seed) for seed in range(4)]
    return {
        "panoptic": feed(PanopticMetric((0, 1), (2,)), maps, numbers),
        "instances": feed(InstanceMetric(max_instances=30), maps, numbers),
        "boxes": feed(BoxMetric(), masks, numbers),
        "keypoints": feed(KeypointMetric(), poses, numbers),
        "videos": feed(VideoMaskMetric(), masks, numbers),
    }


def score_in_process(rank: int, folder: str) -> None:
    """Even samples, or the odd ones and two that the other has; then the same with an idle process."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = []
    for numbers in ([[0, 2], [1, 3, 0, 2]][rank], [[], [0, 1, 2, 3]][rank]):
        fed = fed_everywhere(numbers)
        results.append({name: (m.compute(), m.unique_rows(), m.standard_error()) for name, m in fed.items()})
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    import torch.multiprocessing as mp

    mp.spawn(score_in_process, args=(str(tmp_path),), nprocs=2)
    expected = {
        name: (m.compute(), m.unique_rows(), m.standard_error()) for name, m in fed_everywhere(range(4)).items()
    }
    for rank in range(2):
        for found in torch.load(tmp_path / f"{rank}.pt"):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
