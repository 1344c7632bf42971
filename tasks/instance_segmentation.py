"""Instance segmentation: every thing in a colour of its own."""

from collections.abc import Sequence

import torch

from lavindit.codecs import PaletteCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import InstanceMetric
from lavindit.task import Column, Task
from lavindit.task.segments import has_things, number_things
from lavindit.types import Pair, Scene


class InstanceSegmentation(Task):
    """Give every thing a colour of its own, from left to right as the pairs show."""

    name = "instance_segmentation"
    version = 1
    summary = "Give every thing a colour of its own, from left to right as the pairs show; all else is black."
    requires = frozenset({"instance_ids"})
    columns = (
        Column("ap", "%", "max", headline=True),
        Column("ap50", "%", "max"),
        Column("ap75", "%", "max"),
        Column("mbo", "%", "max"),
    )
    protocol = (
        "Mask AP at IoU 0.50:0.95 and mean best overlap, of all classes as one; the answer's masks are ranked by area, "
        "since a picture holds no scores. Things of fewer than 16 px are invalid. Any order of colours is right."
    )
    citation = "Protocol: Lin et al., ECCV 2014 (COCO)."

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with a thing."""
        return has_things(scene)

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """A palette with a colour for each thing of the fullest scene."""
        return PaletteCodec(max(int(number_things(scene)[0].max()) for scene in scenes), generator)

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and numbered things."""
        ids, valid = number_things(scene)
        return Pair(scene.rgb, codec.encode(ids, valid), ids.float(), valid)

    def make_metric(self) -> InstanceMetric:
        """Mask AP and mean best overlap."""
        return InstanceMetric(by_class=False)
