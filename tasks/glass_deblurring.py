"""Glass deblurring: undo what frosted glass scatters."""

import torch
from torch import Tensor

from lavindit.data.degradations import glass_blur, parameters_of
from lavindit.task import RestorationTask


class GlassDeblurring(RestorationTask):
    """Undo the blur of frosted glass."""

    name = "glass_deblurring"
    version = 1
    summary = "Undo the blur of frosted glass."
    keeps_detail = True
    baselines = ("query_vae",)
    parameters = parameters_of(glass_blur)
    protocol = (
        "Input: glass blur of ImageNet-C, severity 2, its lengths for 64 px. A Gaussian of 0.9 px; once, in raster "
        "order from the bottom right, each pixel takes the colour of one at most 2 px before or 1 px after it in x and "
        "in y; the Gaussian again. In proportion at other sizes, where blocks move in place of pixels. Colours are not "
        "cut to 8 bits in between. Scored over the whole picture."
    )
    citation = "Degradation: Hendrycks and Dietterich, ICLR 2019 (ImageNet-C)."

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Blur, scatter, blur."""
        return glass_blur(picture, generator)
