"""Foreground segmentation: never trained on, learned from the pairs alone."""

import torch

from lavindit.codecs import MaskCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import ForegroundMetric
from lavindit.task import Column, Task
from lavindit.types import Pair, Scene


class ForegroundSegmentation(Task):
    """Objects white, background black; held out of all training."""

    name = "foreground_segmentation"
    version = 1
    summary = "Objects white, ground, walls and sky black. Held out: the pairs are all the model ever sees of it."
    requires = frozenset({"instance_ids"})
    held_out = True
    columns = (Column("miou", "%", "max", headline=True),)
    protocol = (
        "Intersection over union of the answer above 0.5, summed over queries of a class and averaged over classes. "
        "On the embedded world all objects are one class."
    )

    def make_codec(self, generator: torch.Generator) -> Codec:
        """White objects on black."""
        return MaskCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and the union of its objects."""
        assert scene.instance_ids is not None
        native = (scene.instance_ids > 0).float()
        valid = torch.ones_like(native, dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(native, valid), native, valid)

    def make_metric(self) -> ForegroundMetric:
        """Foreground IoU by class."""
        return ForegroundMetric()
