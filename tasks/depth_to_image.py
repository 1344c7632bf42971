"""A picture from its depth."""

from torch import Tensor

from lavindit.codecs import DepthCodec
from lavindit.task import GenerationTask
from lavindit.task.estimation import depth_of
from lavindit.types import Scene


class DepthToImage(GenerationTask):
    """Paint the picture that a depth map was taken from."""

    name = "depth_to_image"
    version = 1
    summary = "Paint the picture that a depth map was taken from."
    requires = frozenset({"depth_m"})

    def draw(self, scene: Scene) -> Tensor:
        """Depth as gray."""
        return DepthCodec().encode(*depth_of(scene))
