"""Metrics against independent implementations, on random, hand-made and degenerate cases, and over two processes."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lavindit.metrics import (
    DepthMetric,
    EdgeMetric,
    FlowMetric,
    ForegroundMetric,
    NormalMetric,
    RestorationMetric,
    RowMetric,
)
from lavindit.metrics import functional as MF

# scipy, sklearn and skimage are imported where they are used: the spawned processes import this file too.

SHAPE = (2, 24, 32)  # T, H, W
METRICS = (DepthMetric, NormalMetric, EdgeMetric, RestorationMetric, ForegroundMetric, FlowMetric)
SMALLER_IS_BETTER = {"abs_rel", "rmse", "mean_deg", "median_deg", "mse", "epe", "fl_all"}


def make_truth(metric: type[RowMetric], seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    if metric is DepthMetric:
        return 0.5 + 20 * torch.rand(1, *shape, generator=g)
    if metric is NormalMetric:
        return torch.nn.functional.normalize(torch.randn(3, *shape, generator=g), dim=0)
    if metric is RestorationMetric:
        return torch.rand(3, *shape, generator=g)
    if metric is FlowMetric:
        return 10 * torch.randn(2, *shape, generator=g)
    return (torch.rand(1, *shape, generator=g) < 0.1).float()


def make_valid(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(1000 + seed)) < 0.8


def corrupt(metric: type[RowMetric], truth: Tensor, amount: float, seed: int = 7) -> Tensor:
    """A share `amount` of the pixels is replaced by an unrelated truth."""
    g = torch.Generator().manual_seed(seed)
    replace = torch.rand(1, *truth.shape[1:], generator=g) < amount
    other = 1 - truth if metric in (EdgeMetric, ForegroundMetric) else make_truth(metric, seed, tuple(truth.shape[1:]))
    return torch.where(replace, other, truth)


def figures(metric: type[RowMetric], answer: Tensor, truth: Tensor, valid: Tensor | None = None) -> dict[str, float]:
    m = metric()
    m.update(answer, truth, torch.ones_like(truth[:1]).bool() if valid is None else valid, 0)
    return {name: float(value) for name, value in m.compute().items()}


def worse(name: str, value: float, than: float) -> bool:
    return value > than if name in SMALLER_IS_BETTER else value < than


# ---------------------------------------------------------------- every metric


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_is_ideal_and_corruption_is_worse(metric: type[RowMetric]) -> None:
    truth, valid = make_truth(metric), make_valid()
    perfect = figures(metric, truth, truth, valid)
    assert tuple(perfect) == metric.names
    assert len(metric.units) == len(metric.ideals) == len(metric.names)
    assert list(perfect.values()) == pytest.approx(list(metric.ideals), abs=1e-5)
    little = figures(metric, corrupt(metric, truth, 0.1), truth, valid)
    much = figures(metric, corrupt(metric, truth, 0.7), truth, valid)
    for name in metric.names:
        if name != "median_deg":  # a tenth of the pixels does not move a median
            assert worse(name, little[name], perfect[name]), name
        assert worse(name, much[name], little[name]), name


@pytest.mark.parametrize("metric", METRICS)
def test_nan_answers_are_bad_answers(metric: type[RowMetric]) -> None:
    truth, valid = make_truth(metric), make_valid()
    perfect = figures(metric, truth, truth, valid)
    for bad in (math.nan, math.inf, -math.inf):
        some = truth.clone()
        some[:, :, :8] = bad
        partly, wholly = figures(metric, some, truth, valid), figures(metric, torch.full_like(truth, bad), truth, valid)
        for name in metric.names:
            assert math.isfinite(partly[name])
            assert math.isfinite(wholly[name])
            if name != "median_deg":
                assert worse(name, partly[name], perfect[name]), name
            assert worse(name, wholly[name], partly[name]), name


@pytest.mark.parametrize("metric", METRICS)
def test_no_valid_pixel_leaves_no_figure(metric: type[RowMetric]) -> None:
    truth, valid = make_truth(metric), make_valid()
    answer = corrupt(metric, truth, 0.3)
    nothing = torch.zeros_like(valid)
    assert all(math.isnan(value) for value in figures(metric, answer, truth, nothing).values())
    m = metric()
    m.update(answer, truth, valid, 0)
    alone = {name: float(value) for name, value in m.compute().items()}
    m.update(torch.full_like(truth, math.nan), truth, nothing, 1)
    assert {name: float(value) for name, value in m.compute().items()} == alone
    assert all(value.isnan() for value in m.standard_error().values())


@pytest.mark.parametrize("metric", METRICS)
def test_invalid_truth_is_ignored(metric: type[RowMetric]) -> None:
    """What lies in invalid pixels of the truth cannot matter, whatever it is; likewise a truth that is not finite."""
    truth, valid = make_truth(metric), make_valid()
    answer = corrupt(metric, truth, 0.3)
    spoilt = torch.where(valid, truth, math.nan)
    expected, found = figures(metric, answer, truth, valid), figures(metric, answer, spoilt, valid)
    unmasked = figures(metric, answer, spoilt)
    for name in metric.names:
        if name != "ssim":
            assert found[name] == pytest.approx(expected[name])
            assert unmasked[name] == pytest.approx(expected[name])
        assert math.isfinite(found[name])


@pytest.mark.parametrize("metric", METRICS)
def test_inputs_are_left_alone(metric: type[RowMetric]) -> None:
    truth, valid = make_truth(metric).double(), make_valid()
    answer = corrupt(metric, truth, 0.3)
    before = [tensor.clone() for tensor in (answer, truth, valid)]
    figures(metric, answer, truth, valid)
    assert all(torch.equal(a, b) for a, b in zip(before, (answer, truth, valid), strict=True))


@pytest.mark.parametrize("metric", [DepthMetric, NormalMetric])
def test_speed(metric: type[RowMetric]) -> None:
    truth = make_truth(metric, shape=(1, 64, 64))
    answer, valid, m = corrupt(metric, truth, 0.5), torch.ones(1, 1, 64, 64).bool(), metric()
    seconds = []
    for sample in range(30):
        start = time.perf_counter()
        m.update(answer, truth, valid, sample)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.002


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


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_pictures_against_skimage(seed: int, smooth: bool) -> None:
    from scipy.ndimage import gaussian_filter
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(seed)
    truth = rng.random((3, *SHAPE))
    if smooth:
        truth = gaussian_filter(truth, (0, 0, 4, 4))
    answer = np.clip(truth + 0.1 * (1 + seed) * rng.standard_normal(truth.shape), 0, 1)
    found = figures(RestorationMetric, torch.from_numpy(answer), torch.from_numpy(truth))
    frames = range(SHAPE[0])
    psnr = [peak_signal_noise_ratio(truth[:, t], answer[:, t], data_range=1) for t in frames]
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    ssim = [structural_similarity(truth[:, t], answer[:, t], channel_axis=0, **settings) for t in frames]
    assert found["psnr"] == pytest.approx(np.mean(psnr), rel=1e-9)
    assert found["ssim"] == pytest.approx(np.mean(ssim), abs=1e-5)
    assert found["mse"] == pytest.approx(np.mean((answer - truth) ** 2), rel=1e-9)


def test_pictures_by_hand() -> None:
    truth = torch.full((3, 2, 16, 16), 0.25)
    answer = truth.clone()
    answer[:, 1] += 0.1  # the first frame is perfect, and capped; the second stands at 20 dB
    found = figures(RestorationMetric, answer, truth)
    assert found["psnr"] == pytest.approx(60, abs=1e-4)
    assert found["mse"] == pytest.approx(0.005, abs=1e-7)
    second = torch.ones(1, 2, 16, 16).bool()
    second[:, 0] = False  # a frame without a valid pixel does not count, for SSIM either
    alone = figures(RestorationMetric, answer, truth, second)
    assert alone["psnr"] == pytest.approx(20, abs=1e-4)
    assert alone["ssim"] < found["ssim"] < 1
    assert alone["ssim"] == pytest.approx(2 * found["ssim"] - 1, abs=1e-5)
    nothing = figures(RestorationMetric, torch.full_like(truth, math.nan), truth)
    assert nothing["mse"] == pytest.approx(0.75**2)
    tiny = figures(RestorationMetric, answer[..., :8, :8], truth[..., :8, :8])
    assert math.isnan(tiny["ssim"])  # smaller than the window
    assert math.isfinite(tiny["psnr"])


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


# ---------------------------------------------------------------- rows


class Given(RowMetric):
    """Its row is the answer."""

    names = ("first", "second")

    def score(self, answer: Tensor, truth: Tensor, valid: Tensor, meta: Mapping[str, Any]) -> Tensor:
        return answer.flatten()


class Ratio(Given):
    """Pooled: the sum of one number over the sum of the other."""

    names = ("ratio",)
    width = 2

    def reduce(self, rows: Tensor) -> dict[str, Tensor]:
        return {"ratio": rows[:, 0].nansum() / rows[:, 1].nansum()}


def random_rows() -> Tensor:
    rows = torch.rand(11, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
    rows[3, 0] = math.nan
    rows[6] = math.nan
    return rows


def feed(metric: RowMetric, rows: Tensor, samples: list[int]) -> RowMetric:
    nothing = torch.zeros(1)
    for sample in samples:
        metric.update(rows[sample], nothing, nothing.bool(), sample)
    return metric


def test_rows_are_reduced_and_carry_their_error() -> None:
    rows = random_rows()
    metric = feed(Given(), rows, [*range(10, -1, -1), 4, 4])
    torch.testing.assert_close(metric.unique_rows(), rows, equal_nan=True)
    for i, name in enumerate(Given.names):
        known = rows[:, i][~rows[:, i].isnan()].numpy()
        assert float(metric.compute()[name]) == pytest.approx(known.mean())
        assert float(metric.standard_error()[name]) == pytest.approx(known.std(ddof=1) / math.sqrt(len(known)))


def test_the_jackknife_agrees_with_the_closed_form_and_pools() -> None:
    rows = random_rows()
    rows = rows[~rows.isnan().any(dim=1)]
    ones = torch.stack([rows[:, 0], torch.ones(len(rows), dtype=torch.float64)], dim=1)
    mean = feed(Ratio(), ones, list(range(len(ones))))  # over ones a ratio of sums is a mean
    assert float(mean.standard_error()["ratio"]) == pytest.approx(float(rows[:, 0].std()) / math.sqrt(len(rows)))
    n = len(rows)
    left_out = np.array(
        [float(rows[torch.arange(n) != i].sum(0)[0] / rows[torch.arange(n) != i].sum(0)[1]) for i in range(n)]
    )
    expected = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert float(feed(Ratio(), rows, list(range(n))).standard_error()["ratio"]) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("metric", [Given, Ratio])
def test_few_rows_have_no_error(metric: type[RowMetric]) -> None:
    m = metric()
    assert all(value.isnan() for value in m.compute().values())
    feed(m, random_rows(), [0])
    assert all(value.isfinite() for value in m.compute().values())
    assert all(value.isnan() for value in m.standard_error().values())
    m.reset()
    feed(m, random_rows(), [1])
    torch.testing.assert_close(m.unique_rows(), random_rows()[1:2])


def test_a_row_of_the_wrong_width_is_a_defect() -> None:
    with pytest.raises(ValueError, match="gave 3 numbers, not 2"):
        Given().update(torch.zeros(3), torch.zeros(1), torch.zeros(1).bool(), 0)


def score_in_process(rank: int, folder: str) -> None:
    """Half of the samples, one of them twice; then a metric that only process 1 fed."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    rows = random_rows()
    mine = [0, 2, 4, 6, 8, 10] if rank == 0 else [1, 3, 5, 7, 9, 0]
    even = {kind.__name__: feed(kind(), rows, mine) for kind in (Given, Ratio)}
    lone = feed(Given(), rows, [5, 2, 5] if rank == 1 else [])
    results: dict[str, Any] = {name: (m.compute(), m.unique_rows(), m.standard_error()) for name, m in even.items()}
    results["lone"] = (lone.compute(), lone.unique_rows(), lone.standard_error())
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    import torch.multiprocessing as mp

    mp.spawn(score_in_process, args=(str(tmp_path),), nprocs=2)
    rows = random_rows()
    expected = {kind.__name__: feed(kind(), rows, list(range(11))) for kind in (Given, Ratio)}
    expected["lone"] = feed(Given(), rows, [2, 5])
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, metric in expected.items():
            one = (metric.compute(), metric.unique_rows(), metric.standard_error())
            torch.testing.assert_close(found[name], one, rtol=0, atol=0, equal_nan=True)
