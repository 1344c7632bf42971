"""Surface normals as colour."""

import math

import torch
from torch import Tensor

from lavindit.codecs.base import Codec

# A decoded vector shorter than this has no direction worth the name: 8-bit mid-gray is 0.007 long.
SHORTEST = 0.05


class NormalsCodec(Codec):
    """Unit vectors (x right, y up, z towards the camera) to colour: `(n + 1) / 2`."""

    name = "normals"
    channels = 3
    unit = "1"
    invalid = "mid-gray 0.5, which decodes to the zero vector; so are pixels without a finite, non-zero normal"

    def __init__(self) -> None:
        self.bounds = (-1.0, 1.0)
        self.tolerance = 1e-5
        # Each channel is off by at most 1/255, hence the vector by sqrt(3)/255 before it is made unit again.
        self.tolerance_8bit = 1.1 * math.sqrt(3) / 255

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Normals [3, T, H, W] (made unit first), valid [1, T, H, W] -> picture [3, T, H, W]."""
        length = _length(native)
        usable = valid & length.isfinite() & (length > 1e-6)
        unit = native / length.clamp_min(1e-6)
        return torch.where(usable, (unit + 1) / 2, 0.5).clamp(0.0, 1.0)

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> unit normals [3, T, H, W]; the zero vector where the colour is all but mid-gray."""
        vector = picture.clamp(0.0, 1.0) * 2 - 1
        length = _length(vector)
        return torch.where(length < SHORTEST, 0.0, vector / length.clamp_min(SHORTEST))

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Unit vectors [3, T, H, W], uniform on the sphere."""
        vector = torch.randn(3, frames, height, width, generator=generator)
        return vector / _length(vector)


def _length(vector: Tensor) -> Tensor:
    """Length of vectors [3, T, H, W] -> [1, T, H, W]; torch's own norm is ten times slower along the first axis."""
    return vector.square().sum(0, keepdim=True).sqrt()
