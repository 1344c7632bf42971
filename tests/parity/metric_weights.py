"""Weights of metric networks for tests: random ones, in the layout of the published files.

The functions below are made fixtures where they are used: `hub = pytest.fixture(use_hub)`.
"""

import math
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import alexnet

ALEXNET, INCEPTION = "alexnet-owt-7be5be79.pth", "weights-inception-2015-12-05-6726825d.pth"
VGG16 = "vgg16-397923af.pth"
# Width of each of VGG16's convolutions, by torchvision's number of the layer.
VGG_LAYERS = dict(zip((0, 2, 5, 7, 10, 12, 14), (64, 64, 128, 128, 256, 256, 256), strict=True)) | dict.fromkeys(
    (17, 19, 21, 24, 26, 28), 512
)


@cache
def write_hub(folder: Path) -> Path:
    """A hub folder with AlexNet and Inception, as torchvision and torch-fidelity publish them; do not write to it."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]), patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        torch.manual_seed(0)
        state = {key: value.clone() for key, value in alexnet().features.state_dict(prefix="features.").items()}
        with patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"):
            inception = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for i, shape in {1: (4096, 9216), 4: (4096, 4096), 6: (1000, 4096)}.items():  # one number, repeated without storage
        state |= {f"classifier.{i}.weight": torch.zeros(1).expand(shape), f"classifier.{i}.bias": torch.zeros(shape[0])}
    torch.save(state, checkpoints / ALEXNET)
    torch.save(inception.state_dict(), checkpoints / INCEPTION)
    return folder


def use_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has AlexNet and Inception."""
    folder = write_hub(tmp_path_factory.getbasetemp() / "hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    return folder


def use_vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VGG16 in half precision, which the environment names."""
    generator, channels, state = torch.Generator().manual_seed(0), 3, {}
    for layer, width in VGG_LAYERS.items():
        scale = math.sqrt(2 / (9 * channels))
        state[f"features.{layer}.weight"] = (scale * torch.randn(width, channels, 3, 3, generator=generator)).half()
        state[f"features.{layer}.bias"] = torch.zeros(width).half()
        channels = width
    save_file(state, tmp_path / "vgg.safetensors")
    monkeypatch.setenv("LAVINDIT_PERCEPTUAL", str(tmp_path / "vgg.safetensors"))
    return tmp_path / "vgg.safetensors"


def use_empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("LAVINDIT_PERCEPTUAL", raising=False)
    return tmp_path
