"""Tasks whose answer is the picture itself, from a degraded copy of it."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs import IdentityCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import PictureMetric, RowMetric
from lavindit.task.contract import Column, Task
from lavindit.types import Pair, Scene


class RestorationTask(Task):
    """Base of the restoration tasks: any picture is a scene, `degrade` makes the input."""

    restores = True
    columns = (
        Column("psnr", "dB", "max", headline=True),
        Column("ssim", "1", "max"),
        Column("mse", "1", "min"),
    )

    @abstractmethod
    def degrade(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The input [3, T, H, W] made from the clean picture [3, T, H, W]."""

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """Pictures are their own native."""
        return IdentityCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Degraded picture and clean picture."""
        valid = torch.ones_like(scene.rgb[:1], dtype=torch.bool)
        return Pair(self.degrade(scene.rgb, generator), codec.encode(scene.rgb, valid), scene.rgb, valid)

    def make_metric(self) -> RowMetric:
        """The columns that can be measured here, over the whole picture."""
        return PictureMetric(tuple(column.metric for column in self.measured))
