"""Motion deblurring: undo the blur of a moving camera."""

import torch
from torch import Tensor

from lavindit.data.degradations import motion_blur, parameters_of
from lavindit.task import RestorationTask


class MotionDeblurring(RestorationTask):
    """Undo the blur of a straight or curved motion."""

    name = "motion_deblurring"
    version = 2
    summary = "Undo the blur of a camera motion, straight or curved."
    keeps_detail = True
    baselines = ("query_vae",)
    parameters = parameters_of(motion_blur)
    protocol = (
        "Input: uniform motion of 5 to 11 px along its path at 64 px (in proportion at other sizes), in any direction; "
        "straight or curved with equal probability, a curve changing its direction smoothly by 60 to 180 degrees. "
        "Scored over the whole picture. Version 1 was straight only."
    )
    citation = "Degradation: Boracchi and Foi, TIP 2012 (blur by accumulation along a trajectory)."

    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """Blur along a random path."""
        return motion_blur(picture, generator)
