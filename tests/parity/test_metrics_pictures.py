"""Pictures against scikit-image, and by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_metrics import SHAPE, figures

from lavindit.metrics import PictureMetric, RestorationMetric


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_pictures_against_skimage_and_torchmetrics(seed: int, smooth: bool) -> None:
    from scipy.ndimage import gaussian_filter
    from skimage.metrics import peak_signal_noise_ratio
    from torchmetrics.functional.image import structural_similarity_index_measure

    rng = np.random.default_rng(seed)
    truth = rng.random((3, *SHAPE))
    if smooth:
        truth = gaussian_filter(truth, (0, 0, 4, 4))
    answer = np.clip(truth + 0.1 * (1 + seed) * rng.standard_normal(truth.shape), 0, 1)
    found = figures(RestorationMetric, torch.from_numpy(answer), torch.from_numpy(truth))
    frames = range(SHAPE[0])
    psnr = [peak_signal_noise_ratio(truth[:, t], answer[:, t], data_range=1) for t in frames]
    images = [torch.from_numpy(picture).transpose(0, 1) for picture in (answer, truth)]
    settings: dict[str, Any] = {"sigma": 1.5, "data_range": 1.0, "return_full_image": True, "reduction": "none"}
    full: Any = structural_similarity_index_measure(*images, **settings)[1]
    ssim = full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy()
    assert found["psnr"] == pytest.approx(np.mean(psnr), rel=1e-9)
    assert found["ssim"] == pytest.approx(np.mean(ssim), rel=1e-6)
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


def test_frames_that_do_not_count() -> None:
    """As in the prediction of frames: the first of a clip is given, and no figure may see it."""
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 5, 16, 16, generator=g)
    answer = (truth + 0.2 * torch.rand(truth.shape, generator=g)).clamp(0, 1)
    valid = torch.ones(1, 5, 16, 16).bool()
    valid[:, 0] = False
    expected = figures(RestorationMetric, answer[:, 1:], truth[:, 1:])
    assert figures(RestorationMetric, answer, truth, valid) == pytest.approx(expected, rel=1e-6)
    answer[:, 0], truth[:, 0] = math.nan, 0.5
    assert figures(RestorationMetric, answer, truth, valid) == pytest.approx(expected, rel=1e-6)


def test_some_of_the_figures() -> None:
    truth = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 1, 16, 16).bool()
    metric = RestorationMetric(("mse", "psnr"))
    metric.update(truth * 0.9, truth, valid, 0)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert (metric.names, metric.units, metric.ideals) == (("mse", "psnr"), ("1", "dB"), (0.0, 100.0))
    everything = figures(RestorationMetric, truth * 0.9, truth)
    assert list(found.items()) == [("mse", everything["mse"]), ("psnr", everything["psnr"])]


def test_one_of_the_figures_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    everything = figures(PictureMetric, truth * 0.9, truth)
    metric = PictureMetric().only("psnr")
    monkeypatch.setitem(RestorationMetric.measures, "ssim", lambda *_: pytest.fail("ssim is not needed"))
    metric.update(truth * 0.9, truth, torch.ones(1, 1, 16, 16).bool(), 0)
    assert {name: float(value) for name, value in metric.compute().items()} == {"psnr": everything["psnr"]}
    with pytest.raises(ValueError, match="no figure 'miou'"):
        PictureMetric().only("miou")
    with pytest.raises(ValueError, match="no figure 'miou'"):
        RestorationMetric().only("miou")
