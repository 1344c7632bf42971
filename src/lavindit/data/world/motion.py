"""Where everything is in each frame, and where each seen point goes next: exact flow and occlusion.

Shape legend: B scenes, T frames, F = B * T (scene-major), P primitive slots, R = P + 7 surface rows (primitives, six
room faces, the sky), N rays of a frame.

Everything moves rigidly and swings about its rest pose as the sine of time, so that it stays where it was placed for
clips of any length, and frame 0 of a clip is the still picture of the same scene.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.data.world import figures as stick
from lavindit.data.world.geometry import apply, euler, project
from lavindit.data.world.objects import CENTRE_OF_PART, EXTENT_OF_PART, KINDS, SHAPE_OF_PART
from lavindit.data.world.parameters import FARTHEST_M, Objects, Parameters
from lavindit.data.world.shapes import CAPSULE, Primitives, trace, trace_room


@dataclass(frozen=True, eq=False)
class Posed:
    """A batch of scenes over time.

    Attributes:
        origin: Camera positions [B, T, 3].
        view: Camera axes -> world [B, T, 3, 3].
        prims: Primitives, with leading sizes [B, T].
        instance: int64 [B, P] 1 + object slot, or 1 + objects + figure; 0 for an empty slot.
        class_of: int64 [B, P].
        joints: [B, T, G, 17, 3] in the world.
    """

    origin: Tensor
    view: Tensor
    prims: Primitives
    instance: Tensor
    class_of: Tensor
    joints: Tensor


def pose(scenes: Parameters, frames: int) -> Posed:
    """Put everything in its place in frames 0 .. T-1, full slots first."""
    camera = scenes.camera
    time = torch.arange(frames, device=camera.rate.device, dtype=torch.float32)
    beat = (time[None, :, None] * camera.rate[:, None]).sin()
    origin = camera.position[:, None] + beat[..., :1] * camera.sway[:, None]
    view = euler(*(camera.angles[:, None] + beat[..., 1:] * camera.turn[:, None]).unbind(-1))
    things, skeletons = _pose_objects(scenes.objects, time), stick.pose(scenes.figures, frames)
    people = _figure_primitives(scenes.figures, skeletons)
    merged = [torch.cat([a, b], 2) for a, b in zip(things, people, strict=True)]
    instance, class_of = _labels(scenes, merged[0][:, 0])
    return Posed(origin, view, Primitives(*merged), instance, class_of, skeletons.joints)


def _pose_objects(objects: Objects, time: Tensor) -> tuple[Tensor, ...]:
    batch, slots = objects.kind.shape
    device = objects.kind.device
    beat = (time[None, :, None] * objects.rate[:, None]).sin()
    centre = objects.centre[:, None] + beat[..., None] * objects.sway[:, None]
    yaw, pitch, roll = (objects.angles[:, None] + 0 * beat[..., None]).unbind(-1)
    turn = euler(yaw + beat * objects.spin[:, None], pitch, roll)[:, :, :, None]
    kind = objects.kind.clamp_min(0)
    shape = torch.where(objects.kind[..., None] >= 0, SHAPE_OF_PART.to(device)[kind], -1)
    scale = objects.size[:, :, None] * EXTENT_OF_PART.to(device)[kind]
    offset = objects.size[:, :, None] * CENTRE_OF_PART.to(device)[kind]
    radius = scale.amin(-1, keepdim=True)
    pill = shape == CAPSULE
    half = torch.where(pill, scale[..., 1] / radius[..., 0] - 1, 0.0)
    scale = torch.where(pill[..., None], radius, scale)
    sizes = (batch, len(time), slots * shape.shape[2])
    centre = (centre[:, :, :, None] + apply(turn, offset[:, None])).reshape(*sizes, 3)
    turn = turn.expand(*turn.shape[:3], shape.shape[2], 3, 3).reshape(*sizes, 3, 3)
    still = [x[:, None].expand(batch, len(time), *x.shape[1:]) for x in (shape, scale, half)]
    return still[0].reshape(sizes), centre, turn, still[1].reshape(*sizes, 3), still[2].reshape(sizes)


def _figure_primitives(figures: stick.Figures, skeletons: stick.Skeletons) -> tuple[Tensor, ...]:
    kinds, radii = stick.part_shapes(figures.height)
    shape = torch.where(figures.active[..., None], kinds, -1)
    batch, frames = skeletons.centre.shape[:2]
    half = skeletons.half / radii[:, None, ..., 0]
    still = [x[:, None].expand(batch, frames, *x.shape[1:]) for x in (shape, radii)]
    parts = (still[0], skeletons.centre, skeletons.rotation, still[1], half)
    return tuple(x.flatten(2, 3) for x in parts)


def _labels(scenes: Parameters, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Instance and class ids of every primitive slot [B, P]."""
    things, people = scenes.objects.kind.shape[1], scenes.figures.active.shape[1]
    parts = SHAPE_OF_PART.shape[1]
    ids = torch.cat(
        [torch.arange(things).repeat_interleave(parts), things + torch.arange(people).repeat_interleave(stick.PARTS)]
    )
    instance = torch.where(kind >= 0, ids.to(kind.device) + 1, 0)
    classes = (scenes.objects.kind + 1).repeat_interleave(parts, 1)
    person = torch.full_like(kind[:, classes.shape[1] :], len(KINDS) + 1)
    return instance, torch.where(kind >= 0, torch.cat([classes, person], 1), 0)


def follow(points: Tensor, row: Tensor, now: Primitives, then: Primitives) -> Tensor:
    """Carry surface points [F, 3, N] on surface rows [F, N] from one pose of the primitives to another."""
    frames, slots = now.kind.shape
    turn = then.rotation @ now.rotation.transpose(-1, -2)
    shift = then.centre - apply(turn, now.centre)
    same = ((turn - torch.eye(3, device=turn.device)).abs().amax((-1, -2)) < 1e-6) & (shift.abs().amax(-1) < 1e-5)
    still = same | (now.kind < 0)
    eye = torch.eye(3, device=turn.device).expand(frames, 7, 3, 3)
    turn = torch.cat([torch.where(still[..., None, None], eye[:, :1], turn), eye], 1)
    shift = torch.cat([torch.where(still[..., None], 0.0, shift), torch.zeros_like(shift[:, :1]).expand(-1, 7, -1)], 1)
    index = (row + torch.arange(frames, device=row.device)[:, None] * (slots + 7)).reshape(-1)
    matrix = turn.reshape(-1, 9).T.index_select(1, index).view(3, 3, frames, -1)
    offset = shift.reshape(-1, 3).T.index_select(1, index).view(3, frames, -1)
    moved = [sum(matrix[i, j] * points[:, j] for j in range(3)) + offset[i] for i in range(3)]
    return torch.stack(moved, 1)


def flow_and_occlusion(points: Tensor, row: Tensor, posed: Posed, scenes: Parameters) -> tuple[Tensor, Tensor]:
    """Motion of every pixel from each frame to the next.

    Args:
        points: World points seen [B * T, 3, N]; for the sky, directions.
        row: Surface rows [B * T, N].
        posed: The scenes over time.
        scenes: Their parameters.

    Returns:
        Pixels (dx, dy) [B, T, 2, N], NaN in the last frame, and bool [B, T, N], false in the last frame.
    """
    batch, frames = posed.origin.shape[:2]
    count = points.shape[2]
    points, row = points.view(batch, frames, 3, count), row.view(batch, frames, count)
    now, then = (_flat(posed.prims, slice(a, frames - 1 + a)) for a in (0, 1))
    slots = now.kind.shape[1]
    seen, rows = points[:, :-1].flatten(0, 1), row[:, :-1].flatten(0, 1)
    sky = rows == slots + 6
    origins, views = posed.origin.flatten(0, 1), posed.view.flatten(0, 1)
    origins, views = (x.view(batch, frames, *x.shape[1:]) for x in (origins, views))
    tan = scenes.camera.tan_half_fov.repeat_interleave(frames - 1)
    resolution = int(count**0.5)

    def look(p: Tensor, which: slice) -> tuple[Tensor, Tensor, Tensor]:
        origin, view = origins[:, which].flatten(0, 1), views[:, which].flatten(0, 1)
        ray = torch.where(sky[:, None], p, p - origin[..., None])
        return *project(view.transpose(1, 2) @ ray, tan, resolution), ray

    start, _, _ = look(seen, slice(0, frames - 1))
    moved = follow(seen, rows, now, then)
    end, depth, ray = look(moved, slice(1, frames))
    hidden = _hidden(origins[:, 1:].flatten(0, 1), ray / depth[:, None], depth, sky, then, scenes, frames - 1)
    outside = ((end < -0.5) | (end > resolution - 0.5)).any(1) | (depth <= 0)
    flow = torch.full((batch, frames, 2, count), torch.nan, device=points.device)
    flow[:, :-1] = (end - start).view(batch, frames - 1, 2, count)
    occluded = torch.zeros(batch, frames, count, dtype=torch.bool, device=points.device)
    occluded[:, :-1] = (hidden | outside).view(batch, frames - 1, count)
    return flow, occluded


def _hidden(
    origin: Tensor, rays: Tensor, depth: Tensor, sky: Tensor, prims: Primitives, scenes: Parameters, repeats: int
) -> Tensor:
    """Whether anything stands before the points at `depth` along rays of unit depth [F, N]."""
    low, high = (x.repeat_interleave(repeats, 0) for x in (scenes.walls.low, scenes.walls.high))
    nearest = torch.minimum(trace(origin, rays, prims)[0], trace_room(origin, rays, low, high)[0])
    far = depth > FARTHEST_M
    return torch.where(sky, nearest <= FARTHEST_M, (nearest < depth - 0.01 - 1e-3 * depth) | far)


def _flat(prims: Primitives, which: slice) -> Primitives:
    return Primitives(
        *(getattr(prims, n)[:, which].flatten(0, 1) for n in ("kind", "centre", "rotation", "scale", "half"))
    )
