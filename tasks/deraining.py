"""Deraining: take the rain out of a picture."""

import torch
from torch import Tensor

from lavindit.data.degradations import parameters_of, rain
from lavindit.data.degradations.rain import AIRLIGHT, LENGTH_SPREAD
from lavindit.task import RestorationTask


class Deraining(RestorationTask):
    """Take streaks and veil of rain out of a picture."""

    name = "deraining"
    version = 1
    summary = "Take the rain out of a picture: streaks at three distances, and a veil."
    keeps_detail = True
    baselines = ("query_vae",)
    parameters = parameters_of(rain, airlight=AIRLIGHT, length_spread=LENGTH_SPREAD)
    protocol = (
        "Input: a veil of opacity 0.05 to 0.15 (airlight 0.85), then three layers of streaks by screen blend, from far "
        "to near: 64, 16 and 4 a picture; 6, 12 and 24 px long (30 % more or less); Gaussian profile of deviation "
        "0.25, 0.5 and 1 px and a defocus of 0, 0.25 and 0.75 px; opacity in focus 0.25 to 0.7; one tilt up to 30 "
        "degrees, each streak about 3 off it. Lengths at 64 px, in proportion at other sizes. Scored over the whole "
        "picture."
    )
    citation = "Degradation: Luo et al., ICCV 2015 (screen blend); Yang et al., CVPR 2017 (veil)."

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Let it rain."""
        return rain(picture, generator)
