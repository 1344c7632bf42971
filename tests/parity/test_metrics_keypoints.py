"""OKS, its average precision and PCK against pycocotools and loops."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from instance_samples import coco_figures, feed, figures
from lavindit.metrics import KeypointMetric
from lavindit.metrics import functional as MF
from lavindit.metrics.functional.keypoints import COCO_SIGMAS

FAR = 1e4  # what COCO is given for a joint that is missing: nothing is left of its likeness
Sample = tuple[Tensor, Tensor, Tensor, dict[str, Any]]  # answer, truth, valid, meta


def figures_at(rng: np.random.Generator, count: int, frames: int = 1) -> Tensor:
    """Figures [M, 17, T, 3] of 17 joints some pixels apart, most of them labelled."""
    middle = 300 * rng.random((count, 1, frames, 2))
    size = 20 + 60 * rng.random((count, 1, frames, 1))
    places = middle + size * rng.standard_normal((count, 17, frames, 2))
    labels = rng.integers(0, 3, (count, 17, frames, 1))
    labels[:, 0] = 2  # at least one is labelled
    return torch.from_numpy(np.concatenate([places, labels], axis=-1))


def all_valid(joints: Tensor) -> Tensor:
    return torch.ones(1, joints.shape[2], 8, 8).bool()


def random_samples(seed: int, frames: int = 1, noise: float = 1.0) -> list[Sample]:
    """Answers near the truth, some joints missing, a figure more or less."""
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    for number in range(6):
        truth = figures_at(rng, 1 + number % 4, frames)
        answer = truth.clone()
        scale = noise * 2 ** rng.integers(0, 3, (len(truth), 1, 1, 1))
        answer[..., :2] += torch.from_numpy(scale * rng.standard_normal(answer[..., :2].shape))
        answer[..., 2] = 1
        if number % 3 == 1:
            answer = torch.cat([answer, figures_at(rng, 1, frames)])
            answer[..., 2] = 1
        if number % 3 == 2:
            answer = answer[1:]
        missing = torch.from_numpy(rng.random(answer.shape[:3]) < 0.1)
        answer[..., :2] = torch.where(missing[..., None], torch.nan, answer[..., :2])
        areas = torch.from_numpy(400 + 4000 * rng.random((len(truth), frames)))
        samples.append((answer, truth, all_valid(truth), {"areas_px": areas}))
    return samples


def extent_px(figure: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Width and height of the known joints of a figure [17, 3]."""
    return np.ptp(figure[known, :2], axis=0)


def coco_poses(samples: list[Sample], area_px: tuple[float, float] = (0, 1e10)) -> list[float]:
    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    frames = samples[0][1].shape[2]
    for number, (answer, truth, _, meta) in enumerate(samples):
        areas = meta["areas_px"].numpy()
        for t in range(frames):
            common = {"image_id": number * frames + t, "category_id": 1}
            for m, figure in enumerate(truth[:, :, t].numpy()):
                truths.append(
                    {
                        **common,
                        "keypoints": figure.flatten().tolist(),
                        "num_keypoints": int((figure[:, 2] > 0).sum()),
                        "bbox": [0, 0, 1, 1],
                        "area": float(areas[m, t]),
                    }
                )
            for figure in answer[:, :, t].numpy():
                known = np.isfinite(figure).all(1)
                if known.any():
                    points = np.where(known[:, None], figure, FAR)
                    answers.append(
                        {
                            **common,
                            "keypoints": points.flatten().tolist(),
                            "score": float(extent_px(figure, known).prod()),
                        }
                    )
    return coco_figures(truths, answers, "keypoints", len(samples) * frames, area_px, 20)


@pytest.mark.parametrize("noise", [0.5, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_against_pycocotools(seed: int, noise: float) -> None:
    samples = random_samples(seed, noise=noise)
    found = figures(KeypointMetric(), *samples)
    assert 1 < found["oks_ap"] < 99
    assert list(found.values())[:3] == pytest.approx(coco_poses(samples), rel=1e-9)


def test_clips_frame_by_frame_against_pycocotools() -> None:
    samples = random_samples(3, frames=3)
    found = figures(KeypointMetric(max_instances=60), *samples)
    assert list(found.values())[:3] == pytest.approx(coco_poses(samples), rel=1e-9)


def test_small_figures_left_aside_against_pycocotools() -> None:
    samples = random_samples(4)
    for answer, *_ in samples:
        answer[..., :2] = answer[..., :2].nan_to_num(0.0)  # COCO would take the area of a figure with a joint far away
    metric = KeypointMetric(min_area_px=1500)
    found = figures(metric, *samples)
    assert list(found.values())[:3] == pytest.approx(coco_poses(samples, (1500, 1e10)), rel=1e-9)
    assert metric.left_aside() == sum(int((meta["areas_px"] < 1500).sum()) for *_, meta in samples) > 0


@pytest.mark.parametrize("seed", range(3))
def test_similarity_against_pycocotools(seed: int) -> None:
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(seed)
    truth, answer = figures_at(rng, 4)[:, :, 0], figures_at(rng, 5)[:, :, 0]
    answer[:4, :, :2] = truth[..., :2] + 3 * torch.from_numpy(rng.standard_normal((4, 17, 2)))
    areas = torch.from_numpy(100 + 4000 * rng.random(4))
    run = evaluation.COCOeval(iouType="keypoints")
    flat = [native.flatten(1).tolist() for native in (truth, answer)]
    run._gts[0, 1] = [
        {"keypoints": points, "bbox": [0, 0, 1, 1], "area": float(area)}
        for points, area in zip(flat[0], areas, strict=True)
    ]
    run._dts[0, 1] = [{"keypoints": points, "score": -i} for i, points in enumerate(flat[1])]
    found = MF.object_keypoint_similarity(
        answer[..., :2],
        truth[..., :2],
        truth[..., 2] > 0,
        areas,
        torch.tensor(COCO_SIGMAS, dtype=torch.float64),
    )
    assert np.allclose(found.numpy(), run.computeOks(0, 1), rtol=1e-12, atol=1e-15)
    assert found.max() > 0.5


def reference_pck(samples: list[Sample], share: float = 0.1) -> float:
    """Pairs by SciPy over the OKS, joint by joint; in %."""
    from scipy.optimize import linear_sum_assignment

    right = labelled = 0
    for answer, truth, _, meta in samples:
        for t in range(truth.shape[2]):
            a, g = (native[:, :, t].numpy() for native in (answer, truth))
            oks = np.zeros((len(a), len(g)))
            for i, j in np.ndindex(oks.shape):
                d2 = ((a[i] - g[j])[:, :2] ** 2).sum(1)
                e = d2 / (2 * np.array(COCO_SIGMAS)) ** 2 / meta["areas_px"][j, t].item() / 2
                oks[i, j] = np.where(np.isnan(e), 0, np.exp(-e))[g[j, :, 2] > 0].mean()
            partner = dict(zip(*linear_sum_assignment(oks.T, maximize=True), strict=True))
            for j, figure in enumerate(g):
                known = figure[:, 2] > 0
                reach = share * extent_px(figure, known).max()
                labelled += known.sum()
                if j in partner:
                    distance = np.hypot(*(a[partner[j]] - figure)[:, :2].T)
                    right += (distance <= reach)[known].sum()
    return 100 * right / labelled


@pytest.mark.parametrize("seed", range(3))
def test_pck_by_loops(seed: int) -> None:
    samples = random_samples(seed, frames=2, noise=4.0)
    found = figures(KeypointMetric(), *samples)["pck_0_1"]
    assert 10 < found < 95
    assert found == pytest.approx(reference_pck(samples), rel=1e-12)


# ---------------------------------------------------------------- by hand


def pose(*points: tuple[float, float], visibility: float | tuple[float, ...] = 2.0) -> Tensor:
    """One figure [1, J, 1, 3]."""
    joints = torch.zeros(1, len(points), 1, 3)
    joints[0, :, 0, :2] = torch.tensor(points)
    joints[0, :, 0, 2] = torch.tensor(visibility)
    return joints


SQUARE = ((0.0, 0.0), (100.0, 0.0), (100.0, 40.0), (0.0, 40.0))
SIGMAS = (0.05, 0.05, 0.1, 0.1)


def test_by_hand() -> None:
    truth = pose(*SQUARE)
    answer = pose((0.0, 10.0), (111.0, 0.0), (100.0, 40.0), (math.nan, 40.0))
    sample = (answer, truth, all_valid(truth), {"areas_px": torch.tensor([2500.0])})
    found = figures(KeypointMetric(SIGMAS), sample)
    assert found["pck_0_1"] == 50  # within 10 px: the first, just, and the third
    oks = (math.exp(-100 / 2 / 2500 / 0.01) + math.exp(-121 / 2 / 2500 / 0.01) + 1) / 4
    likeness = MF.object_keypoint_similarity(
        answer[:, :, 0, :2],
        truth[:, :, 0, :2],
        torch.ones(1, 4).bool(),
        torch.tensor([2500.0]),
        torch.tensor(SIGMAS),
    )
    assert likeness.item() == pytest.approx(oks, rel=1e-6)
    assert (found["oks_ap"], found["oks_ap50"]) == (0, 0)
    near = pose((0.0, 5.0), *SQUARE[1:])
    oks = (math.exp(-25 / 2 / 2500 / 0.01) + 3) / 4  # 0.90
    assert 0.9 < oks < 0.95
    found = figures(KeypointMetric(SIGMAS), (near, truth, all_valid(truth), {"areas_px": torch.tensor([2500.0])}))
    assert found == pytest.approx({"oks_ap": 90, "oks_ap50": 100, "oks_ap75": 100, "pck_0_1": 100})


def test_area_without_a_silhouette() -> None:
    truth, answer = pose(*SQUARE), pose((0.0, 8.0), *SQUARE[1:])
    guessed = figures(KeypointMetric(SIGMAS), (answer, truth, all_valid(truth)))
    told = figures(KeypointMetric(SIGMAS), (answer, truth, all_valid(truth), {"areas_px": torch.tensor([0.53 * 4000])}))
    assert guessed == told
    point = pose((5.0, 5.0), (50.0, 5.0), visibility=(2.0, 0.0))  # a single labelled joint: one pixel, no reach
    exact = figures(KeypointMetric((0.1, 0.1)), (point, point, all_valid(point)))
    assert list(exact.values()) == pytest.approx([100] * 4)
    off = pose((5.0, 6.0), (50.0, 5.0))
    assert set(figures(KeypointMetric((0.1, 0.1)), (off, point, all_valid(point))).values()) == {0}


def test_joints_without_a_label_do_not_count() -> None:
    truth = pose(*SQUARE, visibility=(2.0, 1.0, 0.0, 2.0))
    wrong = pose(*SQUARE[:2], (7.0, 7.0), SQUARE[3])
    perfect = [100.0] * 4
    assert list(figures(KeypointMetric(SIGMAS), (wrong, truth, all_valid(truth))).values()) == pytest.approx(perfect)
    valid = torch.ones(1, 1, 50, 120).bool()
    valid[..., 38:43, 98:103] = False  # the third joint lies on an invalid pixel
    assert list(figures(KeypointMetric(SIGMAS), (wrong, pose(*SQUARE), valid)).values()) == pytest.approx(perfect)
    spoilt = pose(*SQUARE)
    spoilt[0, 2, 0, 0] = math.nan
    assert list(figures(KeypointMetric(SIGMAS), (wrong, spoilt, all_valid(truth))).values()) == pytest.approx(perfect)
    hidden = pose(*SQUARE, visibility=(2.0, 2.0, 2.0, 0.0))  # an answer may say that it has not found a joint
    assert figures(KeypointMetric(SIGMAS), (hidden, pose(*SQUARE), all_valid(truth)))["pck_0_1"] == 75


def test_scores_rank() -> None:
    truth = pose(*SQUARE)
    both = torch.cat([truth, truth + 300])
    meta: dict[str, Any] = {"areas_px": torch.tensor([2500.0])}
    wrong_first, right_first = ({**meta, "scores": torch.tensor(scores)} for scores in ([0.1, 0.9], [[0.9], [0.1]]))
    samples = [(both, truth, all_valid(truth), chosen) for chosen in (wrong_first, right_first)]
    assert figures(KeypointMetric(SIGMAS), samples[0])["oks_ap"] == pytest.approx(50)
    assert figures(KeypointMetric(SIGMAS), samples[1])["oks_ap"] == pytest.approx(100)
    assert figures(KeypointMetric(SIGMAS), samples[0])["pck_0_1"] == 100  # superfluous figures cost nothing here


# ---------------------------------------------------------------- degenerate


def test_no_figure() -> None:
    truth = pose(*SQUARE)
    none = truth[:0]
    nowhere = torch.full_like(truth, math.nan)
    valid = all_valid(truth)
    for empty in (none, nowhere, torch.full_like(truth, math.inf)):
        assert set(figures(KeypointMetric(SIGMAS), (empty, truth, valid)).values()) == {0}
    for answer in (truth, none, nowhere):
        assert all(math.isnan(v) for v in figures(KeypointMetric(SIGMAS), (answer, none, all_valid(none))).values())
    # an answer where there is nobody is a false one
    both = figures(KeypointMetric(SIGMAS), (truth, truth, valid, {}), (2 * truth, none, all_valid(none), {}))
    assert both["oks_ap"] == pytest.approx(50)
    assert both["pck_0_1"] == 100


def test_figures_without_a_label_are_left_aside() -> None:
    truth = pose(*SQUARE, visibility=0.0)
    metric = KeypointMetric(SIGMAS)
    found = figures(metric, (pose(*SQUARE), truth, all_valid(truth)))
    assert all(math.isnan(value) for value in found.values())
    assert metric.left_aside() == 1


def test_nothing_valid() -> None:
    samples = random_samples(5)
    answer, truth, valid, meta = samples[1]
    assert all(math.isnan(v) for v in figures(KeypointMetric(), (answer, truth, ~valid, meta)).values())
    alone = figures(KeypointMetric(), samples[0])
    assert figures(KeypointMetric(), samples[0], (answer, truth, ~valid, meta)) == alone


def test_perfect_is_ideal_and_worse_is_worse() -> None:
    truth = figures_at(np.random.default_rng(0), 5)
    last = figures(KeypointMetric(), (truth, truth, all_valid(truth)))
    assert list(last.values()) == pytest.approx(list(KeypointMetric.ideals))
    for missing in (0.3, 0.7):
        answer = truth.clone()
        answer[..., 2] = 1
        answer[..., 0][torch.rand(truth.shape[:3], generator=torch.Generator().manual_seed(1)) < missing] = math.nan
        found = figures(KeypointMetric(), (answer, truth, all_valid(truth)))
        assert found["oks_ap"] < last["oks_ap"]
        assert found["pck_0_1"] < last["pck_0_1"]
        last = found


def test_a_sample_counts_once() -> None:
    samples = random_samples(6)
    metric = feed(KeypointMetric(), samples, [5, 4, 4, 0, 3, 2, 1, 0])
    assert {k: float(v) for k, v in metric.compute().items()} == figures(KeypointMetric(), *samples)
    assert all(float(value) > 0 for value in metric.standard_error().values())
