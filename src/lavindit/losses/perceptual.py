"""How alike pictures look to a frozen network, as a loss.

Legend: N pictures or clips, T frames, n frames of all of them that are looked at.
"""

from typing import cast

import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.metrics import networks

STAGES = 5  # of VGG16, each at half the resolution of the one before
EPS = 1e-10


class PerceptualLoss:
    """LPIPS's distance under a VGG16, or its proxy; the mean over frames, a picture or clip.

    No `nn.Module`, so a module that keeps it has nothing of the network among its parameters or in its state dict.
    Only the output gets a gradient. The network runs under the caller's autocast; features are compared in single
    precision. On a CPU without hardware for bf16, bf16 took three times as long.

    On a CPU the network may cost more than the VAE. 16 pictures of 64 px, forward and backward on one core without
    bf16, took 1.4 s with five stages, 1.2 s with four, 0.9 s with three and 0.55 s with two. The gradients of four,
    three and two stages had a cosine of about 0.87, 0.66 and 0.5 with that of all five (blurred and noisy photographs).
    At half resolution it was 0.14, so that is no option here.

    Args:
        weights: "lpips" for LPIPS itself, over torchvision's VGG16 in torch hub's cache; or the path of a safetensors
            file with a VGG16 (see `networks.load_from`), which makes the proxy.
        stages: How many of VGG16's five stages are compared, finest first. Fewer are cheaper, and no longer LPIPS.
        frames: How many frames of a clip are looked at, spread evenly; None for all.

    Attributes:
        name: "lpips", or "lpips_proxy" for other weights or fewer stages.

    Raises:
        LavinditError: The weights are missing, damaged, or of another network; `stages` or `frames` cannot be.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    """

    def __init__(self, weights: str, stages: int = STAGES, frames: int | None = None) -> None:
        if not 1 <= stages <= STAGES:
            raise LavinditError(f"the perceptual loss compares 1 to {STAGES} stages, not {stages}")
        if frames is not None and frames < 1:
            raise LavinditError(f"the perceptual loss looks at 1 frame or more of a clip, not {frames}")
        self.weights, self.stages, self.frames = weights, stages, frames
        self.name = "lpips" if weights == "lpips" and stages == STAGES else "lpips_proxy"
        self._networks: dict[torch.device, nn.Module] = {}
        self._network(torch.device("cpu"))  # what is wrong with the weights is told before training

    def __call__(self, output: Tensor, pixels: Tensor, shift: int = 0) -> Tensor:
        """Distance of each picture or clip.

        Args:
            output: [N, 3, T, H, W] in [-1, 1]; gets the gradient.
            pixels: The truth, same shape; gets none.
            shift: By how many frames the chosen ones of a clip are shifted, round and round: give the number of the
                step, and each frame has its turn.

        Returns:
            [N], at least 0.

        Raises:
            LavinditError: The pictures are too small for the network.
        """
        smallest = 2 ** (self.stages - 1)
        if min(output.shape[3:]) < smallest:
            raise LavinditError(f"a perceptual loss of {self.stages} stages needs pictures of {smallest} px or more")
        network = self._network(output.device)
        chosen = self._chosen(output.shape[2], shift)
        count = len(chosen)
        wanted, given = (x[:, :, chosen].transpose(1, 2).flatten(0, 1).float() for x in (pixels, output))
        with torch.no_grad():
            targets = self._features(network, wanted)
        distance = given.new_zeros(len(given))
        for i, (found, target) in enumerate(zip(self._features(network, given), targets, strict=True)):
            head = cast(Tensor, network.get_parameter(f"lin{i}.model.1.weight")).flatten()
            distance = distance + ((found - target).square().mean(dim=(2, 3)) * head).sum(dim=1)
        return distance.reshape(-1, count).mean(dim=1)

    def _network(self, device: torch.device) -> nn.Module:
        """The frozen network on a device; read once, so that a file that goes away does not end a run."""
        if device not in self._networks:
            lpips = self.weights == "lpips"
            found = networks.load("lpips_vgg", device) if lpips else networks.load_from(self.weights, device)
            self._networks[device] = found
        return self._networks[device]

    def _chosen(self, frames: int, shift: int) -> list[int]:
        if self.frames is None or self.frames >= frames:
            return list(range(frames))
        return [(i * frames // self.frames + shift) % frames for i in range(self.frames)]

    def _features(self, network: nn.Module, pictures: Tensor) -> list[Tensor]:
        """Pictures [n, 3, H, W] -> each stage's features [n, C, h, w], of unit length over channels.

        A place where no feature fires stays zero.
        """
        features = network.get_submodule("scaling_layer")(pictures)
        found = []
        for stage in range(1, self.stages + 1):
            features = network.get_submodule(f"net.slice{stage}")(features)
            values = features.float()
            found.append(values * (values.square().sum(dim=1, keepdim=True) + EPS).rsqrt())
        return found
