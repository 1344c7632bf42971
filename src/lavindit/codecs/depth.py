"""Depth as gray, or as a path of colours; logarithmic, so that a step is the same share of the distance everywhere."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.errors import LavinditError

Mapping = Literal["gray", "cube"]

# Seven edges of the RGB cube from corner to corner, each corner once; neighbours differ in one channel.
CORNERS = torch.tensor(
    [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 0, 0]], dtype=torch.float32
)
EDGES = len(CORNERS) - 1


class DepthCodec(Codec):
    """Depth to a colour: the share `s = (log d - log near) / (log far - log near)` of the way from near to far.

    With `mapping` "gray", s is the brightness: near black, far white. With "cube", s is the way along seven edges of
    the RGB cube, from black by blue, cyan, green, yellow, white and magenta to red: a bijection between depths and the
    colours on that path, with seven times the steps of gray in 8 bits. Colours off the path are read as the nearest on
    it.

    Depth is metric, in metres. For relative depth, `near` and `far` are in whatever unit the truth has.

    Args:
        near: Depth in metres at the start; nearer ones are clamped to it.
        far: Depth in metres at the end; farther ones are clamped to it.
        mapping: "gray" or "cube".

    Raises:
        LavinditError: Unless 0 < near < far < inf, and for an unknown mapping.
    """

    name = "depth"
    channels = 1
    unit = "m"
    invalid = "as if at `far`; so are pixels that are not finite or not positive"

    def __init__(self, near: float = 0.5, far: float = 30.0, mapping: Mapping = "gray") -> None:
        if not 0 < near < far < math.inf:
            raise LavinditError(f"codec 'depth' needs 0 < near < far in metres, got near={near}, far={far}")
        if mapping not in get_args(Mapping):
            raise LavinditError(f"codec 'depth' has no mapping {mapping!r}; there are {', '.join(get_args(Mapping))}")
        self.bounds = (float(near), float(far))
        self.mapping: Mapping = mapping
        self._log_near = math.log(near)
        self._log_range = math.log(far / near)
        self.tolerance = 1e-5 * far * max(1.0, self._log_range)
        steps = 255 * (EDGES if mapping == "cube" else 1)
        self.tolerance_8bit = far * math.expm1(self._log_range * 0.5 / steps) + self.tolerance

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Depth in metres [1, T, H, W], valid [1, T, H, W] -> picture [3, T, H, W]."""
        near, far = self.bounds
        usable = valid & native.isfinite() & (native > 0)
        depth_m = torch.where(usable, native, far).clamp(near, far)
        share = ((depth_m.log() - self._log_near) / self._log_range).clamp(0.0, 1.0)
        if self.mapping == "gray":
            return share.expand(3, -1, -1, -1).contiguous()
        way = share[0] * EDGES
        edge = way.floor().clamp_max(EDGES - 1)
        corners = CORNERS.to(way.device)
        start, end = corners[edge.long()], corners[edge.long() + 1]
        return torch.lerp(start, end, (way - edge)[..., None]).permute(3, 0, 1, 2).contiguous()

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> depth in metres [1, T, H, W] within bounds; of a gray, the mean of its channels."""
        colour = picture.clamp(0.0, 1.0)
        share = colour.mean(0, keepdim=True) if self.mapping == "gray" else _nearest_on_path(colour)
        return (self._log_near + share * self._log_range).exp()


def _nearest_on_path(colour: Tensor) -> Tensor:
    """Colours [3, T, H, W] -> share of the path at which it comes nearest [1, T, H, W]; NaN stays NaN."""
    corners = CORNERS.to(colour.device)
    shares, gaps = [], []
    for edge in range(EDGES):
        start, step = corners[edge].view(3, 1, 1, 1), (corners[edge + 1] - corners[edge]).view(3, 1, 1, 1)
        along = ((colour - start) * step).sum(0).clamp(0.0, 1.0)  # edges have length 1
        shares.append((edge + along) / EDGES)
        gaps.append((colour - start - along * step).square().sum(0))
    nearest = torch.stack(gaps).argmin(0, keepdim=True)
    return torch.stack(shares).gather(0, nearest)
