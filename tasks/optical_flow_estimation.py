"""Optical flow: where every pixel of a frame goes in the next."""

from collections.abc import Sequence

import torch

from lavindit.codecs import FlowCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import FlowMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene

RANGE = 0.5
"""Longest motion that is drawn, as a share of the picture's side."""


class OpticalFlowEstimation(Task):
    """Motion of every pixel from each frame to the next."""

    name = "optical_flow_estimation"
    version = 1
    summary = "Motion of every pixel from each frame to the next: direction as hue, length as saturation."
    modality = "video"
    requires = frozenset({"flow_px"})
    columns = (
        Column("epe", "px", "min", headline=True),
        Column("fl_all", "%", "min"),
    )
    protocol = (
        "Frame i of the answer holds the motion from frame i to i + 1; the last frame is invalid. End-point error over "
        "all other pixels, occluded ones included. A motion of more than half the picture's side cannot be drawn: it "
        "comes out that long."
    )
    citation = "Protocol: Menze and Geiger, CVPR 2015 (KITTI)."

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Hue and saturation on gray."""
        return FlowCodec(max_px=RANGE * scenes[0].rgb.shape[3])

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Clip and motion."""
        assert scene.flow_px is not None
        valid = scene.flow_px.isfinite().all(0, keepdim=True)
        return Pair(scene.rgb, codec.encode(scene.flow_px, valid), scene.flow_px, valid)

    def make_metric(self) -> FlowMetric:
        """End-point error and share of outliers."""
        return FlowMetric()
