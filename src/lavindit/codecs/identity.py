"""Pictures that are their own native: restoration, colouring, and every task whose answer is a photograph."""

import torch
from torch import Tensor

from lavindit.codecs.base import Codec


class IdentityCodec(Codec):
    """RGB in, RGB out. The picture of an invalid pixel is kept: it is a picture like any other."""

    name = "identity"
    channels = 3
    unit = "1"
    invalid = "shown as it is; black where not finite"

    def __init__(self) -> None:
        self.bounds = (0.0, 1.0)
        self.tolerance = 1e-6
        self.tolerance_8bit = 0.5 / 255 + 1e-6

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """RGB [3, T, H, W] -> picture [3, T, H, W], clamped to [0, 1]."""
        return torch.where(native.isfinite(), native, 0.0).clamp(0.0, 1.0)

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> RGB [3, T, H, W], clamped to [0, 1]."""
        return picture.clamp(0.0, 1.0)
