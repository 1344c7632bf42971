"""Surface normal estimation."""

import torch

from lavindit.codecs import NormalsCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import NormalMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene


class NormalEstimation(Task):
    """Surface normal of every pixel from one picture."""

    name = "normal_estimation"
    version = 1
    summary = "Surface normal of every pixel, in camera space: x right is red, y up is green, z to the camera is blue."
    requires = frozenset({"normals"})
    columns = (
        Column("mean_deg", "deg", "min", headline=True),
        Column("median_deg", "deg", "min"),
        Column("within_11_25", "%", "max"),
        Column("within_22_5", "%", "max"),
        Column("within_30", "%", "max"),
    )
    protocol = (
        "Angle between answer and truth over valid pixels, averaged over pixels, then over queries. Sky is invalid."
    )

    def make_codec(self, generator: torch.Generator) -> Codec:
        """Normals as colours."""
        return NormalsCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and normals."""
        assert scene.normals is not None
        normals = scene.normals.float()
        valid = normals.abs().sum(0, keepdim=True) > 0
        return Pair(scene.rgb, codec.encode(normals, valid), normals, valid)

    def make_metric(self) -> NormalMetric:
        """Angular errors."""
        return NormalMetric()
