"""Single-object detection: a box around the object."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs import BoxesCodec
from lavindit.codecs.base import Codec
from lavindit.metrics import BoxMetric
from lavindit.task import Column, Task
from lavindit.task.segments import number_things
from lavindit.types import Pair, Scene

SHORTEST_PX = 4


class ObjectDetection(Task):
    """Draw the box of the largest object, white on black."""

    name = "object_detection"
    version = 1
    summary = "Draw the box around the largest object, white on black."
    requires = frozenset({"instance_ids"})
    columns = (
        Column("miou", "%", "max", headline=True),
        Column("ap50", "%", "max"),
        Column("ap75", "%", "max"),
    )
    protocol = (
        "IoU of the answered box with the tight box around the visible pixels of the object that has most of them, "
        "averaged over queries of a class and then over classes. Objects narrower than 4 px are passed over."
    )
    citation = "Protocol: Bar et al., NeurIPS 2022 (single-object detection on Pascal-5i)."

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with an object that a box can show."""
        return largest_box(scene) is not None

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """One white box on black."""
        return BoxesCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture and box."""
        found = largest_box(scene)
        assert found is not None
        box, class_id = found
        valid = torch.ones_like(scene.rgb[:1], dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(box, valid), box, valid, {"class_id": class_id})

    def make_metric(self) -> BoxMetric:
        """IoU and AP of boxes."""
        return BoxMetric()


def largest_box(scene: Scene) -> tuple[Tensor, int] | None:
    """Tight box [1, 1, 4] (left, top, right, bottom in px) of the thing with most pixels, and its class."""
    ids = number_things(scene)[0]
    counts = ids.flatten().bincount()
    if len(counts) < 2:
        return None
    mask = ids[0, 0] == 1 + int(counts[1:].argmax())
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
    if min(box[2] - box[0], box[3] - box[1]) < SHORTEST_PX:
        return None
    class_id = 0 if scene.class_ids is None else int(scene.class_ids[0, 0][mask].mode().values)
    return box[None, None], class_id
