"""Human pose estimation: the skeleton of every person."""

from collections.abc import Sequence

import torch

from lavindit.codecs.base import Codec
from lavindit.metrics import KeypointMetric
from lavindit.task import Column, Task
from lavindit.task.poses import everywhere, people_of, skeleton_codec
from lavindit.types import Pair, Scene


class PoseEstimation(Task):
    """Draw the skeleton of every person."""

    name = "pose_estimation"
    version = 1
    summary = "Draw the skeleton of every person: a disc in a colour of its own for each of COCO's 17 joints."
    requires = frozenset({"keypoints_px"})
    columns = (
        Column("oks_ap", "%", "max", headline=True),
        Column("oks_ap50", "%", "max"),
        Column("pck_0_1", "%", "max"),
    )
    protocol = (
        "AP at OKS 0.50:0.95 with COCO's sigmas, a person's area being 0.53 of the box around the labelled joints; "
        "PCK at a tenth of that box's longer side. People with fewer than 5 visible joints, or less than a quarter of "
        "the picture's side, are left out; hidden joints are drawn and scored."
    )
    citation = "Protocol: Lin et al., ECCV 2014 (COCO keypoints); Yang and Ramanan, TPAMI 2013 (PCK)."

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with a person."""
        return len(people_of(scene)) > 0

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Skeletons on black."""
        return skeleton_codec(scenes)

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and joints."""
        joints, valid = people_of(scene), everywhere(scene)
        return Pair(scene.rgb, codec.encode(joints, valid), joints, valid)

    def make_metric(self) -> KeypointMetric:
        """OKS-AP and PCK."""
        return KeypointMetric()
