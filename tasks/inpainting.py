"""Inpainting: fill a square hole."""

import torch
from torch import Tensor

from lavindit.data.degradations import square_hole
from lavindit.task import RestorationTask


class Inpainting(RestorationTask):
    """Fill a square hole with what may have been there."""

    name = "inpainting"
    version = 1
    summary = "Fill a square hole with what may have been there."
    protocol = (
        "Input: a gray square of half the side (128 at 256 px, as in the paper) at a random place. "
        "Scored over the whole picture; PSNR leads where the weights of LPIPS and FID cannot be had."
    )

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Cover half the side."""
        return square_hole(picture, generator)
