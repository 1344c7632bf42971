"""Depth, normals, edges, masks and flow against independent implementations, and by hand."""

import math

import numpy as np
import pytest
import torch
from test_metrics import SHAPE, corrupt, figures, make_truth, make_valid

from lavindit.metrics import DepthMetric, EdgeMetric, FlowMetric, ForegroundMetric, NormalMetric
from lavindit.metrics import functional as MF

# ---------------------------------------------------------------- depth


def reference_depth(answer: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> list[float]:
    a, t = answer[valid].astype(np.float64), truth[valid].astype(np.float64)
    design = np.stack([a, np.ones_like(a)], axis=1)
    scale, shift = np.linalg.lstsq(design, t, rcond=None)[0]
    a = np.maximum(scale * a + shift, 1e-3)
    return [np.mean(abs(a - t) / t), np.mean(np.maximum(a / t, t / a) < 1.25), np.sqrt(np.mean((a - t) ** 2))]


@pytest.mark.parametrize("seed", range(4))
def test_depth_against_lstsq(seed: int) -> None:
    truth, valid = make_truth(DepthMetric, seed), make_valid(seed)
    answer = corrupt(DepthMetric, truth, 0.2, seed + 50) * (0.1 + seed) + 3 * seed
    found = figures(DepthMetric, answer, truth, valid)
    assert list(found.values()) == pytest.approx(
        reference_depth(answer.numpy(), truth.numpy(), valid.numpy()), rel=1e-9
    )


def test_depth_by_hand() -> None:
    truth = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    assert list(figures(DepthMetric, 5 * truth - 2, truth).values()) == pytest.approx([0, 1, 0], abs=1e-12)
    # a constant answer has no scale: it becomes the mean, 2.5
    constant = figures(DepthMetric, torch.full_like(truth, 7.0), truth)
    expected = [(1.5 + 0.25 + 0.5 / 3 + 1.5 / 4) / 4, 0.25, math.sqrt((1.5**2 + 0.5**2) * 2 / 4)]
    assert list(constant.values()) == pytest.approx(expected)
    one = torch.zeros(1, 1, 1, 4).bool()
    one[..., 2] = True
    assert all(math.isnan(value) for value in figures(DepthMetric, truth, truth, one).values())
    infinite = torch.where(one, math.inf, truth)
    assert figures(DepthMetric, truth, infinite)["abs_rel"] == pytest.approx(0, abs=1e-12)


def test_depth_aligns_once_a_clip() -> None:
    truth = make_truth(DepthMetric)
    drifting = truth.clone()
    drifting[:, 1] *= 2
    assert figures(DepthMetric, drifting, truth)["abs_rel"] > 0.05
    each = [figures(DepthMetric, drifting[:, t : t + 1], truth[:, t : t + 1])["abs_rel"] for t in range(2)]
    assert each == pytest.approx([0, 0], abs=1e-9)


def test_depth_clamps_to_a_millimetre() -> None:
    answer = torch.tensor([0.0, 5.0, 5.0, 10.0])
    truth = torch.tensor([0.01, 3.0, 9.0, 9.0])
    fitted = MF.align_scale_shift(answer.double(), truth.double())
    assert float(fitted[0]) == pytest.approx(np.polyval(np.polyfit(answer, truth, 1), 0.0))
    low = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 1, 4)
    high = torch.tensor([0.01, 0.01, 0.01, 9.0]).reshape(1, 1, 1, 4)
    found = figures(DepthMetric, low, high)
    assert list(found.values()) == pytest.approx(
        reference_depth(low.numpy(), high.numpy(), np.ones((1, 1, 1, 4), dtype=bool))
    )


def test_depth_without_a_single_answer() -> None:
    truth = make_truth(DepthMetric)
    found = figures(DepthMetric, torch.full_like(truth, math.nan), truth)
    assert found["abs_rel"] == pytest.approx(1, abs=1e-2)
    assert found["delta1"] == 0
    one = torch.full_like(truth, math.nan)
    one[0, 0, 0, 0] = 3.0  # shifted onto its truth, the rest stays unanswered
    assert figures(DepthMetric, one, truth)["abs_rel"] == pytest.approx(found["abs_rel"], abs=1e-2)


# ---------------------------------------------------------------- normals


@pytest.mark.parametrize("seed", range(3))
def test_normals_against_arccos(seed: int) -> None:
    truth, valid = make_truth(NormalMetric, seed), make_valid(seed)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed + 50))
    answer = (truth + 0.4 * noise) * 3
    a, t = answer.double().numpy()[:, valid[0]], truth.double().numpy()[:, valid[0]]
    cosine = (a * t).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(t, axis=0)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    shares = [100 * np.mean(angle < limit) for limit in (11.25, 22.5, 30)]
    expected = [angle.mean(), np.median(angle), *shares]
    assert list(figures(NormalMetric, answer, truth, valid).values()) == pytest.approx(expected, rel=1e-9)


def test_normals_by_hand() -> None:
    truth = torch.zeros(3, 1, 1, 5)
    truth[2, ..., :4] = 1  # the last pixel has no normal
    answer = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 0, -2], [0, 0, 0], [1, 0, 0]]).T.reshape(3, 1, 1, 5)
    found = figures(NormalMetric, answer, truth)  # 0, 45, 180 and, for no vector at all, 90 degrees
    assert list(found.values()) == pytest.approx([78.75, 67.5, 25, 25, 25])
    answer[:, ..., 0] = math.nan  # as far off as can be
    assert figures(NormalMetric, answer, truth)["mean_deg"] == pytest.approx((180 + 45 + 180 + 90) / 4)


# ---------------------------------------------------------------- edges


def reference_f_score(answer: np.ndarray, truth: np.ndarray) -> float:
    from scipy.ndimage import binary_dilation

    square = np.ones((3, 3), dtype=bool)
    near_truth = np.stack([binary_dilation(frame, square) for frame in truth])
    near_answer = np.stack([binary_dilation(frame, square) for frame in answer])
    precision, recall = answer[near_truth].sum() / answer.sum(), truth[near_answer].sum() / truth.sum()
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(4))
def test_edges_against_dilation(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    truth, answer = (torch.rand(1, *SHAPE, generator=g) < 0.05).float(), torch.rand(1, *SHAPE, generator=g) ** 4
    valid = make_valid(seed)
    found = figures(EdgeMetric, answer, truth, valid)
    a, t, v = (answer > 0.5).numpy()[0], truth.bool().numpy()[0], valid.numpy()[0]
    assert found["f_score"] == pytest.approx(reference_f_score(a & v, t & v))
    assert found["mse"] == pytest.approx(np.mean((answer.numpy()[0] - t)[v].astype(np.float64) ** 2))


def test_edges_by_hand() -> None:
    truth = torch.zeros(1, 1, 7, 7)
    empty = truth.clone()
    truth[..., 3, 3] = 1
    assert figures(EdgeMetric, empty, empty)["f_score"] == 1
    assert figures(EdgeMetric, truth, empty)["f_score"] == 0
    assert figures(EdgeMetric, empty, truth)["f_score"] == 0
    for step, score in ((1, 1.0), (2, 0.0)):  # diagonal neighbours are one pixel away
        assert figures(EdgeMetric, truth.roll((step, step), (-2, -1)), truth)["f_score"] == score
    assert figures(EdgeMetric, torch.full_like(empty, math.nan), empty)["f_score"] == 0
    assert figures(EdgeMetric, torch.full_like(empty, math.nan), truth) == {"f_score": 0, "mse": 1}
    clip = torch.cat([truth, empty], dim=1)  # tolerance is in space, not in time
    assert figures(EdgeMetric, clip.flip(1), clip)["f_score"] == 0


# ---------------------------------------------------------------- masks


def test_miou_against_sklearn() -> None:
    from sklearn.metrics import jaccard_score

    metric = ForegroundMetric()
    pixels: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for sample in range(12):
        g = torch.Generator().manual_seed(sample)
        truth, answer = (torch.rand(1, *SHAPE, generator=g) < 0.3).float(), torch.rand(1, *SHAPE, generator=g)
        valid, kind = make_valid(sample), (3, 7, 7, 11)[sample % 4]
        metric.update(answer, truth, valid, sample, {"class_id": kind})
        pixels.setdefault(kind, []).append(((answer > 0.5)[valid].numpy(), truth.bool()[valid].numpy()))
    expected = [
        jaccard_score(np.concatenate([t for _, t in pairs]), np.concatenate([a for a, _ in pairs]))
        for pairs in pixels.values()
    ]
    assert float(metric.compute()["miou"]) == pytest.approx(100 * np.mean(expected))


def test_miou_by_hand() -> None:
    truth = torch.tensor([1.0, 1, 0, 0]).reshape(1, 1, 1, 4)
    empty, full, valid = torch.zeros_like(truth), torch.ones_like(truth), torch.ones_like(truth).bool()
    assert figures(ForegroundMetric, full, truth)["miou"] == 50
    assert figures(ForegroundMetric, empty, truth)["miou"] == 0
    assert figures(ForegroundMetric, full, empty)["miou"] == 0
    assert math.isnan(figures(ForegroundMetric, empty, empty)["miou"])  # nothing to find, nothing found
    assert figures(ForegroundMetric, torch.full_like(truth, math.nan), truth)["miou"] == 0
    metric = ForegroundMetric()  # pooled in a class, averaged over classes
    metric.update(truth, truth, valid, 0, {"class_id": 1})  # 2 / 2
    metric.update(full, truth, valid, 1, {"class_id": 1})  # 2 / 4
    metric.update(full, truth, valid, 2, {"class_id": 2})  # 2 / 4
    metric.update(empty, empty, valid, 3, {"class_id": 3})  # left out
    assert float(metric.compute()["miou"]) == pytest.approx(100 * (4 / 6 + 1 / 2) / 2)
    assert 0 < float(metric.standard_error()["miou"]) < 100


# ---------------------------------------------------------------- flow


def test_flow_against_numpy() -> None:
    truth, valid = make_truth(FlowMetric), make_valid()
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(9))
    answer = truth * 1.02 + 2.5 * noise
    a, t = (x.double().numpy()[:, valid[0].numpy()] for x in (answer, truth))
    error = np.linalg.norm(a - t, axis=0)
    outlier = (error > 3) & (error / np.linalg.norm(t, axis=0) > 0.05)
    expected = [error.mean(), 100 * outlier.mean()]
    assert list(figures(FlowMetric, answer, truth, valid).values()) == pytest.approx(expected)


def test_flow_by_hand() -> None:
    truth = torch.tensor([[0.0, 100.0, 100.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).reshape(2, 1, 1, 4)
    answer = torch.tensor([[3.0, 104.0, 106.0, math.nan], [0.0, 0.0, 0.0, 0.0]]).reshape(2, 1, 1, 4)
    diagonal = math.sqrt(17)
    found = figures(FlowMetric, answer, truth)  # 3 px is no outlier yet; 4 of 100 px is none either
    assert list(found.values()) == pytest.approx([(3 + 4 + 6 + diagonal) / 4, 50])
