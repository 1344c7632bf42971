"""What the pose tasks share: whose joints are drawn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lavindit.codecs import KeypointsCodec
from lavindit.codecs.base import Codec
from lavindit.types import Scene

FEWEST_JOINTS = 5
"""Visible joints of a person that counts."""

SMALLEST = 0.25
"""Longer side of the box around the joints of a person that counts, as a share of the picture's."""


def people_of(scene: Scene) -> Tensor:
    """Joints [M, J, 1, 3] of the people of a scene that count, from left to right.

    Hidden joints have their place and are labelled, as in COCO; those outside the picture are not. A skeleton needs
    room to be drawn so that it can be read: smaller people are left out.
    """
    assert scene.keypoints_px is not None
    joints = scene.keypoints_px
    labelled = (joints[..., 2] > 0)[..., None]
    low, high = (joints[..., :2].masked_fill(~labelled, edge).flatten(1, 2) for edge in (torch.inf, -torch.inf))
    extent = (high.amax(1) - low.amin(1)).amax(1)
    enough = ((joints[..., 2] > 1).sum((1, 2)) >= FEWEST_JOINTS) & (extent >= SMALLEST * max(scene.rgb.shape[2:]))
    middle = (low.amin(1) + high.amax(1))[:, 0]
    order = middle.argsort()
    return joints[order[enough[order]]]


def skeleton_codec(scenes: Sequence[Scene]) -> Codec:
    """A skeleton for as many people as the fullest scene holds, in colours that are always the same."""
    return KeypointsCodec(people=max(1, *(len(people_of(scene)) for scene in scenes)))


def everywhere(scene: Scene) -> Tensor:
    """Mask [1, T, H, W], all true."""
    return torch.ones_like(scene.rgb[:1], dtype=torch.bool)
