"""Layers of the ST-VAE.

Legend: features are [B, C, T, H, W]; z is the latent [B, 16, t, h, w] that modulates the decoder's norms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavindit.models.stvae.config import STVAEConfig

EPS = 1e-6


class CausalConv3d(nn.Conv3d):
    """Convolution that sees no later frame: time is padded at the start by repeating the first frame."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=(0, kernel // 2, kernel // 2))

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        if input.shape[2] == 1:
            # Every tap of a lone frame reads that frame: one 2-D convolution with the taps summed.
            frame = F.conv2d(input[:, :, 0], self.weight.sum(2), self.bias, padding=self.padding[1:])
            return frame.unsqueeze(2)
        first = input[:, :, :1].expand(-1, -1, self.kernel_size[0] - 1, -1, -1)
        return super().forward(torch.cat([first, input], dim=2))


class FrameConv2d(nn.Conv2d):
    """A 2-D convolution on each frame."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H', W']."""
        return unfold_frames(super().forward(fold_frames(input)), input.shape[2])


def fold_frames(x: Tensor) -> Tensor:
    """[B, C, T, H, W] -> [B T, C, H, W]."""
    return x[:, :, 0] if x.shape[2] == 1 else x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, frames: int) -> Tensor:
    """[B T, C, H, W] -> [B, C, T, H, W]."""
    return x.unsqueeze(2) if frames == 1 else x.unflatten(0, (-1, frames)).transpose(1, 2)


def group_norm(x: Tensor, norm: nn.GroupNorm, per_frame: bool) -> Tensor:
    """GroupNorm of each frame alone, or over the whole clip."""
    if per_frame or x.shape[2] == 1:
        return unfold_frames(norm(fold_frames(x)), x.shape[2])
    return norm(x)


def resize_like(z: Tensor, x: Tensor) -> Tensor:
    """Nearest-neighbour resize of z to the frames and size of x; frame 0 apart, since it stands for one frame."""
    frames = x.shape[2]
    first = F.interpolate(z[:, :, 0], size=x.shape[3:]).unsqueeze(2)
    if frames == 1:
        return first
    return torch.cat([first, F.interpolate(z[:, :, 1:], size=(frames - 1, *x.shape[3:]))], dim=2)


class Norm(nn.Module):
    """Plain GroupNorm of the encoder."""

    def __init__(self, channels: int, config: STVAEConfig, groups: int | None = None) -> None:
        super().__init__()
        self.group = nn.GroupNorm(groups or config.norm_groups, channels, eps=EPS)
        self.per_frame = config.norm == "per_frame"

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """[B, C, T, H, W] -> same."""
        return group_norm(x, self.group, self.per_frame)


class LatentNorm(Norm):
    """Decoder norm modulated by the latent: norm(x) * scale(z) + shift(z), 1x1x1 convolutions."""

    def __init__(self, channels: int, config: STVAEConfig) -> None:
        super().__init__(channels, config, config.decoder_norm_groups)
        self.modulation = nn.Conv3d(config.latent_channels, 2 * channels, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """[B, C, T, H, W] and latent [B, 16, t, h, w] -> [B, C, T, H, W]."""
        assert z is not None
        # A pointwise convolution commutes with a nearest resize, and is cheaper before it.
        scale, shift = resize_like(self.modulation(z), x).chunk(2, dim=1)
        return super().forward(x) * scale + shift


class ResidualBlock(nn.Module):
    """norm - SiLU - causal convolution, twice, and a 1x1x1 shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, config: STVAEConfig, norm: type[Norm]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels_in, config), norm(channels_out, config)
        self.conv1 = CausalConv3d(channels_in, channels_out)
        self.conv2 = CausalConv3d(channels_out, channels_out)
        self.shortcut = CausalConv3d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        y = self.conv1(F.silu(self.norm1(x, z)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y, z)))


class Downsample(nn.Module):
    """Halve space by a strided convolution on each frame; before it, time by averaging pairs of frames."""

    def __init__(self, channels: int, time: bool) -> None:
        super().__init__()
        self.time = time
        self.conv = FrameConv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C, T', H/2, W/2]; frame 0 stays alone when T is odd."""
        if self.time and x.shape[2] > 1:
            alone = x.shape[2] % 2
            halved = F.avg_pool3d(x[:, :, alone:], (2, 1, 1))
            x = torch.cat([x[:, :, :alone], halved], dim=2)
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double space, and time where asked, by repeating; then a convolution on each frame."""

    def __init__(self, channels: int, time: bool) -> None:
        super().__init__()
        self.time = time
        self.conv = FrameConv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C, T', 2H, 2W]; frame 0 stands for one frame, so T' is 2T - 1 where time doubles."""
        if self.time and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
        frames = x.shape[2]
        x = unfold_frames(F.interpolate(fold_frames(x), scale_factor=2.0), frames)
        return self.conv(x)
