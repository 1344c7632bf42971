"""FID and KID against torchmetrics, in closed form, and by simulation."""

import math
from pathlib import Path

import pytest
import torch
from metric_weights import use_hub
from test_metrics_perceptual import figures, pictures
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from lavindit.metrics import DistributionMetric, networks
from lavindit.metrics import functional as MF

hub = pytest.fixture(use_hub)


class Given(nn.Module):
    """Pictures that are their own features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: Tensor) -> Tensor:
        return x


def features(seed: int, n: int, width: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=g, dtype=torch.float64) / width**0.5
    x, y = torch.randn(2, n, width, generator=g, dtype=torch.float64)
    return x @ mix, y * 1.2 + 0.3


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
@pytest.mark.parametrize(("n", "width"), [(100, 16), (40, 24)])
def test_distances_of_sets_against_torchmetrics(n: int, width: int) -> None:
    x, y = features(n, n, width)
    fid, kid = FrechetInceptionDistance(Given(width)), KernelInceptionDistance(Given(width), subsets=2, subset_size=n)
    for reference in (fid, kid):
        reference.update(y, real=True)
        reference.update(x, real=False)
    assert float(MF.frechet_distance(x, y)) == pytest.approx(float(fid.compute()), rel=1e-6)
    assert float(MF.kernel_distance(x, y)) == pytest.approx(float(kid.compute()[0]), rel=1e-6)


def test_frechet_of_few_samples() -> None:
    """Covariances without full rank: in one dimension by hand, in many against a sum over their common directions."""
    x, y = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[5.0], [9.0]]).double()
    assert float(MF.frechet_distance(x, y)) == pytest.approx(6**2 + (8**0.5 - 2**0.5) ** 2)
    axes = torch.eye(50, dtype=torch.float64)
    few, other = axes[:1] * x, axes[:1] * y  # two samples that differ in one of fifty features
    assert float(MF.frechet_distance(few, other)) == pytest.approx(6**2 + (8**0.5 - 2**0.5) ** 2)
    apart = axes[1:2] * y  # spread along different features: nothing in common
    assert float(MF.frechet_distance(few, apart)) == pytest.approx(1**2 + 7**2 + 8 + 2)


def test_distances_of_degenerate_sets() -> None:
    x, y = features(3, 30, 8)
    for n in range(2):
        assert math.isnan(MF.frechet_distance(x[:n], y[:n]))
        assert math.isnan(MF.kernel_distance(x[:n], y[:n]))
    assert float(MF.frechet_distance(x, x)) == pytest.approx(0, abs=1e-9)
    assert float(MF.frechet_distance(x, x.flip(0))) == pytest.approx(0, abs=1e-9)
    assert -0.5 < float(MF.kernel_distance(x, x)) <= 0
    still = torch.ones(5, 8, dtype=torch.float64)
    assert float(MF.frechet_distance(still, still + 1)) == pytest.approx(8)
    assert float(MF.kernel_distance(still, still)) == pytest.approx(0, abs=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    """Sets from one distribution: 0 on average, whatever their size."""
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(400, 2, 6, 4, generator=g, dtype=torch.float64)
    values = torch.stack([MF.kernel_distance(x, y) for x, y in draws])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20
    frechet = torch.stack([MF.frechet_distance(x, y) for x, y in draws])
    assert float(frechet.mean()) > 1  # which FID is not


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
def test_features_against_torchmetrics(hub: Path) -> None:
    """The whole path of KID, through the files that torchmetrics reads itself; FID's features are the same."""
    samples = [pictures(seed, frames=1) for seed in range(4)]
    reference = KernelInceptionDistance(subsets=1, subset_size=4)
    for answer, truth, _ in samples:
        reference.update((255 * truth).round().byte().transpose(0, 1), real=True)
        reference.update((255 * answer).round().byte().transpose(0, 1), real=False)
    metric = DistributionMetric()
    found = figures(metric, *samples)
    expected = torch.cat([torch.cat(reference.fake_features), torch.cat(reference.real_features)], dim=1).double()
    torch.testing.assert_close(metric.unique_rows(), expected, rtol=1e-5, atol=1e-7)
    assert found["kid"] == pytest.approx(float(MF.kernel_distance(*expected.split(2048, dim=1))), rel=1e-3, abs=1e-9)
    assert found["fid"] == pytest.approx(float(MF.frechet_distance(*expected.split(2048, dim=1))), rel=1e-3)
    assert found["fid"] > 0


class Colours(nn.Module):
    """Stands for Inception: the mean colour of a uint8 picture, and as many zeros as it takes."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        return nn.functional.pad(x.float().mean(dim=(2, 3)) / 255, (0, 2045))


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "load", lambda name, device: Colours())
    monkeypatch.setattr(networks, "available", lambda name: True)


@pytest.mark.usefixtures("colours")
def test_a_clip_is_one_point() -> None:
    answer, truth, valid = pictures(4, frames=3)
    valid[:, 1] = False
    metric = DistributionMetric()
    figures(metric, (answer, truth, valid))
    row = metric.unique_rows()[0]
    assert row[:3].tolist() == pytest.approx(answer[:, [0, 2]].mean(dim=(1, 2, 3)).tolist())
    assert row[2048:2051].tolist() == pytest.approx(truth[:, [0, 2]].mean(dim=(1, 2, 3)).tolist())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.usefixtures("colours")
def test_distribution_degenerate_cases() -> None:
    samples = [pictures(seed) for seed in range(6)]
    assert all(math.isnan(value) for value in figures(DistributionMetric()).values())
    assert all(math.isnan(value) for value in figures(DistributionMetric(), samples[0]).values())
    assert all(value.isnan() for value in DistributionMetric().standard_error().values())
    assert all(math.isfinite(value) for value in figures(DistributionMetric(), *samples[:2]).values())
    same = [(truth, truth, valid) for _, truth, valid in samples]
    assert figures(DistributionMetric(), *same)["fid"] == pytest.approx(0, abs=1e-9)
    metric = DistributionMetric()
    alone = figures(metric, *samples)
    metric.update(*samples[0], 5)  # a number that there is already
    answer, truth, valid = samples[0]
    metric.update(answer, truth, ~valid, 6)  # nothing to see
    assert {name: float(value) for name, value in metric.compute().items()} == alone
    assert all(0 < float(value) < math.inf for value in metric.standard_error().values())
    wrong = figures(DistributionMetric(("fid",)), *((torch.full_like(t, math.nan), t, v) for _, t, v in samples))
    assert wrong["fid"] > alone["fid"]


@pytest.mark.usefixtures("colours")
def test_standard_error_of_sets_is_their_spread() -> None:
    """Over 60 test sets of 40 pictures the jackknife's error is, on average, the spread of the figure."""
    g = torch.Generator().manual_seed(1)
    metric, rows = DistributionMetric(("fid",)), torch.zeros(60, 40, 4096, dtype=torch.float64)
    rows[..., :2] = torch.randn(60, 40, 2, generator=g, dtype=torch.float64) + 1
    rows[..., 2048:2050] = torch.randn(60, 40, 2, generator=g, dtype=torch.float64)
    values = torch.stack([metric.reduce(table)["fid"] for table in rows])
    errors = torch.stack([metric.standard_error_of(table)["fid"] for table in rows[:15]])
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.25)
