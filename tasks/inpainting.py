"""Inpainting: fill a square hole."""

import torch
from torch import Tensor

from lavindit.data.degradations import find_holes, parameters_of, square_hole
from lavindit.task import Column, RestorationTask


class Inpainting(RestorationTask):
    """Fill a square hole with what may have been there."""

    name = "inpainting"
    version = 3
    summary = "Fill a square hole with what may have been there."
    baselines = ("mean_fill",)
    parameters = parameters_of(square_hole)
    columns = (
        Column("lpips", "1", "min", headline=True, needs="lpips"),
        Column("psnr", "dB", "max"),
        Column("ssim", "1", "max"),
        Column("mse", "1", "min"),
        Column("lpips_proxy", "1", "min", needs="perceptual"),
        Column("fid", "1", "min", needs="inception"),
        Column("kid", "1", "min", needs="inception"),
    )
    protocol = (
        "Input: a gray square of half the side (128 at 256 px, as in the paper) at a random place. Answers and "
        "baselines keep what the query shows around the hole; scored over the whole picture. LPIPS leads where its "
        "weights are at hand, PSNR otherwise; FID and KID judge the set of all answers, and a few dozen are too few "
        "for FID."
    )
    citation = "Wang et al., LaVin-DiT, CVPR 2025 (FID, LPIPS, PSNR)."

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Cover half the side."""
        return square_hole(picture, generator)

    def known_pixels(self, query: Tensor) -> Tensor:
        """All but the hole."""
        return ~find_holes(query)
