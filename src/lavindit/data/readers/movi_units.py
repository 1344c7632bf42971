"""What Kubric stores, in the units and axes of a `Scene`.

Source: google-research/kubric, `file_io.py`, `renderer/blender_utils.py` and `core/cameras.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

TOP = 65535
# Blender's distance of a ray that meets nothing is 1e10.
NOTHING_M = 1e9
# The order of both lists is that of the published labels.
CATEGORIES = (
    *("Action Figures", "Bag", "Board Games", "Bottles and Cans and Cups", "Camera", "Car Seat", "Consumer Goods"),
    *("Hat", "Headphones", "Keyboard", "Legos", "Media Cases", "Mouse", "None", "Shoe", "Stuffed Toys", "Toys"),
)
SHAPES = ("cube", "cylinder", "sphere", "cone", "torus", "gear", "torus_knot", "sponge", "spot", "teapot", "suzanne")
CLASSES = CATEGORIES + SHAPES
OTHER_CLASS = len(CLASSES) + 1


def unscale(stored: Tensor, low: float, high: float) -> Tensor:
    """Values 0..65535 as they were between `low` and `high`."""
    return stored * ((high - low) / TOP) + low


def depth_of(distance_m: Tensor, focal_length: float, sensor_width: float) -> Tensor:
    """Metres along the optical axis from metres to the camera's centre, both [1, T, H, W]; inf where nothing is.

    They are a factor sqrt(1 + (x^2 + y^2) / f^2) apart, (x, y) being the pixel's place on the sensor.
    """
    height, width = distance_m.shape[2:]
    pixel = sensor_width / focal_length / width
    x = (torch.arange(width) + 0.5 - width / 2) * pixel
    y = (torch.arange(height) + 0.5 - height / 2)[:, None] * pixel
    depth_m = distance_m / (1 + x.square() + y.square()).sqrt()
    return torch.where(distance_m >= NOTHING_M, torch.inf, depth_m)


def normals_of(stored: Tensor, quaternions: Sequence[Sequence[float]]) -> Tensor:
    """Unit normals in the camera's axes (x right, y up, z towards it) [3, T, H, W]; 0 where mid-gray is stored.

    Args:
        stored: [3, T, H, W] in 0..65535, (n + 1) / 2 of the normal in the world's axes.
        quaternions: (w, x, y, z) of each frame, the turn from the camera's axes to the world's. The camera looks along
            its -z with y up.
    """
    turns = torch.stack([_matrix(*map(float, q)) for q in quaternions])
    local = torch.einsum("tji,jthw->ithw", turns, stored * (2 / TOP) - 1)
    length = local.norm(dim=0, keepdim=True)
    return torch.where(length > 0.5, local / length.clamp_min(0.5), 0.0)


def flow_of(rows_columns_px: Tensor) -> Tensor:
    """Motion (dx, dy) [2, T, H, W] from motion (in rows, in columns); NaN in the last frame."""
    flow_px = rows_columns_px.flip(0)
    flow_px[:, -1] = torch.nan
    return flow_px


def classes_of(instance_ids: Tensor, names: Sequence[str | None]) -> Tensor:
    """Class of each pixel, from 1 in the order of `CLASSES`; `OTHER_CLASS` where it is none of them, 0 is background.

    Args:
        instance_ids: int64 [1, T, H, W]; 0 is background.
        names: Category or shape of the instances 1, 2, ...
    """
    known = [CLASSES.index(name) + 1 if name in CLASSES else OTHER_CLASS for name in names]
    unnamed = max(0, int(instance_ids.max()) - len(known))
    return torch.tensor([0, *known, *[OTHER_CLASS] * unnamed])[instance_ids]


def _matrix(w: float, x: float, y: float, z: float) -> Tensor:
    """Rotation matrix [3, 3] of a unit quaternion."""
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
