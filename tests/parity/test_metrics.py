"""What holds for every metric that scores maps pixel by pixel."""

import math

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
