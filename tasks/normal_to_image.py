"""A picture from its surface normals."""

from torch import Tensor

from lavindit.codecs import NormalsCodec
from lavindit.task import GenerationTask
from lavindit.task.estimation import normals_of
from lavindit.types import Scene


class NormalToImage(GenerationTask):
    """Paint the picture that a normal map was taken from."""

    name = "normal_to_image"
    version = 1
    summary = "Paint the picture that a normal map was taken from."
    requires = frozenset({"normals"})

    def draw(self, scene: Scene) -> Tensor:
        """Normals as colours."""
        return NormalsCodec().encode(*normals_of(scene))
