"""Binary maps as white on black: a foreground, an edge map."""

import torch
from torch import Tensor

from lavindit.codecs.base import Codec


class MaskCodec(Codec):
    """A map of {0, 1} to black and white. Decoding keeps the shade, so that a metric can set its own threshold."""

    name = "mask"
    channels = 1
    unit = "1"
    invalid = "black, as background; so are pixels that are not finite"

    def __init__(self) -> None:
        self.bounds = (0.0, 1.0)
        self.tolerance = 1e-6
        self.tolerance_8bit = 0.5 / 255 + 1e-6

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Map in [0, 1] [1, T, H, W], any dtype, valid [1, T, H, W] -> picture [3, T, H, W]."""
        level = native if native.is_floating_point() else native.float()
        level = torch.where(valid & level.isfinite(), level, 0.0).clamp(0.0, 1.0)
        return level.expand(3, -1, -1, -1).contiguous()

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> soft map in [0, 1], the mean of the channels [1, T, H, W]."""
        return picture.clamp(0.0, 1.0).mean(0, keepdim=True)
