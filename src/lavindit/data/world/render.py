"""From parameters to pictures and truth.

Shape legend: B scenes, T frames, F = B * T (scene-major), P primitive slots, N = H * W rays of a frame.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lavindit.data.world.geometry import pixel_rays, project
from lavindit.data.world.motion import Posed, flow_and_occlusion, pose
from lavindit.data.world.objects import STUFF_OF_FACE
from lavindit.data.world.parameters import FARTHEST_M, Parameters
from lavindit.data.world.shading import shade, texture_table, visible_from_lamp
from lavindit.data.world.shapes import Primitives, surface_normals, trace, trace_room

JOINT_DEPTH = 0.09
"""How far under the skin a joint may lie, as a fraction of the figure's height; deeper means hidden."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """A batch of scenes; the fields are those of `lavindit.types.Scene` with a leading B.

    Attributes:
        rgb: [B, 3, T, H, W].
        depth_m: [B, 1, T, H, W].
        normals: [B, 3, T, H, W].
        instance_ids: int64 [B, 1, T, H, W].
        class_ids: int64 [B, 1, T, H, W].
        keypoints_px: [B, G, 17, T, 3], for all figure slots.
        figures: bool [B, G], the slots in use.
        flow_px: [B, 2, T, H, W], or None for still pictures.
        occluded: bool [B, 1, T, H, W], or None.
    """

    rgb: Tensor
    depth_m: Tensor
    normals: Tensor
    instance_ids: Tensor
    class_ids: Tensor
    keypoints_px: Tensor
    figures: Tensor
    flow_px: Tensor | None = None
    occluded: Tensor | None = None


def select(tree: Any, index: Any) -> Any:
    """Index the first dimension of every tensor of a tree of dataclasses."""
    return _map(tree, lambda x: x[index])


def move(tree: Any, device: torch.device | str) -> Any:
    """Move every tensor of a tree of dataclasses."""
    return _map(tree, lambda x: x.to(device))


def _map(tree: Any, function: Any) -> Any:
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{f.name: _map(getattr(tree, f.name), function) for f in fields(tree)})
    return function(tree) if isinstance(tree, Tensor) else tree


def _drop_empty(posed: Posed, scenes: Parameters) -> tuple[Posed, Parameters]:
    """Move the primitives in use to the front and drop the slots that no scene uses."""
    used = posed.prims.kind[:, 0] >= 0
    order = used.logical_not().long().argsort(dim=1, stable=True)[:, : max(1, int(used.sum(1).max()))]
    rows = torch.arange(len(order), device=order.device)[:, None]
    prims = _map(posed.prims, lambda x: x.transpose(1, 2)[rows, order].transpose(1, 2))
    room = torch.arange(used.shape[1], scenes.textures.style.shape[1], device=order.device).expand(len(order), -1)
    surfaces = torch.cat([order, room], 1)
    textures = _map(scenes.textures, lambda x: x[rows, surfaces])
    posed = replace(posed, prims=prims, instance=posed.instance[rows, order], class_of=posed.class_of[rows, order])
    return posed, replace(scenes, textures=textures)


@torch.no_grad()
def render(scenes: Parameters, resolution: int, frames: int = 1) -> Rendered:
    """Render a batch of scenes in one go, on whatever device their parameters are."""
    posed, scenes = _drop_empty(pose(scenes, frames), scenes)
    batch = len(scenes.walls.low)
    repeated = _map(scenes, lambda x: x.repeat_interleave(frames, 0)) if frames > 1 else scenes
    prims: Primitives = _map(posed.prims, lambda x: x.flatten(0, 1))
    origin, view = posed.origin.flatten(0, 1), posed.view.flatten(0, 1)
    camera_rays = pixel_rays(resolution, repeated.camera.tan_half_fov)
    rays = view @ camera_rays
    depth, row = _nearest_surface(origin, rays, prims, repeated)
    slots = prims.kind.shape[1]
    sky = row == slots + 6
    points = torch.where(sky[:, None], rays / rays.square().sum(1, keepdim=True).sqrt(), 0.0)
    points = torch.where(sky[:, None], points, origin[..., None] + rays * torch.where(sky, 0.0, depth)[:, None])
    normals = _normals(points, row, prims)
    lit = visible_from_lamp(points, normals, ~sky, prims, repeated.light)
    slant = (-(rays * normals).sum(1)).clamp_min(0.15)
    footprint = torch.where(sky, 1.0, depth) * (2 / resolution) * repeated.camera.tan_half_fov[:, None] / slant.sqrt()
    index = row + torch.arange(len(row), device=row.device)[:, None] * (slots + 7)
    table = texture_table(repeated.textures, prims)
    rgb = shade(points, normals, index, footprint, rays, table, repeated.light, lit)
    seen_normals = view.transpose(1, 2) @ normals

    def grid(x: Tensor) -> Tensor:
        """[F, (C,) N] -> [B, C, T, H, W]."""
        return x.view(batch, frames, -1, resolution, resolution).transpose(1, 2)

    stuff = STUFF_OF_FACE.to(row.device)
    instance_ids = _label(posed.instance, torch.zeros_like(stuff), row, frames)
    class_ids = _label(posed.class_of, stuff, row, frames)
    flow, occluded = flow_and_occlusion(points, row, posed, scenes) if frames > 1 else (None, None)
    return Rendered(
        rgb=grid(rgb),
        depth_m=grid(depth),
        normals=grid(seen_normals),
        instance_ids=grid(instance_ids),
        class_ids=grid(class_ids),
        keypoints_px=_keypoints(posed, repeated, depth, resolution),
        figures=scenes.figures.active,
        flow_px=None if flow is None else grid(flow),
        occluded=None if occluded is None else grid(occluded),
    )


def _nearest_surface(origin: Tensor, rays: Tensor, prims: Primitives, scenes: Parameters) -> tuple[Tensor, Tensor]:
    """Depth [F, N], inf for the sky, and the surface row seen [F, N]."""
    slots = prims.kind.shape[1]
    t, slot = trace(origin, rays, prims)
    wall, face = trace_room(origin, rays, scenes.walls.low, scenes.walls.high)
    row = torch.where(t < wall, slot, face + slots)
    depth = torch.minimum(t, wall)
    sky = depth > FARTHEST_M
    return torch.where(sky, torch.inf, depth), torch.where(sky, slots + 6, row)


def _normals(points: Tensor, row: Tensor, prims: Primitives) -> Tensor:
    """World normals [F, 3, N], 0 for the sky."""
    frames, slots = prims.kind.shape
    faces = torch.zeros(slots + 7, 3, device=points.device)
    for face in range(6):
        faces[slots + face, face // 2] = 1 - 2 * (face % 2)
    normals = faces.T.index_select(1, row.reshape(-1))
    chosen = (row < slots).reshape(-1).nonzero().squeeze(1)
    where = points.transpose(0, 1).reshape(3, -1).index_select(1, chosen)
    prim = row.reshape(-1)[chosen] + chosen // row.shape[1] * slots
    normals[:, chosen] = surface_normals(where, prim, prims)
    return normals.view(3, frames, -1).transpose(0, 1)


def _label(values: Tensor, room: Tensor, row: Tensor, frames: int) -> Tensor:
    """Look up ids of primitives [B, P], and of room faces and sky [7], for surface rows [B * T, N]."""
    table = torch.cat([values, room.expand(len(values), -1)], 1).repeat_interleave(frames, 0)
    return table.gather(1, row)


def _keypoints(posed: Posed, scenes: Parameters, depth: Tensor, resolution: int) -> Tensor:
    """Joints [B, G, 17, T, 3]: hidden if the depth map shows something clearly in front of the joint."""
    batch, frames, people, joints = posed.joints.shape[:4]
    world = posed.joints.flatten(0, 1).flatten(1, 2).transpose(1, 2)
    view = posed.view.flatten(0, 1).transpose(1, 2)
    xy, z = project(view @ (world - posed.origin.flatten(0, 1)[..., None]), scenes.camera.tan_half_fov, resolution)
    inside = ((xy >= -0.5) & (xy < resolution - 0.5)).all(1) & (z > 0)
    nearest = xy.round().long().clamp(0, resolution - 1)
    seen = depth.gather(1, nearest[:, 1] * resolution + nearest[:, 0])
    height = scenes.figures.height.repeat_interleave(joints, 1)
    visible = inside & (z < seen + JOINT_DEPTH * height)
    state = inside.float() + visible.float()
    return torch.cat([xy, state[:, None]], 1).view(batch, frames, 3, people, joints).permute(0, 3, 4, 1, 2).contiguous()
