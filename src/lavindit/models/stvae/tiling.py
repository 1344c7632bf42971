"""Large pictures and clips through the ST-VAE tile by tile.

Tiles of one size overlap, and each fades out linearly where its neighbour fades in. Tiled and untiled results differ in
two ways: near the sides of a tile the convolutions see zeros where the picture goes on, which the fading hides; and
every GroupNorm takes the statistics of the tile and not of the picture, which it cannot hide. `benchmarks/tiled_vae.py`
measures both.

Legend: pixels x [B, 3, T, H, W] in [-1, 1]; latent z [B, C, t, h, w], as `STVAE.encode` gives it; a cell is a position
of the latent, 8x8 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.models.stvae.model import STVAE, DiagonalGaussian
from lavindit.models.stvae.streaming import decode_in_chunks, encode_in_chunks

CELL_PX = 8


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        size_px: Side of a tile, a multiple of 8. Larger tiles are nearer to the untiled result; a side of the picture
            that is no longer is not cut.
        overlap_px: The least that neighbours share, a multiple of 8, less than the size.
        chunk_frames: Frames of each tile in one pass, a multiple of 4, for long clips (see `streaming.py`); None: all.
    """

    size_px: int = 256
    overlap_px: int = 64
    chunk_frames: int | None = None

    def __post_init__(self) -> None:
        if self.size_px < CELL_PX or self.size_px % CELL_PX:
            raise LavinditError(f"tiles of {self.size_px} px; name a multiple of {CELL_PX}")
        if not 0 <= self.overlap_px < self.size_px or self.overlap_px % CELL_PX:
            raise LavinditError(
                f"an overlap of {self.overlap_px} px; name a multiple of {CELL_PX} below the tiles' {self.size_px} px"
            )


@dataclass(frozen=True, eq=False)
class Span:
    """Where a tile lies along one side.

    Attributes:
        start: First cell.
        stop: The cell after the last.
        weights: Share of the tile in the result, cell by cell or pixel by pixel; the shares of all tiles sum to 1.
    """

    start: int
    stop: int
    weights: Tensor


def spans(cells: int, size: int, overlap: int, scale: int = 1) -> list[Span]:
    """Cut a side of `cells` into tiles of one `size`, spread evenly; neighbours share `overlap` cells or more.

    Args:
        cells: Length of the side.
        size: Length of a tile; the whole side where it is no longer.
        overlap: The least that neighbours share, less than `size`.
        scale: Weights for each cell: 1, or 8 for those of pixels.
    """
    if cells <= size:
        return [Span(0, cells, torch.ones(cells * scale))]
    count = -(-(cells - overlap) // (size - overlap))
    starts = [place * (cells - size) // (count - 1) for place in range(count)]
    shares = torch.zeros(count, cells * scale)
    for place, start in enumerate(starts):
        tile = torch.ones(size * scale)
        if place > 0:
            tile = tile.minimum(_ramp(starts[place - 1] + size - start, size, scale))
        if place < count - 1:
            tile = tile.minimum(_ramp(start + size - starts[place + 1], size, scale).flip(0))
        shares[place, start * scale : (start + size) * scale] = tile
    shares /= shares.sum(0)
    return [
        Span(start, start + size, share[start * scale : (start + size) * scale])
        for start, share in zip(starts, shares, strict=True)
    ]


@torch.no_grad()
def encode_tiled(vae: STVAE, x: Tensor, tiling: Tiling | None = None) -> DiagonalGaussian:
    """As `STVAE.encode`, tile by tile; mean and log-variance are blended in the latent. Gradients do not flow.

    Args:
        vae: The VAE.
        x: Pixels [B, 3, T, H, W] in [-1, 1], T = 4k + 1, H and W multiples of 8.
        tiling: How to cut; None: the defaults.

    Returns:
        The posterior over [B, C, 1 + (T-1)/4, H/8, W/8].

    Raises:
        LavinditError: The VAE does not take this size, or cannot be streamed where `chunk_frames` is given.
    """
    vae.check_size(x)
    tiling = tiling or Tiling()
    height, width = x.shape[3] // CELL_PX, x.shape[4] // CELL_PX

    def encode(rows: Span, columns: Span) -> Tensor:
        tile = x[..., rows.start * CELL_PX : rows.stop * CELL_PX, columns.start * CELL_PX : columns.stop * CELL_PX]
        frames = tiling.chunk_frames
        posterior = vae.encode(tile) if frames is None else encode_in_chunks(vae, tile, frames)
        return torch.cat([posterior.mean, posterior.logvar], dim=1)

    mean, logvar = _blend(encode, height, width, tiling, scale=1).chunk(2, dim=1)
    return DiagonalGaussian(mean, logvar)


@torch.no_grad()
def decode_tiled(vae: STVAE, z: Tensor, tiling: Tiling | None = None) -> Tensor:
    """As `STVAE.decode`, tile by tile, blended in the pixels. Gradients do not flow.

    Args:
        vae: The VAE.
        z: Latent [B, C, t, h, w].
        tiling: How to cut; None: the defaults.

    Returns:
        Pixels [B, 3, 4(t-1) + 1, 8h, 8w], about [-1, 1].

    Raises:
        LavinditError: The VAE cannot be streamed, where `chunk_frames` is given.
    """
    tiling = tiling or Tiling()

    def decode(rows: Span, columns: Span) -> Tensor:
        tile = z[..., rows.start : rows.stop, columns.start : columns.stop]
        frames = tiling.chunk_frames
        return vae.decode(tile) if frames is None else decode_in_chunks(vae, tile, frames)

    return _blend(decode, z.shape[3], z.shape[4], tiling, scale=CELL_PX)


def _ramp(shared: int, size: int, scale: int) -> Tensor:
    """Rising weights over the shared cells of a tile, then 1; they and the neighbour's falling ones sum to 1."""
    return ((torch.arange(size * scale) + 0.5) / (shared * scale)).clamp(max=1) if shared else torch.ones(size * scale)


def _blend(make: Callable[[Span, Span], Tensor], height: int, width: int, tiling: Tiling, scale: int) -> Tensor:
    """Sum of what `make` gives for every tile, weighted; `scale` positions of the result to a cell."""
    size, overlap = tiling.size_px // CELL_PX, tiling.overlap_px // CELL_PX
    result: Tensor | None = None
    for rows in spans(height, size, overlap, scale):
        for columns in spans(width, size, overlap, scale):
            tile = make(rows, columns)
            if result is None:
                result = tile.new_zeros(*tile.shape[:3], height * scale, width * scale)
            part = result[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
            part += tile * (rows.weights[:, None] * columns.weights).to(tile)
    assert result is not None
    return result
