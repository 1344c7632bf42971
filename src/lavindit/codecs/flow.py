"""Optical flow as colour: the direction is the hue, the length the saturation."""

import math

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.errors import LavinditError

# Two axes across the gray diagonal of the RGB cube; the first points from gray to red, the second from blue to green.
HUE_AXES = torch.tensor([[2.0, -1.0, -1.0], [0.0, math.sqrt(3), -math.sqrt(3)]]) / math.sqrt(6)
# Radius of the largest disc around mid-gray, across the diagonal, that fits into the cube.
DISC = math.sqrt(6) / 4
# Every valid pixel has a brightness of 0.5 and an invalid one 0; this lies halfway.
DARKEST_VALID = 0.25


class FlowCodec(Codec):
    """Motion (dx, dy) in pixels, dx to the right and dy down, to the disc of equal brightness in the RGB cube.

    `colour = 0.5 + DISC * u @ HUE_AXES` with `u = f / |f| * (|f| / max_px) ** power`: no motion is mid-gray, motion
    to the right is red, and the length goes into the saturation. Why this map: it is a bijection between the disc of
    motions and a flat disc of colours, without the jump of an angle at 360 degrees; all three channels share the load,
    so 8 bits (and a network's noise) blur a motion less than in two channels; and the power 1/2 spends the colours on
    small motions, which are most: an error e of the colour, in radii of the disc, is an error of at most
    `2 e sqrt(|f| max_px)` px (plus `e^2 max_px`), so a pixel at rest stays at rest. With `max_px` 32 a PNG costs 0.1 px
    on average over all motions, and 0.02 px at 1 px; with 128, which FlyingChairs needs, 0.07 px on its flow.

    Brightness is left over and tells validity: invalid pixels are black. `decode` reads the hue and the saturation and
    ignores the brightness, so black and every other gray decode to rest, never to NaN: a network that darkens a pixel
    is not thrown off. `decode_valid` reads the brightness.

    Args:
        max_px: Longest motion in pixels; longer ones are cut to it and keep their direction.
        power: Exponent of the length, in (0, 1]; 1 is linear.

    Raises:
        LavinditError: Unless 0 < max_px < inf and 0 < power <= 1.

    Source of the idea: Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011 (colour wheel;
    theirs is not invertible).
    """

    name = "flow"
    channels = 2
    unit = "px"
    invalid = "black, which decodes to no motion (`decode_valid` tells them apart); so are pixels that are not finite"

    def __init__(self, max_px: float = 32.0, power: float = 0.5) -> None:
        if not (0 < max_px < math.inf and 0 < power <= 1):
            raise LavinditError(
                f"codec 'flow' needs 0 < max_px < inf and 0 < power <= 1, got max_px={max_px}, power={power}"
            )
        self.max_px, self.power = float(max_px), float(power)
        self.bounds = (-self.max_px, self.max_px)
        self.tolerance = 2e-5 * self.max_px / self.power
        # Rounding moves a colour by at most sqrt(8/3) * 0.5/255 across the diagonal; the worst place is the rim.
        moved = math.sqrt(8 / 3) * 0.5 / 255 / DISC
        self.tolerance_8bit = self.max_px * ((1 + moved) ** (1 / self.power) - 1) + self.tolerance

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Motion in pixels [2, T, H, W], valid [1, T, H, W] -> picture [3, T, H, W]."""
        usable = valid & native.isfinite().all(0, keepdim=True)
        flow_px = torch.where(usable, native, 0.0).float()
        length = flow_px.norm(dim=0, keepdim=True)
        share = (length / self.max_px).clamp_max(1.0) ** self.power
        hue = flow_px / length.clamp_min(1e-12) * share
        colour = 0.5 + DISC * torch.einsum("nthw,nc->cthw", hue, HUE_AXES.to(hue.device))
        return torch.where(usable, colour, 0.0).clamp(0.0, 1.0).contiguous()

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> motion in pixels [2, T, H, W], no longer than `max_px`; gray of any shade is 0."""
        colour = picture.clamp(0.0, 1.0).float()
        hue = torch.einsum("cthw,nc->nthw", colour, HUE_AXES.to(colour.device)) / DISC
        share = hue.norm(dim=0, keepdim=True)
        length = self.max_px * share.clamp_max(1.0) ** (1 / self.power)
        return hue / share.clamp_min(1e-12) * length

    def rescale(self, native: Tensor, across: float, down: float) -> Tensor:
        """Motion [2, T, H, W] in the pixels of a resized picture."""
        return native * native.new_tensor([across, down]).view(2, 1, 1, 1)

    def decode_valid(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> bool [1, T, H, W]: whether it is bright enough to hold a motion; false for NaN."""
        return picture.clamp(0.0, 1.0).mean(0, keepdim=True) > DARKEST_VALID

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Motions [2, T, H, W], uniform on the disc of radius `max_px`."""
        radius, turn = torch.rand(2, frames, height, width, generator=generator)
        length, angle = self.max_px * radius.sqrt(), 2 * math.pi * turn
        return torch.stack([length * angle.cos(), length * angle.sin()])
