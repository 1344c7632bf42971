"""Monocular depth estimation."""

import torch

from lavindit.codecs import DepthCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import DepthMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene


class DepthEstimation(Task):
    """Depth of every pixel from one picture."""

    name = "depth_estimation"
    version = 1
    summary = "Depth of every pixel from one picture: near is dark, far is bright."
    requires = frozenset({"depth_m"})
    columns = (
        Column("abs_rel", "1", "min", headline=True),
        Column("delta1", "1", "max"),
        Column("rmse", "m", "min"),
    )
    protocol = "Each answer is aligned to its truth by least-squares scale and shift over valid pixels. Sky is invalid."

    def make_codec(self, generator: torch.Generator) -> Codec:
        """Log depth from 0.5 to 30 m as gray."""
        return DepthCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and depth."""
        assert scene.depth_m is not None
        valid = scene.depth_m.isfinite()
        return Pair(scene.rgb, codec.encode(scene.depth_m, valid), scene.depth_m, valid)

    def make_metric(self) -> DepthMetric:
        """AbsRel, delta1 and RMSE after alignment."""
        return DepthMetric()
