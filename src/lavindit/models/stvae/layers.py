"""Layers of the ST-VAE.

Legend: features are [B, C, T, H, W]; z is the latent [B, 16, t, h, w] that modulates the decoder's norms.

Frame 0 stands for one frame, every later latent frame for four. A long clip may come in chunks (`streaming.py`): the
layers then get a `StreamState`. It tells whether frame 0 is in the chunk, and holds what those that look back in time
remember. Time is padded, halved and doubled by `with_past`, `halve_time`, `double_time` and `resize_like` alone, so a
layer made of these and of what sees one frame at a time can be streamed as it is.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lavindit.models.stvae.config import STVAEConfig

EPS = 1e-6


class StreamState:
    """What the layers of one pass over one stream remember between its chunks.

    The networks hold nothing themselves, so streams do not mix. What a chunk leaves behind counts from `advance` on: a
    chunk that failed halfway can be given again.
    """

    def __init__(self) -> None:
        self.at_start = True
        self._past: dict[nn.Module, Tensor] = {}
        self._next: dict[nn.Module, Tensor] = {}

    def past(self, layer: nn.Module) -> Tensor | None:
        """The frames that a layer remembers; None in the first chunk."""
        return self._past.get(layer)

    def remember(self, layer: nn.Module, frames: Tensor) -> None:
        """Keep frames for a layer's next chunk: a copy without gradient, or a view would keep the whole chunk."""
        self._next[layer] = frames.detach().clone()

    def advance(self) -> None:
        """The chunk is through: go on to the next."""
        self._past, self._next, self.at_start = self._next, {}, False

    def memory_bytes(self) -> int:
        """Bytes of all that is remembered; they do not grow with the stream."""
        return sum(frames.untyped_storage().nbytes() for frames in self._past.values())


def lone_frames(state: StreamState | None) -> int:
    """How many frames of the pass stand for one frame: frame 0, which only the first chunk of a stream has."""
    return int(state is None or state.at_start)


def with_past(x: Tensor, count: int, layer: nn.Module, state: StreamState | None) -> Tensor:
    """Put the `count` frames before x in front of it: those the layer remembers, at the start the first repeated.

    Args:
        x: [B, C, T, H, W].
        count: Frames the layer looks back.
        layer: Whose past it is; it may ask once a pass.
        state: Of the stream, if it is one.

    Returns:
        [B, C, count + T, H, W].
    """
    if count == 0:
        return x
    past = None if state is None else state.past(layer)
    if past is None:
        past = x[:, :, :1].expand(-1, -1, count, -1, -1)
    padded = torch.cat([past, x], dim=2)
    if state is not None:
        state.remember(layer, padded[:, :, -count:])
    return padded


def halve_time(x: Tensor) -> Tensor:
    """Average pairs of frames; the first stays alone where T is odd, as it is where frame 0 is in the chunk."""
    if x.shape[2] == 1:
        return x
    lone = x.shape[2] % 2
    # A mean, since average pooling in bfloat16 does not exist on the CPU.
    return torch.cat([x[:, :, :lone], x[:, :, lone:].unflatten(2, (-1, 2)).mean(3)], dim=2)


def double_time(x: Tensor, state: StreamState | None) -> Tensor:
    """Repeat every frame but frame 0."""
    lone = lone_frames(state)
    if x.shape[2] == lone:
        return x
    return torch.cat([x[:, :, :lone], x[:, :, lone:].repeat_interleave(2, dim=2)], dim=2)


class CausalConv3d(nn.Conv3d):
    """Convolution that sees no later frame: time is padded at the start by repeating the first frame."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=(0, kernel // 2, kernel // 2))

    def forward(self, input: Tensor, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        if state is None and input.shape[2] == 1:
            # Every tap of a lone frame reads that frame: one 2-D convolution with the taps summed.
            frame = F.conv2d(input[:, :, 0], self.weight.sum(2), self.bias, padding=self.padding[1:])
            return frame.unsqueeze(2)
        return super().forward(with_past(input, self.kernel_size[0] - 1, self, state))


class FrameConv2d(nn.Conv2d):
    """A 2-D convolution on each frame."""

    def forward(self, input: Tensor, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H', W']."""
        return unfold_frames(super().forward(fold_frames(input)), input.shape[2])


class ChangeConv(nn.Module):
    """Adds what has changed since the frames before: x_t + sum_k W_k (x_{t-k} - x_t), for k = 1, 2.

    It is a causal convolution over time whose taps add up to the identity, so a still, or the first frame of a clip,
    passes through as it is and costs nothing. It starts at W = 0.
    """

    TAPS = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels, self.TAPS))

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> same."""
        if state is None and x.shape[2] == 1:
            return x
        kernel = torch.cat([self.weight, -self.weight.sum(2, keepdim=True)], 2)[..., None, None]
        return x + F.conv3d(with_past(x, self.TAPS, self, state), kernel)


class FactorisedConv(nn.Module):
    """The layout "2+1d": a convolution of each frame, then one over time (Tran et al. 2018), here of changes alone."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.space = FrameConv2d(channels_in, channels_out, 3, padding=1)
        self.time = ChangeConv(channels_out)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        return self.time(self.space(x), state)


def make_conv(channels_in: int, channels_out: int, config: STVAEConfig) -> nn.Module:
    """A convolution of a residual block, 3 wide in space and time."""
    return (CausalConv3d if config.conv == "3d" else FactorisedConv)(channels_in, channels_out)


def make_outer_conv(channels_in: int, channels_out: int, config: STVAEConfig) -> CausalConv3d | FrameConv2d:
    """The first or last convolution of an encoder or decoder; with "2+1d" it leaves time to the blocks."""
    if config.conv == "3d":
        return CausalConv3d(channels_in, channels_out)
    return FrameConv2d(channels_in, channels_out, 3, padding=1)


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


def resize_like(z: Tensor, x: Tensor, state: StreamState | None = None) -> Tensor:
    """Nearest-neighbour resize of z to the frames and size of x; frame 0 apart, since it stands for one frame."""
    lone, (frames, height, width) = lone_frames(state), x.shape[2:]
    parts = []
    if lone:
        parts.append(F.interpolate(z[:, :, 0], size=(height, width)).unsqueeze(2))
    if frames > lone:
        parts.append(F.interpolate(z[:, :, lone:], size=(frames - lone, height, width)))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


class Norm(nn.Module):
    """Plain GroupNorm of the encoder."""

    def __init__(self, channels: int, config: STVAEConfig, groups: int | None = None) -> None:
        super().__init__()
        self.group = nn.GroupNorm(groups or config.norm_groups, channels, eps=EPS)
        self.per_frame = config.norm == "per_frame"

    def forward(self, x: Tensor, z: Tensor | None = None, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> same."""
        return group_norm(x, self.group, self.per_frame)


class LatentNorm(Norm):
    """Decoder norm modulated by the latent: norm(x) * scale(z) + shift(z), 1x1x1 convolutions."""

    def __init__(self, channels: int, config: STVAEConfig) -> None:
        super().__init__(channels, config, config.decoder_norm_groups)
        self.modulation = nn.Conv3d(config.latent_channels, 2 * channels, 1)
        with torch.no_grad():  # start near a plain norm
            self.modulation.weight.mul_(0.3)
            self.modulation.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))  # pyright: ignore

    def forward(self, x: Tensor, z: Tensor | None = None, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] and latent [B, 16, t, h, w] -> [B, C, T, H, W]."""
        assert z is not None
        # A pointwise convolution commutes with a nearest resize, and is cheaper before it.
        scale, shift = resize_like(self.modulation(z), x, state).chunk(2, dim=1)
        return super().forward(x) * scale + shift


class ResidualBlock(nn.Module):
    """norm - SiLU - causal convolution, twice, and a 1x1x1 shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, config: STVAEConfig, norm: type[Norm]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels_in, config), norm(channels_out, config)
        self.conv1 = make_conv(channels_in, channels_out, config)
        self.conv2 = make_conv(channels_out, channels_out, config)
        self.shortcut = CausalConv3d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, z: Tensor | None = None, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        y = self.conv1(F.silu(self.norm1(x, z, state)), state)
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y, z, state)), state)


class Downsample(nn.Module):
    """Halve time by averaging pairs of frames, space by a strided convolution on each frame, or one of the two."""

    def __init__(self, channels: int, time: bool, space: bool = True) -> None:
        super().__init__()
        self.time = time
        self.conv = FrameConv2d(channels, channels, 3, stride=2) if space else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C, T', H', W']; frame 0 stays alone when T is odd."""
        if self.time:
            x = halve_time(x)
        return x if self.conv is None else self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double time, space or both by repeating; after space, a convolution on each frame."""

    def __init__(self, channels: int, time: bool, space: bool = True) -> None:
        super().__init__()
        self.time = time
        self.conv = FrameConv2d(channels, channels, 3, padding=1) if space else None

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, C, T', H', W']; frame 0 stands for one frame, so T' is 2T - 1 where time doubles."""
        if self.time:
            x = double_time(x, state)
        if self.conv is None:
            return x
        frames = x.shape[2]
        return self.conv(unfold_frames(F.interpolate(fold_frames(x), scale_factor=2.0), frames))


class BlockProjection(nn.Module):
    """Linear maps between blocks of 8x8 pixels and latents: what principal components could do.

    They start as a random orthogonal projection and its transpose.
    """

    BLOCK = 8

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.to_latent = FrameConv2d(3 * self.BLOCK**2, latent_channels, 1)
        self.to_pixels = FrameConv2d(latent_channels, 3 * self.BLOCK**2, 1)
        with torch.no_grad():
            rows = nn.init.orthogonal_(self.to_latent.weight.flatten(1))
            self.to_latent.weight.copy_(rows[..., None, None])
            self.to_pixels.weight.copy_(rows.T[..., None, None])

    def encode(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, T, H, W] -> [B, C, t, h, w]; frames are averaged as the encoder's are."""
        return self.to_latent(halve_time(halve_time(unshuffle(x, self.BLOCK))))

    def decode(self, z: Tensor, state: StreamState | None = None) -> Tensor:
        """[B, C, t, h, w] -> pixels [B, 3, T, H, W]."""
        return shuffle(double_time(double_time(self.to_pixels(z), state), state), self.BLOCK)


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """[B, 3, T, H, W] -> [B, 3 f f, T, H/f, W/f], channels last in memory, as convolutions on a CPU like it."""
    return rearrange(x, "b c t (h p) (w q) -> b t h w (c p q)", p=factor, q=factor).permute(0, 4, 1, 2, 3)


def shuffle(x: Tensor, factor: int) -> Tensor:
    """[B, 3 f f, T, h, w] -> [B, 3, T, f h, f w]."""
    return rearrange(x, "b (c p q) t h w -> b c t (h p) (w q)", p=factor, q=factor)
