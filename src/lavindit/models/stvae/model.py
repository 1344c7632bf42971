"""The spatial-temporal VAE: images and clips in one latent space, 4x8x8 smaller.

Legend: pixels x [B, 3, T, H, W] in [-1, 1], T = 4k + 1, H and W multiples of 8; latent z [B, C, 1 + (T-1)/4, H/8, W/8].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.models.stvae.config import STVAEConfig
from lavindit.models.stvae.layers import (
    BlockProjection,
    Downsample,
    LatentNorm,
    Norm,
    ResidualBlock,
    StreamState,
    Upsample,
    lone_frames,
    make_outer_conv,
    shuffle,
    unshuffle,
)

LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, eq=False)
class DiagonalGaussian:
    """Posterior q(z | x) with independent channels.

    Attributes:
        mean: [B, C, t, h, w].
        logvar: Same shape, clamped to [-30, 20].
    """

    mean: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw, differentiable in mean and logvar."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.at(noise)

    def at(self, noise: Tensor) -> Tensor:
        """The draw that standard normal noise of the mean's shape stands for."""
        return self.mean + (0.5 * self.logvar).exp() * noise.to(self.mean)

    def kl(self, omit_width: bool = False) -> Tensor:
        """KL to N(0, 1), summed over C, t, h, w: [B].

        Args:
            omit_width: Leave the width out of the sum, as the release does, and take the mean over it: w times
                smaller.
        """
        kl = 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar)
        return kl.sum((1, 2, 3)).mean(1) if omit_width else kl.flatten(1).sum(1)


class Encoder(nn.Module):
    """Causal 3-D convolutional encoder."""

    def __init__(self, config: STVAEConfig) -> None:
        super().__init__()
        widths = config.widths
        self.stem = make_outer_conv(3 * config.patch**2, widths[0], config)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            first = widths[max(level - 1, 0)]
            inputs = [first, *[width] * (config.encoder_blocks - 1)]
            self.levels.append(nn.ModuleList(ResidualBlock(c, width, config, Norm) for c in inputs))
            if level < len(widths) - 1:
                self.downs.append(Downsample(width, config.halves_time(level), config.halves_space(level)))
        self.mid = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], config, Norm) for _ in range(config.mid_blocks))
        self.norm = Norm(widths[-1], config)
        self.head = make_outer_conv(widths[-1], 2 * config.latent_channels, config)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """Unshuffled pixels -> mean and log-variance, stacked on the channel axis."""
        x = self.stem(x, state)
        for level, blocks in enumerate(self.levels):
            for block in cast(nn.ModuleList, blocks):
                x = block(x, state=state)
            if level < len(self.downs):
                x = self.downs[level](x)
        for block in self.mid:
            x = block(x, state=state)
        return self.head(F.silu(self.norm(x)), state)


class Decoder(nn.Module):
    """Mirrored decoder whose norms are modulated by the latent."""

    def __init__(self, config: STVAEConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.stem = make_outer_conv(config.latent_channels, widths[0], config)
        self.mid = nn.ModuleList(
            ResidualBlock(widths[0], widths[0], config, LatentNorm) for _ in range(config.mid_blocks)
        )
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            first = widths[max(level - 1, 0)]
            inputs = [first, *[width] * (config.decoder_blocks - 1)]
            self.levels.append(nn.ModuleList(ResidualBlock(c, width, config, LatentNorm) for c in inputs))
            if level < len(widths) - 1:
                self.ups.append(Upsample(width, config.halves_time(level), config.doubles_space(level)))
        self.norm = LatentNorm(widths[-1], config)
        self.head = make_outer_conv(widths[-1], 3 * config.patch**2, config)

    def forward(self, z: Tensor, state: StreamState | None = None) -> Tensor:
        """Latent -> unshuffled pixels."""
        x = self.stem(z, state)
        for block in self.mid:
            x = block(x, z, state)
        for level, blocks in enumerate(self.levels):
            for block in cast(nn.ModuleList, blocks):
                x = block(x, z, state)
            if level < len(self.ups):
                x = self.ups[level](x, state)
        return self.head(F.silu(self.norm(x, z, state)), state)


class STVAE(nn.Module):
    """Spatial-temporal VAE, and the normalised latent space that the transformer works in.

    `latent_shift` and `latent_scale` [C] are measured over training data and stored with the weights:
    normalised = (z - shift) * scale. They stay float32 whatever the weights are cast to; pictures and latents are
    cast to the weights' type on their way in, and come out as float32.

    Args:
        config: Size and options.
    """

    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(self, config: STVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.projection = BlockProjection(config.latent_channels) if config.linear_shortcut else None
        if self.projection is not None:  # the network learns what the projection leaves
            nn.init.zeros_(self.decoder.head.weight)
        self.register_buffer("latent_shift", torch.zeros(config.latent_channels))
        self.register_buffer("latent_scale", torch.ones(config.latent_channels))

    def encode(self, x: Tensor, state: StreamState | None = None) -> DiagonalGaussian:
        """Pixels -> posterior.

        Args:
            x: [B, 3, T, H, W] in [-1, 1].
            state: Of a stream whose next chunk x is (`StreamingEncoder` makes and minds it); None: x is all there is.

        Returns:
            Over [B, C, 1 + (T-1)/4, H/8, W/8]; T/4 frames for a later chunk of a stream.

        Raises:
            LavinditError: The VAE does not take this size.
        """
        self.check_size(x, lone_frames(state))
        x = x.to(self._weights_dtype())
        mean, logvar = self.encoder(unshuffle(x, self.config.patch), state).float().chunk(2, dim=1)
        if self.projection is not None:
            mean = mean + self.projection.encode(x).float()
        return DiagonalGaussian(mean, logvar.clamp(*LOGVAR_RANGE))

    def decode(self, z: Tensor, state: StreamState | None = None) -> Tensor:
        """Latent -> pixels.

        Args:
            z: [B, C, t, h, w].
            state: Of a stream whose next chunk z is (`StreamingDecoder` makes and minds it); None: z is all there is.

        Returns:
            [B, 3, 4(t-1) + 1, 8h, 8w], about [-1, 1]; 4t frames for a later chunk of a stream.
        """
        z = z.to(self._weights_dtype()).contiguous(memory_format=torch.channels_last_3d)
        pixels = shuffle(self.decoder(z, state), self.config.patch).float()
        return pixels if self.projection is None else pixels + self.projection.decode(z, state).float()

    @staticmethod
    def check_size(x: Tensor, lone: int = 1) -> None:
        """Refuse pixels [B, 3, T, H, W] that do not divide by 4 (after the `lone` first frames) and 8.

        Raises:
            LavinditError: They do not, or there is no frame.
        """
        frames, height, width = x.shape[2:]
        if frames < 1 or (frames - lone) % 4 or height % 8 or width % 8:
            kind = "4k+1 frames" if lone else "4k frames after the first chunk"
            got = f"{frames} frames of {height}x{width}"
            raise LavinditError(f"the VAE takes {kind} and sides that are multiples of 8, got {got}; pad or crop them")

    def latent_shape(self, pictures: Tensor) -> tuple[int, int, int, int]:
        """Shape (C, t, h, w) of the latent of each of the pictures [..., 3, T, H, W]."""
        frames, height, width = pictures.shape[-3:]
        return self.config.latent_channels, (frames - 1) // 4 + 1, height // 8, width // 8

    def normalise(self, z: Tensor) -> Tensor:
        """Latents as `encode` gives them [..., C, t, h, w] -> as the transformer takes them."""
        return (z - self._per_channel(self.latent_shift)) * self._per_channel(self.latent_scale)

    def denormalise(self, latent: Tensor) -> Tensor:
        """Latents of the transformer [..., C, t, h, w] -> as `decode` takes them."""
        return latent / self._per_channel(self.latent_scale) + self._per_channel(self.latent_shift)

    def to_latent(self, pictures: Tensor, noise: Tensor | None = None, chunk: int | None = None) -> Tensor:
        """Pictures in [0, 1] -> normalised latents.

        Args:
            pictures: [..., 3, T, H, W].
            noise: Standard normal [..., C, t, h, w]: gives the posterior sample that it stands for; None: the
                posterior mean.
            chunk: Pictures (or clips) a pass of the encoder, to bound its memory; None: all at once.

        Returns:
            [..., C, t, h, w].
        """
        lead, flat = pictures.shape[:-4], pictures.flatten(0, -5)
        size = chunk or len(flat)
        draws = [None] * len(flat) if noise is None else noise.flatten(0, -5).split(size)
        found = []
        for part, draw in zip(flat.split(size), draws, strict=False):
            posterior = self.encode(part * 2 - 1)
            found.append(posterior.mean if draw is None else posterior.at(draw))
        return self.normalise(torch.cat(found)).unflatten(0, lead)

    def to_pictures(self, latent: Tensor, chunk: int | None = None) -> Tensor:
        """Normalised latents -> pictures in [0, 1].

        Args:
            latent: [..., C, t, h, w].
            chunk: Latents a pass of the decoder, to bound its memory; None: all at once.

        Returns:
            [..., 3, T, H, W].
        """
        lead = latent.shape[:-4]
        z = self.denormalise(latent.flatten(0, -5))
        pixels = torch.cat([self.decode(part) for part in z.split(chunk or len(z))])
        return ((pixels + 1) / 2).clamp(0, 1).unflatten(0, lead)

    def _weights_dtype(self) -> torch.dtype:
        return self.decoder.head.weight.dtype

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "STVAE":
        """Move and cast as every module does, but keep the latent statistics exact: bfloat16 is off by up to 0.4 %."""
        before = {name: getattr(self, name) for name in ("latent_shift", "latent_scale")}
        super()._apply(fn, recurse)
        for name, value in before.items():
            moved = getattr(self, name)
            if moved.dtype != value.dtype and not value.is_meta:
                setattr(self, name, value.to(moved.device))
        return self

    @staticmethod
    def _per_channel(values: Tensor) -> Tensor:
        return values[:, None, None, None]
