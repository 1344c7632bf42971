"""What the segmentation tasks share: which things count, and in what order they are numbered."""

from collections import Counter
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lavindit.codecs import PaletteCodec
from lavindit.codecs.base import Codec
from lavindit.task.contract import Task
from lavindit.types import Pair, Scene

_ID_LIMIT = 2**32  # a class and an id as one number, since unique rows take torch a hundred times longer
SMALLEST_PX = 16
"""Pixels of the smallest thing that a task asks for, over all frames of a clip: smaller ones are left out."""


def labelled_of(scene: Scene) -> Tensor:
    """Where the ids of a scene are known: bool [1, T, H, W]."""
    return torch.ones_like(scene.rgb[:1], dtype=torch.bool) if scene.labelled is None else scene.labelled


def number_things(scene: Scene) -> tuple[Tensor, Tensor]:
    """The things of a scene numbered from left to right, so that the pairs can show which one is which.

    Returns:
        int64 [1, T, H, W], 0 for none; and bool [1, T, H, W], false where the ids are unknown or a thing is too small.
    """
    if scene not in _numbered:
        _numbered[scene] = _number(scene)
    return _numbered[scene]


# Accepting a scene, making the codec and making the pair all ask for the numbers.
_numbered: WeakKeyDictionary[Scene, tuple[Tensor, Tensor]] = WeakKeyDictionary()


def _number(scene: Scene) -> tuple[Tensor, Tensor]:
    assert scene.instance_ids is not None
    valid = labelled_of(scene)
    ids = torch.where(valid, scene.instance_ids, 0)
    names, place = ids.unique(return_inverse=True)
    counts = place.flatten().bincount(minlength=len(names))
    across = torch.arange(ids.shape[3], dtype=torch.float64).expand(ids.shape)
    middle = place.flatten().bincount(across.flatten(), minlength=len(names)) / counts
    large, thing = counts >= SMALLEST_PX, names > 0
    middle = torch.where(large & thing, middle, torch.inf)
    number = torch.zeros_like(names)
    number[middle.argsort(stable=True)] = torch.arange(1, len(names) + 1)
    number = torch.where(large & thing, number, 0)
    return number[place], valid & (large | ~thing)[place]


def has_things(scene: Scene) -> bool:
    """Whether a scene holds a thing that is large enough."""
    return bool((number_things(scene)[0] > 0).any())


def number_by_class(class_ids: Tensor, instance_ids: Tensor) -> Tensor:
    """Instance numbers 1, 2, ... within each class, in the order of the ids; 0 stays 0; int64 [1, T, H, W]."""
    keys, place = (class_ids * _ID_LIMIT + instance_ids).unique(return_inverse=True)
    numbers, seen = [], Counter()
    for class_id, instance_id in (divmod(key, _ID_LIMIT) for key in keys.tolist()):  # by class, then by id
        seen[class_id] += instance_id > 0
        numbers.append(seen[class_id] if instance_id > 0 else 0)
    return torch.tensor(numbers)[place]


def present_segments(native: Tensor) -> set[tuple[int, int]]:
    """Classes and instance numbers that occur in a map int64 [2, T, H, W]."""
    return {divmod(key, _ID_LIMIT) for key in (native[0] * _ID_LIMIT + native[1]).unique().tolist()}


class InstanceTask(Task):
    """Base of the tasks that give every thing a colour of its own, drawn anew for each episode."""

    requires = frozenset({"instance_ids"})

    def accepts(self, scene: Scene) -> bool:
        """Only scenes with a thing."""
        return has_things(scene)

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """A palette with a colour for each thing of the fullest scene."""
        return PaletteCodec(max(int(number_things(scene)[0].max()) for scene in scenes), generator)

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Picture or clip, and its numbered things."""
        ids, valid = number_things(scene)
        return Pair(scene.rgb, codec.encode(ids, valid), ids.float(), valid)
