"""Rotations and the camera: the few conventions that the whole world shares.

World and camera axes are right-handed with y up; a camera looks along its own -z, so that its axes are
x right, y up, z towards the viewer. Pixel centres are at integers.
"""

import torch
from torch import Tensor


def rotation(axis: int, angle: Tensor) -> Tensor:
    """Rotation by `angle` radians [...] about axis 0, 1 or 2 -> [..., 3, 3]."""
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.zeros(*angle.shape, 3, 3, dtype=angle.dtype, device=angle.device)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., i, i], matrix[..., j, j] = cos, cos
    matrix[..., i, j], matrix[..., j, i] = -sin, sin
    return matrix


def euler(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Roll about z first, then pitch about x, then yaw about y: angles [...] -> [..., 3, 3]."""
    return rotation(1, yaw) @ rotation(0, pitch) @ rotation(2, roll)


def apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix [..., 3, 3] times vector [..., 3]."""
    return (matrix * vector[..., None, :]).sum(-1)


def pixel_rays(resolution: int, tan_half_fov: Tensor) -> Tensor:
    """Camera-space rays [F, 3, N] with unit extent along the optical axis, for half-angle tangents [F]."""
    steps = (torch.arange(resolution, device=tan_half_fov.device) - (resolution - 1) / 2) * (2 / resolution)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    plane = torch.stack([x, y], 0).reshape(1, 2, -1) * tan_half_fov[:, None, None]
    return torch.cat([plane, -torch.ones_like(plane[:, :1])], 1)


def project(points: Tensor, tan_half_fov: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Camera-space points [F, 3, N] -> pixels (x, y) [F, 2, N] and depth along the optical axis [F, N]."""
    depth = -points[:, 2]
    focal = resolution / (2 * tan_half_fov)[:, None]
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    middle = (resolution - 1) / 2
    x = focal * points[:, 0] / safe + middle
    y = middle - focal * points[:, 1] / safe
    return torch.stack([x, y], 1), depth
