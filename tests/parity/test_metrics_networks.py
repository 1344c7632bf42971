"""Where the weights of metric networks come from, and that nothing is fetched."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torchvision
from metric_weights import ALEXNET, INCEPTION, VGG16, VGG_LAYERS, use_empty_hub, use_hub
from safetensors.torch import load_file, save_file
from test_metrics_perceptual import figures, pictures

from lavindit.errors import LavinditError
from lavindit.metrics import DistributionMetric, PerceptualMetric, PerceptualProxyMetric, PictureMetric, networks

hub = pytest.fixture(use_hub)
empty_hub = pytest.fixture(use_empty_hub)


def test_the_files_are_those_that_the_libraries_read() -> None:
    assert torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url.endswith(f"/{ALEXNET}")
    assert torchvision.models.VGG16_Weights.IMAGENET1K_V1.url.endswith(f"/{VGG16}")
    transform = torchvision.models.VGG16_Weights.IMAGENET1K_FEATURES.transforms()
    for mean, std, expected in zip(transform.mean, transform.std, networks.CAFFE_MEAN_RGB, strict=True):
        assert std == pytest.approx(1 / 255)  # the VGG16 of the remedy takes RGB in 0 .. 255 less this mean
        assert 255 * mean == pytest.approx(expected, abs=1)


def test_without_weights_there_is_a_remedy(empty_hub: Path) -> None:
    files = {"lpips": ALEXNET, "inception": INCEPTION, "lpips_vgg": VGG16, "perceptual": "LAVINDIT_PERCEPTUAL"}
    for name, word in files.items():
        assert not networks.available(name)
        assert word in networks.remedy(name)
        assert 'python -c "' in networks.remedy(name)
        assert "\n" not in networks.remedy(name)
        with pytest.raises(LavinditError, match=word):
            networks.load(name)
    assert networks.available("")
    for metric, word in (
        (PerceptualMetric, ALEXNET),
        (DistributionMetric, INCEPTION),
        (PerceptualProxyMetric, "VGG16"),
    ):
        with pytest.raises(LavinditError, match=word):
            metric()
    with pytest.raises(LavinditError, match="no metric network is called 'lpipss'; did you mean 'lpips'"):
        networks.available("lpipss")
    assert list(empty_hub.iterdir()) == []  # nothing was fetched


def test_a_file_that_is_named_and_is_none(empty_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVINDIT_PERCEPTUAL", str(empty_hub / "vgg"))
    assert not networks.available("perceptual")
    assert networks.remedy("perceptual").startswith(f"LAVINDIT_PERCEPTUAL names {empty_hub / 'vgg'}, which is no file")


def test_the_commands_of_the_remedies_can_run(empty_hub: Path) -> None:
    """They are Python, and the last makes a file that fits."""
    for name in networks.NETWORKS:
        compile(networks.remedy(name).split('python -c "')[1].split('"')[0], name, "exec")
    state = {f"features.{i}.{kind}": torch.zeros(1) for i in VGG_LAYERS for kind in ("weight", "bias")}
    code = networks.remedy("perceptual").split('python -c "')[1].split('"')[0]
    target = str(empty_hub / "vgg16.safetensors")
    with patch("torch.hub.load_state_dict_from_url", return_value={**state, "classifier.0.bias": torch.zeros(1)}):
        exec(code.replace("'vgg16.safetensors'", repr(target)), {})
    assert set(load_file(target)) == set(state)


def test_damaged_files_are_told(empty_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_hub / "checkpoints").mkdir()
    for name in (ALEXNET, INCEPTION, VGG16, "vgg"):
        (empty_hub / "checkpoints" / name).write_bytes(b"\0" * 100)
    monkeypatch.setenv("LAVINDIT_PERCEPTUAL", str(empty_hub / "checkpoints" / "vgg"))
    for name in networks.NETWORKS:
        with pytest.raises(LavinditError, match="cannot be read"):
            networks.load(name)
    wrong = {"features.0.weight": torch.zeros(2), "features.0.bias": torch.zeros(2)}
    for name in (ALEXNET, INCEPTION, VGG16):
        torch.save(wrong, empty_hub / "checkpoints" / name)
    save_file(wrong, empty_hub / "checkpoints" / "vgg")
    for name in networks.NETWORKS:
        with pytest.raises(LavinditError, match="does not hold the weights"):
            networks.load(name)
    for name in (ALEXNET, INCEPTION, VGG16):
        torch.save(torch.zeros(2), empty_hub / "checkpoints" / name)
    for name in networks.NETWORKS[:3]:
        with pytest.raises(LavinditError, match="does not hold the weights"):
            networks.load(name)


def test_a_file_that_runs_code_is_refused(empty_hub: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (empty_hub / "ran",))

    (empty_hub / "checkpoints").mkdir()
    for name, file in (("lpips", ALEXNET), ("inception", INCEPTION), ("lpips_vgg", VGG16)):
        torch.save({"features.0.weight": Evil()}, empty_hub / "checkpoints" / file)
        with pytest.raises(LavinditError, match="cannot be read"):
            networks.load(name)
    assert not (empty_hub / "ran").exists()


def test_networks_are_read_once_and_are_no_part_of_a_metric(hub: Path) -> None:
    metric = PictureMetric(("lpips", "fid"))
    figures(metric, pictures(0))
    assert networks.load("lpips") is networks.load("lpips", torch.device("cpu"))
    assert not metric.state_dict()
    assert not list(metric.parameters())
    assert not any(p.requires_grad for name in ("lpips", "inception") for p in networks.load(name).parameters())
    assert not networks.load("lpips").training
