"""Long clips through the ST-VAE chunk by chunk, with the result of the whole clip and the memory of one chunk.

Legend: pixels x [B, 3, T, H, W] in [-1, 1]; latent z [B, C, t, h, w], as `STVAE.encode` gives it. The first chunk has
4k+1 frames (k >= 0) or 1+k latent frames, every later one 4k or k (k >= 1); k may change from chunk to chunk.
"""

from typing import Literal

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.models.stvae.layers import StreamState
from lavindit.models.stvae.model import STVAE, DiagonalGaussian

CHUNK_FRAMES = 12
"""Frames a chunk where nothing else is said (and one more in the first): what the networks were trained on."""


class _Stream:
    """One stream through one half of a VAE: its state, and the shape that all its chunks share.

    Args:
        vae: In eval mode or not: no layer behaves differently. It must have the norm `per_frame`.

    Raises:
        LavinditError: The norm takes statistics over the whole clip.
    """

    def __init__(self, vae: STVAE) -> None:
        if vae.config.norm != "per_frame":
            raise LavinditError(
                f"a VAE with norm {vae.config.norm!r} takes statistics over the whole clip and cannot be streamed; "
                "encode and decode the clip at once"
            )
        self.vae, self.state = vae, StreamState()
        self._shape: tuple[int, ...] | None = None

    def _check_shape(self, chunk: Tensor, kind: Literal["pixels", "latents"]) -> None:
        lead, frames, sides = chunk.shape[:2], chunk.shape[2], chunk.shape[3:]
        if frames < 1:
            raise LavinditError(f"a chunk of {kind} without frames: {tuple(chunk.shape)}; leave it out")
        shape = (*lead, *sides)
        if self._shape not in (None, shape):
            raise LavinditError(
                f"the stream began with {kind} of (B, C, H, W) {self._shape}, got {shape}; start another stream"
            )

    def _advance(self, chunk: Tensor) -> None:
        self._shape = (*chunk.shape[:2], *chunk.shape[3:])
        self.state.advance()


class StreamingEncoder(_Stream):
    """Encodes one clip (or a batch of clips of one size) that comes in chunks.

    Joined over time, the posteriors of the chunks are that of the whole clip, up to rounding. Gradients do not flow.
    """

    @torch.no_grad()
    def __call__(self, x: Tensor) -> DiagonalGaussian:
        """The next frames, pixels [B, 3, T, H, W] -> posterior of the next latent frames.

        Returns:
            Over [B, C, 1 + (T-1)/4, H/8, W/8] for the first chunk, [B, C, T/4, H/8, W/8] for every later one.

        Raises:
            LavinditError: The chunk has the wrong number of frames, or another batch or size than the one before. The
                stream stays as it was.
        """
        self._check_shape(x, "pixels")
        posterior = self.vae.encode(x, self.state)
        self._advance(x)
        return posterior


class StreamingDecoder(_Stream):
    """Decodes one latent clip (or a batch of one size) that comes in chunks of one latent frame or more.

    Joined over time, the chunks are the decoded whole, up to rounding. Gradients do not flow.
    """

    @torch.no_grad()
    def __call__(self, z: Tensor) -> Tensor:
        """The next latent frames [B, C, t, h, w] -> the next pixels.

        Returns:
            [B, 3, 4(t-1) + 1, 8h, 8w] for the first chunk, [B, 3, 4t, 8h, 8w] for every later one.

        Raises:
            LavinditError: The chunk has no frames, or another batch or size than the one before. The stream stays as
                it was.
        """
        self._check_shape(z, "latents")
        pixels = self.vae.decode(z, self.state)
        self._advance(z)
        return pixels


def encode_in_chunks(vae: STVAE, x: Tensor, chunk_frames: int = CHUNK_FRAMES) -> DiagonalGaussian:
    """As `STVAE.encode`, with the activations of one chunk at a time.

    Args:
        vae: With the norm `per_frame`.
        x: Pixels [B, 3, T, H, W] in [-1, 1], T = 4k + 1.
        chunk_frames: Frames a chunk, a multiple of 4; the first has one more.

    Returns:
        The posterior over [B, C, 1 + (T-1)/4, H/8, W/8].

    Raises:
        LavinditError: The norm, the size or the chunk does not fit.
    """
    vae.check_size(x)
    encoder = StreamingEncoder(vae)
    parts = [encoder(chunk) for chunk in _split(x, 4 * _latent_frames(chunk_frames))]
    return DiagonalGaussian(torch.cat([p.mean for p in parts], 2), torch.cat([p.logvar for p in parts], 2))


def decode_in_chunks(vae: STVAE, z: Tensor, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
    """As `STVAE.decode`, with the activations of one chunk at a time.

    Args:
        vae: With the norm `per_frame`.
        z: Latent [B, C, t, h, w].
        chunk_frames: Frames of pixels a chunk, a multiple of 4; the first has one more.

    Returns:
        Pixels [B, 3, 4(t-1) + 1, 8h, 8w].

    Raises:
        LavinditError: The norm or the chunk does not fit.
    """
    decoder = StreamingDecoder(vae)
    return torch.cat([decoder(chunk) for chunk in _split(z, _latent_frames(chunk_frames))], 2)


def _latent_frames(chunk_frames: int) -> int:
    if chunk_frames < 4 or chunk_frames % 4:
        raise LavinditError(f"chunks of {chunk_frames} frames; name a multiple of 4")
    return chunk_frames // 4


def _split(x: Tensor, size: int) -> list[Tensor]:
    """Chunks of `size` frames, and one more in the first."""
    return [x[:, :, : size + 1], *(x[:, :, size + 1 :].split(size, 2) if x.shape[2] > size + 1 else ())]
