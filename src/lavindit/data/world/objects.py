"""The kinds of rigid object: each a few primitives in a box of half extents one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lavindit.data.world.shapes import BALL, BOX, CAPSULE, CONE, CYLINDER

OBJECTS = 10
"""Most objects in a scene."""

OBJECT_PARTS = 5
"""Most primitives of an object."""


@dataclass(frozen=True)
class Part:
    """A primitive in its object's unit box: shape, centre, half extents, and the part whose texture it wears."""

    shape: int
    centre: tuple[float, float, float] = (0, 0, 0)
    extent: tuple[float, float, float] = (1, 1, 1)
    texture: int = 0


@dataclass(frozen=True)
class Kind:
    """A class of object; `stands` if it is never hung in the air or tilted."""

    name: str
    parts: tuple[Part, ...]
    stands: bool = False


_LEGS = tuple(Part(CYLINDER, (x, -0.1, z), (0.09, 0.9, 0.09)) for x in (-0.85, 0.85) for z in (-0.85, 0.85))

KINDS = (
    Kind("ball", (Part(BALL),)),
    Kind("box", (Part(BOX),)),
    Kind("cylinder", (Part(CYLINDER),)),
    Kind("cone", (Part(CONE),)),
    Kind("pill", (Part(CAPSULE),)),
    Kind("table", (Part(BOX, (0, 0.88, 0), (1, 0.12, 1)), *_LEGS), stands=True),
    Kind(
        "tree",
        (
            Part(CYLINDER, (0, -0.6, 0), (0.18, 0.4, 0.18)),
            Part(CONE, (0, 0.1, 0), (0.95, 0.5, 0.95), 1),
            Part(CONE, (0, 0.55, 0), (0.7, 0.45, 0.7), 1),
        ),
        stands=True,
    ),
)
"""Class id = index + 1; the person comes after the last of them."""

_THING_NAMES = (*(kind.name for kind in KINDS), "person")
_STUFF_NAMES = ("ground", "wall", "ceiling", "sky")

CLASS_NAMES = ("unlabelled", *_THING_NAMES, *_STUFF_NAMES)
"""Name of each class id. 0 stands for pixels whose class is not known; the world has none."""

THINGS = tuple(range(1, 1 + len(_THING_NAMES)))
"""Class ids that come as instances."""

STUFF = tuple(range(1 + len(_THING_NAMES), len(CLASS_NAMES)))
"""Class ids without instances: ground, wall, ceiling, sky."""

STUFF_OF_FACE = torch.tensor(
    [CLASS_NAMES.index(name) for name in ("wall", "wall", "ground", "ceiling", "wall", "wall", "sky")]
)
"""Class id of the six room faces (low and high side of x, y, z) and the sky."""


def _table(value: Callable[[Part], Any], blank: Any) -> torch.Tensor:
    rows = [[value(k.parts[i]) if i < len(k.parts) else blank for i in range(OBJECT_PARTS)] for k in KINDS]
    return torch.tensor(rows)


SHAPE_OF_PART = _table(lambda p: p.shape, -1)
CENTRE_OF_PART = _table(lambda p: p.centre, (0.0, 0.0, 0.0)).float()
EXTENT_OF_PART = _table(lambda p: p.extent, (1.0, 1.0, 1.0)).float()
TEXTURE_OF_OBJECT_PART = _table(lambda p: p.texture, 0)
