"""What depth and normals have in common as tasks, of images and of clips."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs import DepthCodec, NormalsCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import DepthMetric, NormalMetric
from lavindit.task.contract import Column, Task
from lavindit.types import Pair, Scene


class DepthTask(Task):
    """Base of the depth tasks."""

    requires = frozenset({"depth_m"})
    columns = (
        Column("abs_rel", "1", "min", headline=True),
        Column("delta1", "1", "max"),
        Column("rmse", "m", "min"),
    )

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Log depth from 0.5 to 30 m as gray."""
        return DepthCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and depth."""
        depth_m, valid = depth_of(scene)
        return Pair(scene.rgb, codec.encode(depth_m, valid), depth_m, valid)

    def make_metric(self) -> DepthMetric:
        """AbsRel, delta1 and RMSE after alignment."""
        return DepthMetric()


class NormalTask(Task):
    """Base of the normal tasks."""

    requires = frozenset({"normals"})
    columns = (
        Column("mean_deg", "deg", "min", headline=True),
        Column("median_deg", "deg", "min"),
        Column("within_11_25", "%", "max"),
        Column("within_22_5", "%", "max"),
        Column("within_30", "%", "max"),
    )

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Normals as colours."""
        return NormalsCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and normals."""
        normals, valid = normals_of(scene)
        return Pair(scene.rgb, codec.encode(normals, valid), normals, valid)

    def make_metric(self) -> NormalMetric:
        """Angular errors."""
        return NormalMetric()


def depth_of(scene: Scene) -> tuple[Tensor, Tensor]:
    """Depth in metres [1, T, H, W], and where it is known."""
    assert scene.depth_m is not None
    return scene.depth_m, scene.depth_m.isfinite()


def normals_of(scene: Scene) -> tuple[Tensor, Tensor]:
    """Unit normals [3, T, H, W], and where they are known [1, T, H, W]."""
    assert scene.normals is not None
    normals = scene.normals.float()
    return normals, normals.abs().sum(0, keepdim=True) > 0
