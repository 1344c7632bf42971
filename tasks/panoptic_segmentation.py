"""Panoptic segmentation: a class for every pixel, and things told apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs import PanopticCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import PanopticMetric
from lavindit.task import Column, Task
from lavindit.task.segments import number_by_class, number_things, present_segments
from lavindit.types import Pair, Scene

LARGEST_CLASS = 1000


class PanopticSegmentation(Task):
    """Colour every pixel by its class, and things of one class in different shades."""

    name = "panoptic_segmentation"
    version = 1
    summary = "Colour every pixel by its class as the pairs show, things of one class in shades of one colour."
    requires = frozenset({"class_ids", "instance_ids"})
    columns = (
        Column("pq", "%", "max", headline=True),
        Column("sq", "%", "max"),
        Column("rq", "%", "max"),
    )
    protocol = (
        "Panoptic quality by class, mean over classes. The palette has the classes of the episode's scenes. "
        "Unlabelled pixels, crowds and things of fewer than 16 px are void."
    )
    citation = "Protocol: Kirillov et al., CVPR 2019."

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with a labelled pixel."""
        return bool(self._segments(scene)[1].any())

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """A palette with the classes of the scenes, and shades for the fullest of them."""
        found = set[tuple[int, int]]().union(*(present_segments(self._segments(scene)[0]) for scene in scenes))
        things = {class_id for class_id, number in found if number}
        stuff = {class_id for class_id, _ in found} - things - {0}
        return PanopticCodec(sorted(stuff), sorted(things), max(1, *(number for _, number in found)), generator)

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and segments."""
        native, valid = self._segments(scene)
        return Pair(scene.rgb, codec.encode(native, valid), native.float(), valid)

    def make_metric(self) -> PanopticMetric:
        """PQ, SQ and RQ; stuff has instance 0, so it is one segment of its class."""
        return PanopticMetric(things=range(1, LARGEST_CLASS + 1))

    @staticmethod
    def _segments(scene: Scene) -> tuple[Tensor, Tensor]:
        """Class and instance within the class, int64 [2, 1, H, W], 0 where void; valid [1, 1, H, W]."""
        assert scene.class_ids is not None
        numbers, valid = number_things(scene)
        valid = valid & (scene.class_ids > 0)
        classes = torch.where(valid, scene.class_ids, 0)
        return torch.cat([classes, number_by_class(classes, torch.where(valid, numbers, 0))]), valid
