"""What takes something away: the colours, a square."""

import torch
import torch.nn.functional as F
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


def find_holes(picture: Tensor, fill: float = 0.5, tolerance: float = 0.01, least: int = 5) -> Tensor:
    """Where a picture [3, T, H, W] is covered with gray `fill`, a mask [1, T, H, W].

    Args:
        picture: In [0, 1].
        fill: The gray.
        tolerance: How far values may be from it, for what files and their compression make of it.
        least: Side in pixels, odd, of the smallest square that counts: single gray pixels are no hole.
    """
    gray = ((picture - fill).abs() <= tolerance).all(0, keepdim=True).float().transpose(0, 1)  # [T, 1, H, W]
    if min(gray.shape[2:]) < least:
        return torch.zeros_like(picture[:1], dtype=torch.bool)
    covered = -F.max_pool2d(-gray, least, stride=1)  # 1 where a whole square of that side is gray
    padded = F.pad(covered, (least - 1,) * 4)
    return (F.max_pool2d(padded, least, stride=1) > 0).transpose(0, 1)
