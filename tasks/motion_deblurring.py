"""Motion deblurring: undo the blur of a moving camera."""

import torch
from torch import Tensor

from lavindit.data.degradations import motion_blur
from lavindit.task import RestorationTask


class MotionDeblurring(RestorationTask):
    """Undo the blur of a straight motion."""

    name = "motion_deblurring"
    version = 1
    summary = "Undo the blur of a straight camera motion."
    protocol = (
        "Input: uniform linear motion of 5 to 11 px at 64 px (in proportion at other sizes), any angle. "
        "Scored over the whole picture."
    )

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Blur along a random line."""
        return motion_blur(picture, generator)
