"""LPIPS and its proxy against lpips and by their definition; the figures of pictures that a task asks for."""

import math
import warnings
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from metric_weights import ALEXNET, VGG_LAYERS, use_empty_hub, use_hub, use_vgg
from safetensors.torch import load_file
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.metrics import DistributionMetric, PerceptualMetric, PerceptualProxyMetric, PictureMetric, RowMetric
from lavindit.metrics import functional as MF

hub = pytest.fixture(use_hub)
vgg = pytest.fixture(use_vgg)
empty_hub = pytest.fixture(use_empty_hub)


def pictures(seed: int, frames: int = 2, side: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Answer, truth [3, T, H, W] of 8-bit values, and a mask of all pixels."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, frames, side, side, generator=g)
    answer = (truth + 0.3 * torch.randn(truth.shape, generator=g)).clamp(0, 1)
    return (255 * answer).round() / 255, (255 * truth).round() / 255, torch.ones(1, frames, side, side).bool()


def stack(picture: Tensor) -> Tensor:
    return 2 * picture.transpose(0, 1) - 1


def figures(metric: RowMetric, *samples: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    for number, sample in enumerate(samples):
        metric.update(*sample, number)
    return {name: float(value) for name, value in metric.compute().items()}


# ---------------------------------------------------------------- LPIPS and its proxy


def test_lpips_against_lpips(hub: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = lpips.LPIPS(net="alex", verbose=False)
    samples = [pictures(seed, side=32 + 16 * seed) for seed in range(3)]
    expected = [reference(stack(a), stack(t)).mean().item() for a, t, _ in samples]
    assert min(expected) > 1e-3
    assert figures(PerceptualMetric(), *samples)["lpips"] == pytest.approx(np.mean(expected), rel=1e-6)


def test_the_proxy_against_its_definition(vgg: Path) -> None:
    answer, truth, valid = pictures(1, side=32)
    state = {key: value.float() for key, value in load_file(vgg).items()}
    heads = torch.load(Path(lpips.__file__).parent / "weights/v0.1/vgg.pth", "cpu", weights_only=True)
    mean = torch.tensor([123.68, 116.78, 103.94]).reshape(1, 3, 1, 1)
    x, taken = torch.cat([picture.transpose(0, 1) * 255 - mean for picture in (answer, truth)]), []
    for layer in VGG_LAYERS:
        if layer in (5, 10, 17, 24):
            taken.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.conv2d(
            x, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], padding=1
        ).relu()
    expected = torch.zeros(2)
    for i, features in enumerate([*taken, x]):
        a, t = nn.functional.normalize(features, dim=1).chunk(2)
        expected += (heads[f"lin{i}.model.1.weight"] * (a - t).square()).sum(dim=1).mean(dim=(1, 2))
    assert float(expected.min()) > 1e-3
    found = figures(PerceptualProxyMetric(), (answer, truth, valid))
    assert found == {"lpips_proxy": pytest.approx(float(expected.mean()), rel=1e-5)}


def test_real_weights_mind_blur_more_than_shade(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike MSE, which has the order the other way round."""
    from skimage import data

    monkeypatch.setenv("LAVINDIT_PERCEPTUAL", str(test_data / "weights" / "vgg16_hed_features.safetensors"))
    truth = torch.from_numpy(data.astronaut()[::4, ::4].copy()).permute(2, 0, 1)[:, None] / 255
    blurred = nn.functional.avg_pool2d(truth[:, 0], 3, 1, 1, count_include_pad=False)[:, None]
    dark = (truth - 0.12).clamp(0, 1)
    valid = torch.ones_like(truth[:1]).bool()
    scores = [figures(PictureMetric(("lpips_proxy", "mse")), (a, truth, valid)) for a in (blurred, dark)]
    assert scores[0]["mse"] < scores[1]["mse"]
    assert scores[0]["lpips_proxy"] > 2 * scores[1]["lpips_proxy"] > 0


@pytest.mark.parametrize("metric", [PerceptualMetric, PerceptualProxyMetric])
def test_perceptual_degenerate_cases(hub: Path, vgg: Path, metric: type[PerceptualMetric]) -> None:
    answer, truth, valid = pictures(2)
    (name,) = metric.names
    assert figures(metric(), (truth, truth, valid)) == {name: 0.0}
    assert math.isnan(figures(metric(), (answer, truth, ~valid))[name])
    wholly = figures(metric(), (torch.full_like(truth, math.nan), truth, valid))[name]
    assert math.isfinite(wholly)
    assert wholly > 0
    partly = truth.clone()
    partly[:, :, :20] = math.nan
    assert 0 < figures(metric(), (partly, truth, valid))[name] < math.inf
    second = valid.clone()
    second[:, 0] = False  # a frame without a valid pixel is left out
    alone = (answer[:, 1:], truth[:, 1:], valid[:, 1:])
    assert figures(metric(), (answer, truth, second)) == figures(metric(), alone)
    spoilt, masked = truth.clone(), valid.clone()
    spoilt[:, :, 5:9] = math.nan
    masked[:, :, 5:9] = False  # what is not valid cannot matter
    black = torch.where(masked, truth, 0.0)
    assert figures(metric(), (answer, spoilt, valid)) == figures(metric(), (answer, black, masked))
    assert figures(metric(), (torch.where(masked, truth, 1.0), truth, masked)) == {name: 0.0}
    small = metric.smallest_px
    for side, defined in ((small, True), (small - 1, False)):
        found = figures(metric(), pictures(3, 1, side))[name]
        assert math.isfinite(found) == defined


# ---------------------------------------------------------------- the figures a task asks for


def test_the_asked_figures_that_can_be_measured(empty_hub: Path) -> None:
    metric = PictureMetric(("fid", "ssim", "lpips", "psnr", "lpips_proxy"))
    assert metric.names == ("ssim", "psnr")
    assert (metric.units, metric.ideals) == (("1", "dB"), (1.0, 100.0))
    assert metric.left_out == ("fid", "lpips", "lpips_proxy")
    answer, truth, valid = pictures(0)
    found = figures(metric, (answer, truth, valid))
    assert list(found) == ["ssim", "psnr"]
    assert found["psnr"] == pytest.approx(float(MF.psnr_db(answer, truth, valid)), rel=1e-6)
    with pytest.raises(LavinditError, match=ALEXNET):
        PictureMetric(("lpips",))


def test_all_figures_at_once(hub: Path, vgg: Path) -> None:
    names = ("fid", "lpips", "psnr", "kid", "lpips_proxy", "mse", "ssim")
    metric, samples = PictureMetric(names), [pictures(seed, 1) for seed in range(2)]
    found = figures(metric, *samples)
    assert tuple(found) == metric.names == names
    assert metric.left_out == ()
    assert metric.units == ("1", "1", "dB", "1", "1", "1", "1")
    assert metric.ideals == (0, 0, 100, 0, 0, 0, 1)
    for part in (PerceptualMetric(), PerceptualProxyMetric(), DistributionMetric(("kid", "fid"))):
        assert figures(part, *samples) == {name: found[name] for name in part.names}
    errors = metric.standard_error()
    assert float(errors["psnr"]) > 0
    assert tuple(errors) == names


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (("psrn",), "no figure is called 'psrn'; did you mean 'psnr'"),
        (("mse", "mse"), "the figure 'mse' is asked for twice"),
        ((), "figures must be a list of psnr"),
        ("psnr", "figures must be a list of psnr"),
    ],
)
def test_figures_that_cannot_be_asked_for(asked: tuple[str, ...] | str, line: str) -> None:
    with pytest.raises(LavinditError, match=line):
        PictureMetric(asked)
