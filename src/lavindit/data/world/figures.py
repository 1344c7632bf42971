"""Stick people: 17 COCO joints, 13 primitives, and how they walk.

Shape legend: B scenes, T frames, G figures, 17 joints. A figure's own axes: x to its left, y up, z ahead.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.data.world.geometry import apply, rotation
from lavindit.data.world.shapes import BALL, CAPSULE

FIGURES = 2
"""Most figures in a scene."""

PARTS = 13
"""Primitives of a figure, in the order of `_PARTS`."""

ANGLES = 13
"""Lean, turn and tilt of the trunk; for each arm swing, spread, bend; for each leg swing, bend (in `POSE_RANGES`)."""

POSE_RANGES = torch.tensor(
    [(-0.15, 0.45), (-0.4, 0.4), (-0.2, 0.2)]
    + [(-2.4, 0.7), (0.05, 1.6), (-2.0, -0.05)] * 2
    + [(-1.0, 0.45), (0.05, 1.1)] * 2
)
"""Radians [13, 2]; a negative swing is forwards."""

COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""Joint names in COCO's order."""

# Name, shape, radius as a fraction of the height (three for a ball).
_PARTS = (
    ("head", BALL, (0.062, 0.08, 0.07)),
    ("nose", BALL, (0.016, 0.016, 0.03)),
    ("trunk", BALL, (0.1, 0.19, 0.07)),
    ("shoulders", CAPSULE, 0.04),
    ("hips", CAPSULE, 0.05),
    ("left_upper_arm", CAPSULE, 0.03),
    ("left_forearm", CAPSULE, 0.026),
    ("right_upper_arm", CAPSULE, 0.03),
    ("right_forearm", CAPSULE, 0.026),
    ("left_thigh", CAPSULE, 0.045),
    ("left_shin", CAPSULE, 0.034),
    ("right_thigh", CAPSULE, 0.045),
    ("right_shin", CAPSULE, 0.034),
)

TEXTURE_OF_PART = torch.tensor([0, 1, 2, 2, 3, 2, 2, 2, 2, 3, 3, 3, 3])
"""Head, skin, shirt, trousers: the slot whose texture a part wears."""


@dataclass(frozen=True, eq=False)
class Figures:
    """Who stands where, and how they move.

    Attributes:
        active: bool [B, G].
        ground: [B, G, 3] the point below the pelvis at rest.
        heading: [B, G] radians about y.
        height: [B, G] metres.
        pose: [B, G, 13] radians at rest.
        swing: [B, G, 13] amplitude of each angle, radians.
        stride: [B, G] amplitude of walking back and forth, metres.
        rate: [B, G] radians per frame.
    """

    active: Tensor
    ground: Tensor
    heading: Tensor
    height: Tensor
    pose: Tensor
    swing: Tensor
    stride: Tensor
    rate: Tensor


@dataclass(frozen=True, eq=False)
class Skeletons:
    """Posed figures, in the world.

    Attributes:
        centre: [B, T, G, 13, 3] of each part, metres.
        rotation: [B, T, G, 13, 3, 3] a part's axes -> world.
        half: [B, T, G, 13] half length of each capsule's axis, metres.
        joints: [B, T, G, 17, 3] in COCO's order.
    """

    centre: Tensor
    rotation: Tensor
    half: Tensor
    joints: Tensor


def part_shapes(height: Tensor) -> tuple[Tensor, Tensor]:
    """Kinds [13] and radii [..., 13, 3] in metres of the parts of figures of the given height [...]."""
    kinds = torch.tensor([kind for _, kind, _ in _PARTS], device=height.device)
    radii = torch.tensor([r if isinstance(r, tuple) else (r, r, r) for _, _, r in _PARTS], device=height.device)
    return kinds, height[..., None, None] * radii


def pose(figures: Figures, frames: int) -> Skeletons:
    """Forward kinematics over frames 0 .. T-1."""
    time = torch.arange(frames, device=figures.height.device, dtype=torch.float32)[None, :, None]
    beat = (time * figures.rate[:, None]).sin()
    angle = figures.pose[:, None] + beat[..., None] * figures.swing[:, None]
    trunk = rotation(1, angle[..., 1]) @ rotation(0, angle[..., 0]) @ rotation(2, angle[..., 2])
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    joints: dict[str, Tensor] = {}
    _upper_body(trunk, angle, parts, joints)
    _legs(angle, parts, joints)
    centre = torch.stack([c for c, _, _ in parts], -2)
    turn = torch.stack([r for _, r, _ in parts], -3)
    half = torch.stack([h for _, _, h in parts], -1)
    points = torch.stack([joints[name] for name in COCO], -2)
    size = figures.height[:, None, :, None]
    lowest = torch.minimum(points[..., 15, 1], points[..., 16, 1]) - 0.034
    facing = rotation(1, figures.heading)[:, None, :, None]
    walk = torch.zeros_like(centre[..., 0, :])
    walk[..., 2] = beat * figures.stride[:, None]
    walk[..., 1] = -lowest * size[..., 0]
    place = figures.ground[:, None, :, None] + apply(facing, walk[..., None, :])
    turn, facing_all = facing @ turn, facing
    return Skeletons(
        apply(facing_all, centre * size[..., None]) + place,
        turn,
        half * size,
        apply(facing_all, points * size[..., None]) + place,
    )


def _upper_body(trunk: Tensor, angle: Tensor, parts: list, joints: dict[str, Tensor]) -> None:
    """Head, trunk and arms, for a figure one unit tall with its pelvis at the origin."""
    zero = torch.zeros_like(angle[..., 0])

    def at(x: float, y: float, z: float) -> Tensor:
        return apply(trunk, torch.tensor([x, y, z], device=trunk.device).expand(*trunk.shape[:-1]))

    head = at(0, 0.41, 0.01)
    joints["nose"] = at(0, 0.405, 0.085)
    for side, sign in (("left", 1), ("right", -1)):
        joints[f"{side}_eye"] = at(sign * 0.026, 0.428, 0.07)
        joints[f"{side}_ear"] = at(sign * 0.061, 0.415, 0.01)
        joints[f"{side}_shoulder"] = at(sign * 0.115, 0.29, 0)
    across = trunk @ rotation(2, zero + torch.pi / 2)
    parts += [(head, trunk, zero), (joints["nose"], trunk, zero), (at(0, 0.15, 0), trunk, zero)]
    parts += [(at(0, 0.29, 0), across, zero + 0.105), (at(0, 0.0, 0), rotation(2, zero + torch.pi / 2), zero + 0.05)]
    for side, sign, first in (("left", 1, 3), ("right", -1, 6)):
        upper = trunk @ rotation(2, sign * angle[..., first + 1]) @ rotation(0, angle[..., first])
        lower = upper @ rotation(0, angle[..., first + 2])
        shoulder = joints[f"{side}_shoulder"]
        elbow = _limb(shoulder, upper, 0.17, parts)
        joints[f"{side}_elbow"] = elbow
        joints[f"{side}_wrist"] = _limb(elbow, lower, 0.16, parts)


def _legs(angle: Tensor, parts: list, joints: dict[str, Tensor]) -> None:
    zero = torch.zeros_like(angle[..., 0])
    for side, sign, first in (("left", 1, 9), ("right", -1, 11)):
        hip = torch.stack([zero + sign * 0.06, zero, zero], -1)
        thigh = rotation(2, zero + sign * 0.06) @ rotation(0, angle[..., first])
        shin = thigh @ rotation(0, angle[..., first + 1])
        joints[f"{side}_hip"] = hip
        knee = _limb(hip, thigh, 0.245, parts)
        joints[f"{side}_knee"] = knee
        joints[f"{side}_ankle"] = _limb(knee, shin, 0.235, parts)


def _limb(start: Tensor, turn: Tensor, length: float, parts: list) -> Tensor:
    """Hang a capsule of the given length from `start` along its own -y; returns its far end."""
    down = -turn[..., :, 1]
    parts.append((start + down * (length / 2), turn, torch.full_like(start[..., 0], length / 2)))
    return start + down * length
