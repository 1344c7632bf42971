"""Colorization: gray in, colours out."""

import torch
from torch import Tensor

from lavindit.data.degradations import grayscale
from lavindit.task import RestorationTask


class Colorization(RestorationTask):
    """Give a gray picture its colours."""

    name = "colorization"
    version = 1
    summary = "Give a gray picture its colours."
    protocol = (
        "Input: BT.601 luma, repeated over RGB. Scored on RGB in [0, 1] over the whole picture. "
        "LPIPS joins where its weights can be had; PSNR and MSE lead until then. The paper's MSE scale is unstated, "
        "so its figures never stand beside these."
    )

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Drop the colours."""
        return grayscale(picture)

    def prepare_query(self, picture: Tensor) -> Tensor:
        """A colour photograph is asked for as its gray copy."""
        return grayscale(picture)
