"""Foreground segmentation: never trained on, learned from the pairs alone."""

from collections.abc import Sequence

import torch

from lavindit.codecs import MaskCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import ForegroundMetric
from lavindit.task import Column, Task
from lavindit.task.segments import has_things, labelled_of
from lavindit.types import Pair, Scene


class ForegroundSegmentation(Task):
    """Objects white, background black; held out of all training."""

    name = "foreground_segmentation"
    version = 2
    summary = "Objects white, ground, walls and sky black. Held out: the pairs are all the model ever sees of it."
    requires = frozenset({"instance_ids"})
    held_out = True
    columns = (Column("miou", "%", "max", headline=True),)
    protocol = (
        "Intersection over union of the answer above 0.5, summed over queries of a class and averaged over classes. "
        "On the embedded world all objects are one class."
    )
    citation = "Protocol: Shaban et al., BMVC 2017 (Pascal-5i)."

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with an object."""
        return has_things(scene)

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """White objects on black."""
        return MaskCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and the union of its objects."""
        assert scene.instance_ids is not None
        native, valid = (scene.instance_ids > 0).float(), labelled_of(scene)
        return Pair(scene.rgb, codec.encode(native, valid), native, valid)

    def make_metric(self) -> ForegroundMetric:
        """Foreground IoU by class."""
        return ForegroundMetric()
