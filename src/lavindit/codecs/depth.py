"""Depth as gray: logarithmic, so that a step of gray is the same share of the distance everywhere."""

import math

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.errors import LavinditError


class DepthCodec(Codec):
    """Metres to gray: `gray = (log d - log near) / (log far - log near)`, near black, far white.

    Args:
        near: Depth in metres shown as black; nearer ones are clamped to it.
        far: Depth in metres shown as white; farther ones are clamped to it.

    Raises:
        LavinditError: Unless 0 < near < far < inf.
    """

    name = "depth"
    channels = 1
    unit = "m"
    invalid = "white, as if at `far`; so are pixels that are not finite or not positive"

    def __init__(self, near: float = 0.5, far: float = 30.0) -> None:
        if not 0 < near < far < math.inf:
            raise LavinditError(f"codec 'depth' needs 0 < near < far in metres, got near={near}, far={far}")
        self.bounds = (float(near), float(far))
        self._log_near = math.log(near)
        self._log_range = math.log(far / near)
        self.tolerance = 1e-5 * far * max(1.0, self._log_range)
        self.tolerance_8bit = far * math.expm1(self._log_range * 0.5 / 255) + self.tolerance

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Depth in metres [1, T, H, W], valid [1, T, H, W] -> gray picture [3, T, H, W]."""
        near, far = self.bounds
        usable = valid & native.isfinite() & (native > 0)
        depth_m = torch.where(usable, native, far).clamp(near, far)
        gray = (depth_m.log() - self._log_near) / self._log_range
        return gray.clamp(0.0, 1.0).expand(3, -1, -1, -1).contiguous()

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W], read as the mean of its channels -> depth in metres [1, T, H, W] within bounds."""
        gray = picture.clamp(0.0, 1.0).mean(0, keepdim=True)
        return (self._log_near + gray * self._log_range).exp()
