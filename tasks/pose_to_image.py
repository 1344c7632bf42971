"""A picture from the skeletons of its people."""

from torch import Tensor

from lavindit.task import GenerationTask
from lavindit.task.poses import everywhere, people_of, skeleton_codec
from lavindit.types import Scene


class PoseToImage(GenerationTask):
    """Paint a picture with people in the poses shown."""

    name = "pose_to_image"
    version = 1
    summary = "Paint a picture with people in the poses shown."
    requires = frozenset({"keypoints_px"})

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with a person."""
        return len(people_of(scene)) > 0

    def draw(self, scene: Scene) -> Tensor:
        """Skeletons on black."""
        return skeleton_codec([scene]).encode(people_of(scene), everywhere(scene))
