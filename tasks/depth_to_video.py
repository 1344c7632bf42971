"""A clip from its depth."""

from torch import Tensor

from lavindit.codecs import DepthCodec
from lavindit.task import GenerationTask
from lavindit.task.estimation import depth_of
from lavindit.types import Scene


class DepthToVideo(GenerationTask):
    """Paint the clip that depth maps were taken from."""

    name = "depth_to_video"
    version = 1
    summary = "Paint the clip that depth maps were taken from."
    modality = "video"
    requires = frozenset({"depth_m"})

    def draw(self, scene: Scene) -> Tensor:
        """Depth as gray, frame by frame."""
        return DepthCodec().encode(*depth_of(scene))
