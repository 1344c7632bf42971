"""A clip from its surface normals."""

from torch import Tensor

from lavindit.codecs import NormalsCodec
from lavindit.task import GenerationTask
from lavindit.task.estimation import normals_of
from lavindit.types import Scene


class NormalToVideo(GenerationTask):
    """Paint the clip that normal maps were taken from."""

    name = "normal_to_video"
    version = 1
    summary = "Paint the clip that normal maps were taken from."
    modality = "video"
    requires = frozenset({"normals"})

    def draw(self, scene: Scene) -> Tensor:
        """Normals as colours, frame by frame."""
        return NormalsCodec().encode(*normals_of(scene))
