"""What a scene is made of: plain numbers, for a whole batch of scenes, before anything is posed or rendered.

Shape legend: B scenes, O object slots, S surface slots (primitives, six room faces, the sky).
"""

from dataclasses import dataclass

from torch import Tensor

from lavindit.data.world.figures import FIGURES, PARTS, Figures
from lavindit.data.world.objects import OBJECT_PARTS, OBJECTS

PRIMITIVES = OBJECTS * OBJECT_PARTS + FIGURES * PARTS
SURFACES = PRIMITIVES + 7
NEAREST_M, FARTHEST_M = 0.5, 30.0
"""Depth of every surface that a scene shows."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Where the camera rests and how it moves.

    Attributes:
        position: [B, 3] metres.
        angles: [B, 3] yaw, pitch, roll in radians.
        tan_half_fov: [B] tangent of half the field of view.
        sway: [B, 3] amplitude of its translation, metres.
        turn: [B, 3] amplitudes of its angles, radians.
        rate: [B, 2] of sway and turn, radians per frame.
    """

    position: Tensor
    angles: Tensor
    tan_half_fov: Tensor
    sway: Tensor
    turn: Tensor
    rate: Tensor

    @property
    def clearance(self) -> Tensor:
        """No surface may come nearer than this to the camera's rest position, metres [B]."""
        corner = (1 + 2 * self.tan_half_fov.square()).sqrt()
        return NEAREST_M * corner * 1.02 + self.sway.square().sum(-1).sqrt()


@dataclass(frozen=True, eq=False)
class Walls:
    """The room's low and high corners [B, 3], infinite where it is open."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Light:
    """The lamp that casts shadows (a sun is a lamp far away), and two softer lights that do not.

    Attributes:
        position: [B, 3] metres.
        key: [B, 3] colour of the lamp.
        reach: [B] metres at which the lamp has half its strength; inf for a sun.
        fill_from: [B, 3] unit vector towards the fill light.
        fill: [B, 3] its colour.
        ambient: [B, 3].
    """

    position: Tensor
    key: Tensor
    reach: Tensor
    fill_from: Tensor
    fill: Tensor
    ambient: Tensor


@dataclass(frozen=True, eq=False)
class Objects:
    """Rigid things.

    Attributes:
        kind: int64 [B, O] index into `KINDS`, -1 for none.
        centre: [B, O, 3] at rest.
        angles: [B, O, 3] yaw, pitch, roll at rest.
        size: [B, O, 3] half extents in metres.
        sway: [B, O, 3] amplitude of its translation, metres.
        spin: [B, O] amplitude of its turning about the vertical, radians.
        rate: [B, O] radians per frame.
    """

    kind: Tensor
    centre: Tensor
    angles: Tensor
    size: Tensor
    sway: Tensor
    spin: Tensor
    rate: Tensor


@dataclass(frozen=True, eq=False)
class Textures:
    """One for each surface.

    Attributes:
        first: [B, S, 3] colour.
        second: [B, S, 3] colour.
        style: int64 [B, S], a constant of `shading`.
        frequency: [B, S] periods per metre.
        phase: [B, S, 3] periods.
        tilt: [B, S] radians between the pattern and the surface's own axes.
        gloss: [B, S] strength of the highlight.
    """

    first: Tensor
    second: Tensor
    style: Tensor
    frequency: Tensor
    phase: Tensor
    tilt: Tensor
    gloss: Tensor


@dataclass(frozen=True, eq=False)
class Parameters:
    """A batch of scenes, before anything is posed."""

    camera: Camera
    walls: Walls
    light: Light
    objects: Objects
    figures: Figures
    textures: Textures
