"""The adversary of the VAE's training: a patch discriminator of pictures and clips.

Legend: N pictures or clips, T frames, P patches that get a logit each; `D` in the papers' equations.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lavindit.errors import LavinditError
from lavindit.models.stvae.layers import fold_frames

NORM_GROUPS = 8
WIDEST = 8  # times the first width, as in pix2pix
SLOPE = 0.2


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size and options of a patch discriminator.

    The defaults have 0.17 M parameters for frames and 0.5 M for clips, and take 40 million multiplications for a frame
    of 64 px. `width=64, layers=3` is the discriminator of pix2pix with group norm: 2.8 M for frames, 8.3 M for clips.

    Attributes:
        width: Channels after the first convolution; they double with each further one, up to 8 times. A multiple of 8.
        layers: Convolutions of stride 2; 1, 2, 3 and 4 of them let a logit see 16, 34, 70 and 142 px.
        norm: "group" normalises each picture alone, so that a batch of one works and no picture sees another; "none"
            leaves the norms out, which suits `spectral_norm` and an R1 penalty.
        spectral_norm: Divide each weight by its largest singular value (Miyato et al. 2018).
        temporal: Judge clips by their motion too, not by their frames alone.
    """

    width: int = 32
    layers: int = 2
    norm: Literal["group", "none"] = "group"
    spectral_norm: bool = False
    temporal: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % NORM_GROUPS:
            raise ValueError(f"the discriminator's width must be a multiple of {NORM_GROUPS}, not {self.width}")
        if not 1 <= self.layers <= 6:
            raise ValueError(f"the discriminator's layers must be 1 to 6, not {self.layers}")
        if self.norm not in ("group", "none"):
            raise ValueError(f"the discriminator's norm must be 'group' or 'none', not {self.norm!r}")

    @property
    def smallest_px(self) -> int:
        """The smallest side of a picture: its last map of features must be left with 3 pixels."""
        return 3 * 2**self.layers


class Discriminator(nn.Module):
    """Tells real pictures from reconstructed ones, patch by patch.

    A frame branch of 2-D convolutions judges each frame alone. A temporal branch of 3-D convolutions, with parameters
    of its own, judges clips as well. In a step on images the temporal branch is not run and gets no gradient (None,
    so that an optimizer leaves it and its state alone): under DDP such steps need `find_unused_parameters=True`.

    With `spectral_norm`, each pass in training mode improves the estimate of the singular vectors by one power
    iteration: they are buffers of the state dict, and a resumed run goes on from them.

    Args:
        config: Size and options.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, for the frame
        branch (with group norm in place of batch norm); the temporal branch continues it to three dimensions.
    """

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        self.config = config
        self.frame_branch = _branch(config, clips=False)
        self.temporal_branch = _branch(config, clips=True) if config.temporal else None

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of patches: above 0 for real, below for reconstructed.

        Args:
            pictures: [N, 3, T, H, W] in [-1, 1]; H and W at least `config.smallest_px`.

        Returns:
            [N, P], those of the frames first. The temporal branch thins out frames; its logits are repeated to as many
            as those of the frames, so that a mean over P gives each branch half the weight.

        Raises:
            LavinditError: The pictures are too small.
        """
        frames, smallest = pictures.shape[2], self.config.smallest_px
        if min(pictures.shape[3:]) < smallest:
            raise LavinditError(
                f"pictures of {pictures.shape[3]}x{pictures.shape[4]} px are too small for a discriminator of "
                f"{self.config.layers} layers, which needs {smallest} px; give it fewer layers"
            )
        logits = self.frame_branch(fold_frames(pictures)).reshape(len(pictures), -1)
        if frames == 1 or self.temporal_branch is None:
            return logits
        motion = self.temporal_branch(pictures)
        nearest = torch.arange(frames, device=motion.device) * motion.shape[2] // frames
        return torch.cat([logits, motion[:, :, nearest].flatten(1)], dim=1)


def _branch(config: DiscriminatorConfig, clips: bool) -> nn.Sequential:
    """Strided convolutions, one more without stride, and one to a single channel, all of 4x4 px.

    Those of clips see three frames, and their strided ones halve the number of frames, rounded up.
    """
    widths = [config.width * min(2**i, WIDEST) for i in range(config.layers + 1)]
    parts: list[nn.Module] = []
    for i, (before, after) in enumerate(zip([3, *widths[:-1]], widths, strict=True)):
        parts.append(_convolution(config, clips, before, after, stride=2 if i < config.layers else 1))
        if i > 0 and config.norm == "group":
            parts.append(nn.GroupNorm(NORM_GROUPS, after))
        parts.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*parts, _convolution(config, clips, widths[-1], 1, stride=1))


def _convolution(config: DiscriminatorConfig, clips: bool, before: int, after: int, stride: int) -> nn.Module:
    if clips:
        made = nn.Conv3d(before, after, (3, 4, 4), stride, padding=1)
    else:
        made = nn.Conv2d(before, after, 4, stride, padding=1)
    return spectral_norm(made) if config.spectral_norm else made
