"""Colorization: gray in, colours out."""

import torch
from torch import Tensor

from lavindit.data.degradations import grayscale
from lavindit.task import Column, RestorationTask


class Colorization(RestorationTask):
    """Give a gray picture its colours."""

    name = "colorization"
    version = 2
    summary = "Give a gray picture its colours."
    keeps_detail = True
    columns = (
        Column("lpips", "1", "min", headline=True, needs="lpips"),
        Column("psnr", "dB", "max"),
        Column("mse", "1", "min"),
        Column("ssim", "1", "max"),
        Column("lpips_proxy", "1", "min", needs="perceptual"),
    )
    protocol = (
        "Input: BT.601 luma, repeated over RGB. Scored on RGB in [0, 1] over the whole picture. LPIPS leads where its "
        "weights are at hand, PSNR otherwise. The paper's MSE scale is unstated: its figures never stand beside these."
    )
    citation = "Wang et al., LaVin-DiT, CVPR 2025 (LPIPS and MSE)."

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Drop the colours."""
        return grayscale(picture)

    def prepare_query(self, picture: Tensor) -> Tensor:
        """A colour photograph is asked for as its gray copy."""
        return grayscale(picture)
