"""The spatial-temporal VAE."""

from lavindit.models.stvae.config import STVAEConfig
from lavindit.models.stvae.model import STVAE, DiagonalGaussian
from lavindit.models.stvae.streaming import StreamingDecoder, StreamingEncoder, decode_in_chunks, encode_in_chunks
from lavindit.models.stvae.tiling import Tiling, decode_tiled, encode_tiled

__all__ = [
    "STVAE",
    "DiagonalGaussian",
    "STVAEConfig",
    "StreamingDecoder",
    "StreamingEncoder",
    "Tiling",
    "decode_in_chunks",
    "decode_tiled",
    "encode_in_chunks",
    "encode_tiled",
]
