"""Scenes of any size into the square that the networks take, with every truth that they hold."""

from dataclasses import fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lavindit.pictures import resize
from lavindit.types import Scene

SquareFit = Literal["crop", "stretch"]
PICTURES = frozenset({"rgb", "target"})


def square_scene(scene: Scene, size: int, fit: SquareFit = "crop") -> Scene:
    """A scene of any H x W as one of size x size.

    Colours are resized antialiased bicubic. Everything else takes the nearest value by pixel centres (pixel i reads
    floor((i + 0.5) * old / new), "nearest-exact"), so no id, depth or direction is invented, and inf and NaN stay where
    they are. Flow is scaled with the pixels it counts, and a pixel whose motion leaves the square is `occluded`. Key
    points move by `x' = (x + 0.5) * s - 0.5` (pixel centres at integers); one that falls outside gets visibility 0.
    Depths and normals keep their values: "stretch" changes the camera's aspect ratio, not the world.

    Args:
        scene: Its fields share one H x W, except `target`, which is resized alone.
        size: Side of the square in pixels.
        fit: "crop" takes the largest centred square, "stretch" the whole picture without keeping its aspect ratio.
    """
    changed: dict[str, Any] = {}
    for name in (f.name for f in fields(scene)):
        value = getattr(scene, name)
        if not isinstance(value, Tensor):
            continue
        if name == "keypoints_px":
            changed[name] = _square_keypoints(value, scene.rgb.shape[2], scene.rgb.shape[3], size, fit)
            continue
        window = _centre(value) if fit == "crop" else value
        if name in PICTURES:
            changed[name] = resize(window, size, size).contiguous()
            continue
        changed[name] = _nearest(window, size)
        if name == "flow_px":
            per_pixel = torch.tensor([size / window.shape[3], size / window.shape[2]])
            changed[name] = changed[name] * per_pixel.view(2, 1, 1, 1)
    if "occluded" in changed and "flow_px" in changed:
        changed["occluded"] = changed["occluded"] | _leaves(changed["flow_px"])
    return replace(scene, **changed)


def _corner(height: int, width: int) -> tuple[int, int, int]:
    """Side, top and left of the largest centred square."""
    side = min(height, width)
    return side, (height - side) // 2, (width - side) // 2


def _centre(field: Tensor) -> Tensor:
    side, top, left = _corner(field.shape[2], field.shape[3])
    return field[:, :, top : top + side, left : left + side]


def _nearest(field: Tensor, size: int) -> Tensor:
    """Field [N, T, H, W] of any type -> [N, T, size, size], in integers so that no rounding moves a pixel."""
    rows, columns = ((2 * torch.arange(size) + 1) * old // (2 * size) for old in field.shape[2:])
    return field[:, :, rows][:, :, :, columns]


def _square_keypoints(keypoints_px: Tensor, height: int, width: int, size: int, fit: SquareFit) -> Tensor:
    """Key points [M, J, T, 3] of a height x width picture -> the same in the square."""
    top = left = 0
    if fit == "crop":
        side, top, left = _corner(height, width)
        height = width = side
    moved = keypoints_px.clone()
    moved[..., 0] = (keypoints_px[..., 0] - left + 0.5) * (size / width) - 0.5
    moved[..., 1] = (keypoints_px[..., 1] - top + 0.5) * (size / height) - 0.5
    inside = ((moved[..., :2] >= -0.5) & (moved[..., :2] < size - 0.5)).all(-1)
    moved[..., 2] = torch.where(inside, moved[..., 2], 0.0)
    return moved


def _leaves(flow_px: Tensor) -> Tensor:
    """Whether a motion [2, T, H, W] ends outside the picture: bool [1, T, H, W]; false where it is unknown."""
    height, width = flow_px.shape[2:]
    x = torch.arange(width) + flow_px[0]
    y = torch.arange(height)[:, None] + flow_px[1]
    return ((x < -0.5) | (x >= width - 0.5) | (y < -0.5) | (y >= height - 0.5))[None]
