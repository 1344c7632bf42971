"""The networks that some metrics and the perceptual loss look through, and where their weights come from.

Nothing is downloaded: a figure whose weights are not on this machine is not measured, and `remedy` says what gets them.
No metric holds a network and the loss is no module, so none is part of a state dict; each is kept here, once a device.

| Name | Network | Weights |
|---|---|---|
| `lpips` | AlexNet with LPIPS's own heads | torchvision's file in torch hub's cache; the heads are part of lpips |
| `inception` | Inception v3 of FID and KID | torch-fidelity's file in torch hub's cache |
| `lpips_vgg` | VGG16 with LPIPS's own heads, the one to train with | torchvision's file in torch hub's cache |
| `perceptual` | VGG16's convolutions with LPIPS's VGG heads | a safetensors file that `LAVINDIT_PERCEPTUAL` names |
"""

import os
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import lpips
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchmetrics.image.fid import NoTrainInceptionV3
from torchvision.models import AlexNet_Weights, VGG16_Weights

from lavindit.errors import LavinditError
from lavindit.metrics.base import suggest

NETWORKS = ("lpips", "inception", "lpips_vgg", "perceptual")
PERCEPTUAL_VARIABLE = "LAVINDIT_PERCEPTUAL"
TITLES = {
    "lpips": "LPIPS's AlexNet",
    "inception": "the Inception v3 of FID and KID",
    "lpips_vgg": "LPIPS's VGG16",
}
# Of Caffe's networks: subtracted from RGB in 0 .. 255, without a division.
CAFFE_MEAN_RGB = (123.68, 116.78, 103.94)


def available(name: str) -> bool:
    """Whether the weights of a network are on this machine; "" stands for no network, which is always there.

    Args:
        name: One of `NETWORKS`, or "".

    Raises:
        LavinditError: There is no such network.
    """
    path = weights_path(name) if name else None
    return not name or (path is not None and path.is_file())


def weights_path(name: str) -> Path | None:
    """The file that a network's weights are read from, whether it exists or not; None where no file is named.

    Raises:
        LavinditError: There is no such network.
    """
    _check(name)
    if name == "perceptual":
        named = os.environ.get(PERCEPTUAL_VARIABLE)
        return Path(named).expanduser() if named else None
    return Path(torch.hub.get_dir()) / "checkpoints" / _url(name).rsplit("/", 1)[-1]


def remedy(name: str) -> str:
    """What a network lacks and the command that gets it, in one line.

    Raises:
        LavinditError: There is no such network.
    """
    path = weights_path(name)
    fetch = f"torch.hub.load_state_dict_from_url({_url(name)!r}, check_hash=True, weights_only=True)"
    if name != "perceptual":
        return f'{TITLES[name]} is not at {path}; get it with: python -c "import torch; {fetch}"'
    if path is not None:
        return f"{PERCEPTUAL_VARIABLE} names {path}, which is no file; correct it, or unset it"
    keep = "s.save_file({k: v for k, v in w.items() if k.startswith('features.')}, 'vgg16.safetensors')"
    return (
        f'the perceptual proxy needs a VGG16; get one with: python -c "import torch, safetensors.torch as s; '
        f'w = {fetch}; {keep}" && export {PERCEPTUAL_VARIABLE}=$PWD/vgg16.safetensors'
    )


def load(name: str, device: torch.device | str = "cpu") -> nn.Module:
    """A network, frozen and in single precision; read once for each device.

    Returns:
        "inception": uint8 pictures [B, 3, H, W] -> features [B, 2048]. The others: two stacks of pictures
        [B, 3, H, W] in [-1, 1] -> distances [B, 1, 1, 1].

    Raises:
        LavinditError: There is no such network, or its weights are missing, damaged or of another network.
    """
    path = weights_path(name)
    if path is None or not path.is_file():
        raise LavinditError(remedy(name))
    return _load(name, path.resolve(), str(device))


def load_from(path: Path | str, device: torch.device | str = "cpu") -> nn.Module:
    """The `perceptual` network over a VGG16 at a path of the caller's, as `load` gives it.

    Args:
        path: A safetensors file with VGG16's convolutions, `features.N.weight` and `features.N.bias` as torchvision
            numbers them, for RGB in 0 .. 255 less Caffe's mean; any floating type.
        device: Where the network is wanted.

    Raises:
        LavinditError: There is no such file, or it is damaged, of another network or not finite.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise LavinditError(f"no file of perceptual weights at {path}; name a safetensors file with a VGG16")
    return _load("perceptual", path.resolve(), str(device))


@lru_cache(maxsize=8)
def _load(name: str, path: Path, device: str) -> nn.Module:
    builders: dict[str, Callable[[Path], nn.Module]] = {
        "lpips": _alexnet,
        "inception": _inception,
        "lpips_vgg": _vgg16,
        "perceptual": _caffe_vgg16,
    }
    return builders[name](path).eval().requires_grad_(False).to(device)


class CaffeScaling(nn.Module):
    """Brings pictures from [-1, 1] to RGB in 0 .. 255 less Caffe's mean."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CAFFE_MEAN_RGB)[:, None, None])

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], and the same."""
        return (pictures + 1) * 127.5 - self.mean


def _alexnet(path: Path) -> nn.Module:
    return _perceptual_network("alex", _read_state(path), lpips.ScalingLayer(), path)


def _vgg16(path: Path) -> nn.Module:
    return _perceptual_network("vgg", _read_state(path), lpips.ScalingLayer(), path)


def _caffe_vgg16(path: Path) -> nn.Module:
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LavinditError(f"{path} cannot be read ({error}); it must be a safetensors file") from error
    return _perceptual_network("vgg", state, CaffeScaling(), path)


def _inception(path: Path) -> nn.Module:
    _read_state(path)  # torch-fidelity runs whatever code a pickle holds; a file of anything but tensors ends here
    try:
        return NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    except RuntimeError as error:
        raise _unfit(path) from error


def _perceptual_network(kind: str, state: Mapping[str, Tensor], scaling: nn.Module, path: Path) -> nn.Module:
    """LPIPS's network over a torchvision backbone [`features.N.weight`], with the heads that lpips ships."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # lpips speaks torchvision's older dialect
        network = lpips.LPIPS(pretrained=False, pnet_rand=True, net=kind, verbose=False)
    heads = _read_state(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{kind}.pth")
    network.register_module("scaling_layer", scaling)
    layers = {}
    for key, wanted in network.net.state_dict().items():
        # lpips cuts the backbone into slices whose layers keep torchvision's numbers
        layers[key] = _checked(state, "features." + key.split(".", 1)[1], wanted.shape, path)
    network.net.load_state_dict(layers, assign=True)
    network.load_state_dict(heads, strict=False, assign=True)
    return network


def _read_state(path: Path) -> dict[str, Any]:
    """A state dict of tensors, and nothing that could run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no one error for a damaged file
        raise LavinditError(f"{path} cannot be read as weights; delete it and get it again") from error
    if not isinstance(state, dict):
        raise _unfit(path)
    return state


def _checked(state: Mapping[str, Any], name: str, shape: torch.Size, path: Path) -> Tensor:
    """A tensor of a file in single precision; it must be there, of this shape and finite."""
    tensor = state.get(name)
    if not isinstance(tensor, Tensor) or tensor.shape != shape:
        found = f"is {list(tensor.shape)}, not {list(shape)}" if isinstance(tensor, Tensor) else "is missing"
        raise _unfit(path, f" ({name} {found})")
    values = tensor.float()
    if not tensor.is_floating_point():
        raise _unfit(path, f" ({name} is of {tensor.dtype})")
    if not values.isfinite().all():
        raise _unfit(path, f" ({name} has values that are not finite)")
    return values


def _unfit(path: Path, reason: str = "") -> LavinditError:
    return LavinditError(f"{path} does not hold the weights of this network{reason}; put the right file in its place")


def _url(name: str) -> str:
    """Where the weights are published; for the proxy, torchvision's VGG16 that takes RGB in 0 .. 255 less a mean."""
    urls = {
        "lpips": AlexNet_Weights.IMAGENET1K_V1.url,
        "inception": URL_INCEPTION_V3,
        "lpips_vgg": VGG16_Weights.IMAGENET1K_V1.url,
        "perceptual": VGG16_Weights.IMAGENET1K_FEATURES.url,
    }
    return urls[name]


def _check(name: str) -> None:
    if name not in NETWORKS:
        raise LavinditError(f"no metric network is called {name!r}{suggest(name, NETWORKS)}")
