"""What the segmentation tasks share: which things count, and in what order they are numbered."""

import torch
from torch import Tensor

from lavindit.types import Scene

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
    assert scene.instance_ids is not None
    ids, valid = scene.instance_ids, labelled_of(scene).clone()
    across = torch.arange(ids.shape[3], dtype=torch.float64).expand(ids.shape)
    numbered, places = torch.zeros_like(ids), []
    for number in ids[valid].unique().tolist():
        mask = (ids == number) & valid
        if number > 0 and int(mask.sum()) < SMALLEST_PX:
            valid &= ~mask
        elif number > 0:
            places.append((float(across[mask].mean()), number))
    for rank, (_, number) in enumerate(sorted(places), start=1):
        numbered[ids == number] = rank
    return torch.where(valid, numbered, 0), valid


def has_things(scene: Scene) -> bool:
    """Whether a scene holds a thing that is large enough."""
    return bool((number_things(scene)[0] > 0).any())


def number_by_class(class_ids: Tensor, instance_ids: Tensor) -> Tensor:
    """Instance numbers 1, 2, ... within each class, in the order of the ids; 0 stays 0; int64 [1, T, H, W]."""
    numbered = torch.zeros_like(instance_ids)
    for class_id in class_ids[instance_ids > 0].unique().tolist():
        here = (class_ids == class_id) & (instance_ids > 0)
        for rank, number in enumerate(instance_ids[here].unique().tolist(), start=1):
            numbered[here & (instance_ids == number)] = rank
    return numbered
