"""What takes something away: the colours, a square."""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grayscale(picture: Tensor) -> Tensor:
    """Luma of a picture [3, T, H, W], repeated over the three channels."""
    weights = picture.new_tensor(LUMA).view(3, 1, 1, 1)
    return (picture * weights).sum(0, keepdim=True).expand_as(picture).contiguous()


def square_hole(picture: Tensor, generator: torch.Generator, share: float = 0.5, fill: float = 0.5) -> Tensor:
    """Cover a square of `share` of the shorter side, at a random place, with gray `fill`."""
    height, width = picture.shape[2:]
    side = round(share * min(height, width))
    top = int(torch.randint(height - side + 1, (1,), generator=generator))
    left = int(torch.randint(width - side + 1, (1,), generator=generator))
    holed = picture.clone()
    holed[:, :, top : top + side, left : left + side] = fill
    return holed
