"""The perceptual loss against lpips and the metric, its gradient, and files that do not fit."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import lpips
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from lavindit.errors import LavinditError
from lavindit.losses import PerceptualLoss
from lavindit.metrics import functional as MF
from lavindit.metrics import networks

LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A VGG16's convolutions with random weights."""
    generator, channels, made = torch.Generator().manual_seed(0), 3, {}
    for layer, width in zip(LAYERS, WIDTHS, strict=True):
        scale = math.sqrt(2 / (9 * channels))
        made[f"features.{layer}.weight"] = (scale * torch.randn(width, channels, 3, 3, generator=generator)).half()
        made[f"features.{layer}.bias"] = torch.full((width,), -0.01).half()
        channels = width
    return made


@pytest.fixture(scope="module")
def vgg(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(state, path)
    return str(path)


def pictures(count: int = 2, frames: int = 1, side: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(count, 3, frames, side, side, generator=g) * 2 - 1
    return truth + 0.2 * torch.randn(truth.shape, generator=g), truth


def by_frame(network: nn.Module, output: Tensor, truth: Tensor) -> Tensor:
    """[N, T] with lpips's own code."""
    return torch.stack([network(output[:, :, t], truth[:, :, t]).flatten() for t in range(output.shape[2])], dim=1)


def test_the_proxy_is_that_of_the_metric(vgg: str) -> None:
    loss, (output, truth) = PerceptualLoss(vgg), pictures(frames=2)
    assert loss.name == "lpips_proxy"
    found = loss(output, truth)
    assert found.shape == (2,)
    assert float(found.min()) > 1e-3
    network = networks.load_from(vgg)
    torch.testing.assert_close(found, by_frame(network, output, truth).mean(dim=1), rtol=1e-5, atol=0)
    inside = output.clamp(-1, 1)
    valid = torch.ones(1, 2, 16, 16).bool()
    metric = MF.perceptual_distance((inside[0] + 1) / 2, (truth[0] + 1) / 2, valid, network)
    assert loss(inside, truth)[0].item() == pytest.approx(metric.item(), rel=1e-4)


def test_lpips_reads_torchvisions_file(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(LavinditError, match=r"LPIPS's VGG16 is not at .*; get it with: python -c"):
        PerceptualLoss("lpips")
    (tmp_path / "checkpoints").mkdir()
    torch.save({**state, "classifier.0.bias": torch.zeros(1)}, tmp_path / "checkpoints" / "vgg16-397923af.pth")
    loss, (output, truth) = PerceptualLoss("lpips"), pictures(1)
    assert loss.name == "lpips"
    assert PerceptualLoss("lpips", stages=3).name == "lpips_proxy"
    features = make_layers(cfgs["D"], batch_norm=False)
    monkeypatch.setattr(lpips.pretrained_networks.tv, "vgg16", lambda pretrained: SimpleNamespace(features=features))
    reference = lpips.LPIPS(pretrained=True, pnet_rand=True, net="vgg", verbose=False)
    layers = {key: state["features." + key.split(".", 1)[1]].float() for key in reference.net.state_dict()}
    reference.net.load_state_dict(layers)
    torch.testing.assert_close(loss(output, truth), by_frame(reference, output, truth)[:, 0], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("frames", "side"), [(1, 64), (5, 32), (13, 16)])
@torch.no_grad()
def test_sizes_and_samples(vgg: str, frames: int, side: int) -> None:
    loss, (output, truth) = PerceptualLoss(vgg, stages=2), pictures(2, frames, side)
    found = loss(output, truth)
    assert found.shape == (2,)
    assert loss(truth, truth).tolist() == [0, 0]
    for i in range(2):
        torch.testing.assert_close(loss(output[[i]], truth[[i]])[0], found[i])
    swapped = torch.stack([output[0], truth[1]])
    assert loss(swapped, truth)[1] == 0


def test_the_gradient_goes_to_the_output_alone(vgg: str) -> None:
    loss, (output, truth) = PerceptualLoss(vgg), pictures(1)
    output.requires_grad_()
    truth.requires_grad_()
    loss(output, truth).sum().backward()
    assert output.grad is not None
    assert truth.grad is None
    assert not any(p.requires_grad or p.grad is not None for p in networks.load_from(vgg).parameters())
    direction = output.grad / output.grad.norm()
    up, down = (loss(output.detach() + h * direction, truth).item() for h in (1e-2, -1e-2))
    assert (up - down) / 2e-2 == pytest.approx(float(output.grad.norm()), rel=0.03)
    with torch.no_grad():
        assert loss(output - 0.1 * direction, truth) < loss(output, truth)


def test_where_no_feature_fires(state: dict[str, Tensor], tmp_path: Path) -> None:
    """There is nothing to divide by, and neither distance nor gradient may be NaN."""
    deaf = {k: v if k.endswith("weight") else torch.full_like(v, -1000.0) for k, v in state.items()}
    save_file(deaf, tmp_path / "vgg.safetensors")
    loss = PerceptualLoss(str(tmp_path / "vgg.safetensors"))
    black = torch.full((1, 3, 1, 16, 16), -1.0)
    for output in (black.clone(), black + 0.01):
        output.requires_grad_()
        distance = loss(output, black)
        distance.sum().backward()
        assert output.grad is not None
        assert distance.item() == 0
        assert not output.grad.any()


def test_no_module_keeps_the_network(vgg: str) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.perceptual = PerceptualLoss(vgg)

    holder = Holder()
    holder.perceptual(*pictures())
    assert set(holder.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(holder.parameters())) == 2
    assert len(list(holder.modules())) == 2
    assert not isinstance(holder.perceptual, nn.Module)


@torch.no_grad()
def test_fewer_stages(vgg: str) -> None:
    output, truth = pictures()
    _, parts = networks.load_from(vgg)(output[:, :, 0], truth[:, :, 0], retPerLayer=True)
    for stages in range(1, 6):
        expected = sum(part.flatten() for part in parts[:stages])
        torch.testing.assert_close(PerceptualLoss(vgg, stages)(output, truth), expected, rtol=1e-5, atol=0)
        smallest = 2 ** (stages - 1)
        assert PerceptualLoss(vgg, stages)(*pictures(1, 1, smallest)).isfinite().all()
        if stages > 1:
            with pytest.raises(LavinditError, match=f"{stages} stages needs pictures of {smallest} px"):
                PerceptualLoss(vgg, stages)(*pictures(1, 1, smallest - 1))


@torch.no_grad()
def test_fewer_frames_take_turns(vgg: str) -> None:
    output, truth = pictures(1, 13, 8)
    alone = [PerceptualLoss(vgg, 1)(output[:, :, [t]], truth[:, :, [t]]).item() for t in range(13)]
    loss, seen = PerceptualLoss(vgg, 1, frames=4), []
    for shift in range(13):
        chosen = sorted((shift + first) % 13 for first in (0, 3, 6, 9))
        seen += chosen
        mean = sum(alone[t] for t in chosen) / 4
        assert loss(output, truth, shift).item() == pytest.approx(mean, rel=1e-5)
    assert loss(output, truth, 13 * 1000) == loss(output, truth)
    assert all(seen.count(t) == 4 for t in range(13))
    for frames in (1, 4):  # no more frames than are asked for: all
        short = pictures(1, frames, 8)
        torch.testing.assert_close(loss(*short, shift=3), PerceptualLoss(vgg, 1)(*short))


def test_under_autocast(vgg: str) -> None:
    """Half precision in, single precision out; the network runs in bf16, and comes close."""
    loss, (output, truth) = PerceptualLoss(vgg, stages=2), pictures()
    expected = loss(output, truth)
    leaf = output.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(leaf, truth)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)
    assert not torch.equal(found, loss(leaf, truth))
    found.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_a_run_outlives_its_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "vgg.safetensors")
    loss, (output, truth) = PerceptualLoss(str(tmp_path / "vgg.safetensors"), stages=1), pictures(1)
    before = loss(output, truth)
    (tmp_path / "vgg.safetensors").unlink()
    assert torch.equal(loss(output, truth), before)


def test_wrong_files_are_refused_in_one_line(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"

    def refused(part: str) -> None:
        with pytest.raises(LavinditError, match=part) as error:
            PerceptualLoss(str(path))
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    refused("no file of perceptual weights .*; name a safetensors file with a VGG16")
    path.mkdir()
    refused("no file of perceptual weights")
    path.rmdir()
    path.write_bytes(b"\0" * 100)
    refused("cannot be read")
    torch.save(state, path)
    refused("cannot be read .* it must be a safetensors file")
    missing = {key: value for key, value in state.items() if key != "features.28.bias"}
    narrow = state | {"features.2.weight": torch.zeros(64, 32, 3, 3)}
    spoilt = copy.deepcopy(state)
    spoilt["features.10.weight"][7, 7, 1, 1] = torch.nan
    for wrong, part in (
        (missing, r"\(features.28.bias is missing\)"),
        (narrow, r"\(features.2.weight is \[64, 32, 3, 3\], not \[64, 64, 3, 3\]\)"),
        (spoilt, r"\(features.10.weight has values that are not finite\)"),
        (state | {"features.0.bias": torch.zeros(64).int()}, r"\(features.0.bias is of torch.int32\)"),
    ):
        save_file(wrong, path)
        refused(f"does not hold the weights of this network {part}; put the right file in its place")
    save_file(state, path)
    PerceptualLoss(str(path))  # and once it is mended, it is taken


@pytest.mark.parametrize(
    ("options", "line"),
    [({"stages": 0}, "1 to 5 stages, not 0"), ({"stages": 6}, "1 to 5 stages, not 6"), ({"frames": 0}, "not 0")],
)
def test_options_that_cannot_be(vgg: str, options: dict, line: str) -> None:
    with pytest.raises(LavinditError, match=line):
        PerceptualLoss(vgg, **options)


@torch.no_grad()
def test_real_weights_mind_blur_more_than_shade(test_data: Path) -> None:
    """Unlike MSE, which has the order the other way round; with three stages, too."""
    from skimage import data

    truth = torch.from_numpy(data.astronaut()[::8, ::8].copy()).permute(2, 0, 1)[None, :, None] / 127.5 - 1
    blurred = nn.functional.avg_pool2d(truth[:, :, 0], 3, 1, 1, count_include_pad=False)[:, :, None]
    dark = (truth - 0.4).clamp(-1, 1)
    assert (blurred - truth).square().mean() < (dark - truth).square().mean()
    for stages in (5, 3):
        loss = PerceptualLoss(str(test_data / "weights" / "vgg16_hed_features.safetensors"), stages)
        assert loss(blurred, truth) > 2 * loss(dark, truth) > 0
