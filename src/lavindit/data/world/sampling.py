"""Random parameters, drawn for a whole batch of scenes at once.

Shape legend: B scenes, D uniforms of a scene.

Every scene has its own generator, which makes one vector of uniforms; the functions below read it from left to right,
so that a scene does not depend on its neighbours.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lavindit.data.world.figures import FIGURES, PARTS, POSE_RANGES, TEXTURE_OF_PART, Figures
from lavindit.data.world.geometry import apply, rotation
from lavindit.data.world.objects import KINDS, OBJECT_PARTS, OBJECTS, TEXTURE_OF_OBJECT_PART
from lavindit.data.world.parameters import (
    PRIMITIVES,
    SURFACES,
    Camera,
    Light,
    Objects,
    Parameters,
    Textures,
    Walls,
)

UNIFORMS = 2048


class Draw:
    """Uniforms [B, D], read from left to right."""

    def __init__(self, uniforms: Tensor):
        self.uniforms = uniforms
        self.used = 0

    def unit(self, *shape: int) -> Tensor:
        """The next uniforms in [0, 1) -> [B, *shape]."""
        count = 1
        for side in shape:
            count *= side
        if self.used + count > self.uniforms.shape[1]:
            raise ValueError(f"a scene needs more than {self.uniforms.shape[1]} uniforms")
        values = self.uniforms[:, self.used : self.used + count]
        self.used += count
        return values.reshape(-1, *shape)

    def span(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniforms in [low, high)."""
        return low + (high - low) * self.unit(*shape)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Booleans, true with the given probability."""
        return self.unit(*shape) < probability

    def choice(self, options: int, *shape: int) -> Tensor:
        """int64 in [0, options)."""
        return (self.unit(*shape) * options).long().clamp_max(options - 1)


def uniforms(seed: int, split: str, indices: Sequence[int]) -> Tensor:
    """One vector of uniforms for each scene [B, UNIFORMS]; it depends on nothing but (seed, split, index)."""
    rows = []
    for index in indices:
        digest = hashlib.blake2b(f"lavindit-world/{seed}/{split}/{index}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        rows.append(torch.rand(UNIFORMS, generator=generator))
    return torch.stack(rows)


def sample(draw: Draw, even: Tensor) -> Parameters:
    """Draw a batch of scenes.

    Args:
        draw: The scenes' uniforms.
        even: bool [B], whether a scene must have a figure.
    """
    room = draw.chance(0.6)
    camera, walls = _camera_and_walls(draw, room)
    light = _light(draw, room, walls)
    figures = _figures(draw, camera, walls, even)
    objects = _objects(draw, camera, walls, figures)
    camera = _roam(camera, walls, objects, figures)
    return Parameters(camera, walls, light, objects, figures, _textures(draw, objects))


def _camera_and_walls(draw: Draw, room: Tensor) -> tuple[Camera, Walls]:
    """A closed room, or a plain with up to two walls that meet; the camera tends to stand at the near end."""
    calm = draw.unit(1)  # the calmest cameras stand still, the next only turn
    sway = torch.where(calm < 0.25, 0.0, draw.span(-1, 1, 3) * torch.tensor([0.35, 0.08, 0.35]))
    turn = torch.where(calm < 0.1, 0.0, draw.span(-1, 1, 3))
    turn = (0.25 * turn.sign() + 0.75 * turn) * torch.tensor([0.4, 0.2, 0.2])
    yaw = draw.span(-torch.pi, torch.pi)
    pitch = torch.where(room, draw.span(-0.6, 0.3), draw.span(-0.5, 0.06))
    angles = torch.stack([yaw, pitch, draw.span(-1, 1) * draw.span(0, 0.3)], 1)
    camera = Camera(torch.zeros_like(sway), angles, draw.span(0.42, 0.8), sway, turn, draw.span(0.2, 0.7, 2))
    size = torch.stack([draw.span(4, 12), draw.span(2.4, 5.5), draw.span(4, 12)], 1)
    margin = camera.clearance + 0.05
    height = margin + draw.unit() * torch.where(room, size[:, 1] - 2 * margin, draw.span(0.5, 3.0)).clamp_min(0.0)
    spread = size / 2 - margin[:, None]
    back = rotation(1, yaw) @ torch.tensor([0.0, 0.0, 1.0])
    position = (back * draw.span(0.3, 1.3, 1) + draw.span(-0.4, 0.4, 3)) * spread
    position = position.maximum(-spread).minimum(spread)
    position[:, 1] = height
    low, high = -size / 2, size / 2
    low[:, 1], high[:, 1] = 0, size[:, 1]
    plain = ~room[:, None]
    without = (plain & ~draw.chance(0.16, 2))[:, [0, 0, 1]] & torch.tensor([True, False, True])
    walls = Walls(torch.where(without, -torch.inf, low), torch.where(plain, torch.inf, high))
    return replace(camera, position=position), walls


def _light(draw: Draw, room: Tensor, walls: Walls) -> Light:
    low, high = walls.low, walls.high
    azimuth, height = draw.span(-torch.pi, torch.pi), draw.span(0.25, 0.95)
    flat = (1 - height.square()).sqrt()
    towards = torch.stack([azimuth.cos() * flat, height, azimuth.sin() * flat], 1)
    away = towards.abs()
    away[:, 1] = towards[:, 1]
    towards = torch.where(torch.isfinite(low) & ~torch.isfinite(high), away, towards)
    fraction = torch.stack([draw.span(0.15, 0.85), draw.span(0.7, 0.95), draw.span(0.15, 0.85)], 1)
    inside = low + (high - low) * fraction
    position = torch.where(room[:, None], inside, towards * 60)
    warm = draw.span(-0.12, 0.12, 1) * torch.tensor([1.0, 0.1, -1.0]) + 1
    key = warm * torch.where(room, draw.span(0.9, 1.6), draw.span(0.6, 1.2))[:, None]
    reach = torch.where(room, (high - low).square().sum(-1).sqrt() * 0.7, torch.inf)
    fill_from = draw.span(-1, 1, 3)
    fill_from[:, 1] = fill_from[:, 1].abs() * 0.7
    fill_from = fill_from / fill_from.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-3)
    fill = draw.span(0.1, 0.4, 1) * (2 - warm)
    return Light(position, key, reach, fill_from, fill, draw.span(0.18, 0.4, 1) * draw.span(0.85, 1.1, 3))


def _spots(draw: Draw, camera: Camera, walls: Walls, count: int, near: float, far: float) -> tuple[Tensor, Tensor]:
    """Places on the ground in view, this side of the far wall [B, count, 3], and their distances ahead [B, count]."""
    heading = rotation(1, camera.angles[:, 0])
    ahead = heading @ torch.tensor([0.0, 0.0, -1.0])
    wall = torch.where(ahead > 0, walls.high - camera.position, camera.position - walls.low)
    room = (wall / ahead.abs().clamp_min(1e-3))[:, [0, 2]].amin(1, keepdim=True) * 0.95
    distance = near * (room.clamp(near * 1.1, far) / near) ** draw.unit(count)
    across = draw.span(-0.95, 0.95, count) * camera.tan_half_fov[:, None] * distance
    plan = torch.stack([across, torch.zeros_like(across), -distance], -1)
    point = apply(heading[:, None], plan) + camera.position[:, None]
    point[..., 1] = 0
    return point, distance


def _keep_inside(point: Tensor, walls: Walls, margin: Tensor) -> Tensor:
    """Clamp points [B, n, 3] to the room, less a margin [B, n, 3]; the low side wins where there is no space."""
    return point.minimum(walls.high[:, None] - margin).maximum(walls.low[:, None] + margin)


def _figures(draw: Draw, camera: Camera, walls: Walls, even: Tensor) -> Figures:
    shape = (FIGURES,)
    wanted = torch.stack([even | draw.chance(0.25), draw.chance(0.3)], 1)
    ground, _ = _spots(draw, camera, walls, FIGURES, 2.6, 7.0)
    height = draw.span(1.35, 1.9, *shape)
    stride = draw.span(0, 0.25, *shape)
    reach = 0.4 * height + stride
    margin = torch.stack([reach, torch.zeros_like(height), reach], -1)
    ground = _keep_inside(ground, walls, margin)
    ranges = POSE_RANGES
    pose = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draw.unit(FIGURES, len(ranges))
    swing = draw.span(-0.35, 0.35, FIGURES, len(ranges)) * torch.tensor([0.3] * 3 + [1.0] * 10)
    clear = _clear_of_camera(ground, camera, 0.7 * height + stride) & (walls.high[:, 1:2] > height + 0.1)
    apart = (ground[:, 0] - ground[:, 1]).square().sum(-1).sqrt() > 1.0
    active = wanted & clear
    active = torch.stack([active[:, 0], active[:, 1] & (apart | ~active[:, 0])], 1)
    heading = draw.span(-torch.pi, torch.pi, *shape)
    return Figures(active, ground, heading, height, pose, swing, stride, draw.span(0.3, 0.8, *shape))


def _clear_of_camera(point: Tensor, camera: Camera, radius: Tensor) -> Tensor:
    """Whether upright cylinders about points [B, n, 3] leave the camera its clearance [B, n]."""
    offset = (point - camera.position[:, None])[..., [0, 2]].square().sum(-1).sqrt()
    return offset > radius + camera.clearance[:, None]


def _objects(draw: Draw, camera: Camera, walls: Walls, figures: Figures) -> Objects:
    shape = (OBJECTS,)
    present = draw.unit(*shape) < draw.span(0.5, 1.0)[:, None]
    kind = draw.choice(len(KINDS), *shape)
    point, distance = _spots(draw, camera, walls, OBJECTS, 1.4, 11.0)
    size = (0.16 * distance).clamp(0.2, 0.9)[..., None] * draw.span(0.5, 1.5, OBJECTS, 1)
    size = size * draw.span(0.6, 1.5, OBJECTS, 3)
    compound = torch.tensor([k.stands for k in KINDS])[kind]
    floating = draw.chance(0.35, *shape) & ~compound
    tilt = torch.where(floating, 1.0, 0.0)[..., None] * draw.span(-1.2, 1.2, OBJECTS, 2)
    angles = torch.cat([draw.span(-torch.pi, torch.pi, OBJECTS, 1), tilt], -1)
    bound = size.square().sum(-1).sqrt()
    moves = draw.chance(0.6, *shape)[..., None]
    sway = torch.where(moves, draw.span(-0.4, 0.4, OBJECTS, 3), 0.0)
    sway[..., 1] = torch.where(floating, sway[..., 1], 0.0)
    spin = torch.where(moves[..., 0], draw.span(-0.8, 0.8, *shape), 0.0)
    slope = camera.angles[:, 1:2].tan() + draw.span(-0.8, 0.8, *shape) * camera.tan_half_fov[:, None]
    lift = camera.position[:, 1:2] + distance * slope
    margin = bound[..., None] + sway.abs() + 0.02
    margin[..., 1] = torch.where(floating, margin[..., 1], size[..., 1])
    point[..., 1] = torch.where(floating, lift, size[..., 1])
    point = _keep_inside(point, walls, margin)
    fits = (point + margin * 0.999 < walls.high[:, None]).all(-1)
    reach = bound + sway.square().sum(-1).sqrt()
    far = (point - camera.position[:, None]).square().sum(-1).sqrt() > reach + camera.clearance[:, None]
    present = present & fits & far & _apart(point, bound, present & fits & far, figures)
    return Objects(torch.where(present, kind, -1), point, angles, size, sway, spin, draw.span(0.3, 1.0, *shape))


def _apart(point: Tensor, bound: Tensor, present: Tensor, figures: Figures) -> Tensor:
    """Drop an object that would stand in a figure or in an earlier object [B, O]."""
    body = figures.ground + figures.height[..., None] * torch.tensor([0.0, 0.5, 0.0])
    distance = (point[:, :, None] - body[:, None]).square().sum(-1).sqrt()
    near = distance < bound[..., None] * 0.8 + figures.height[:, None] * 0.35
    keep = present & ~(near & figures.active[:, None]).any(-1)
    gap = (point[:, :, None] - point[:, None]).square().sum(-1).sqrt() / (bound[:, :, None] + bound[:, None])
    for o in range(1, point.shape[1]):
        keep[:, o] &= ~((gap[:, o, :o] < 0.7) & keep[:, :o]).any(1)
    return keep


def _roam(camera: Camera, walls: Walls, objects: Objects, figures: Figures) -> Camera:
    """Let the camera sway up to three times as far, where nothing is in its way."""
    here = camera.position[:, None]
    wall = torch.minimum(camera.position - walls.low, walls.high - camera.position).amin(1)
    reach = objects.size.square().sum(-1).sqrt() + objects.sway.square().sum(-1).sqrt()
    thing = (objects.centre - here).square().sum(-1).sqrt() - reach
    body = (figures.ground - here)[..., [0, 2]].square().sum(-1).sqrt() - 0.7 * figures.height - figures.stride
    thing, body = thing.where(objects.kind >= 0, torch.inf), body.where(figures.active, torch.inf)
    space = torch.cat([wall[:, None], thing, body], 1).amin(1) - camera.clearance
    length = camera.sway.square().sum(-1).sqrt()
    stretch = 1 + (space / length.clamp_min(1e-6)).clamp(0, 2)
    return replace(camera, sway=camera.sway * stretch[:, None])


def _textures(draw: Draw, objects: Objects) -> Textures:
    shape = (SURFACES,)
    first = draw.span(0.08, 0.95, SURFACES, 3)
    second = (first + draw.span(-0.6, 0.6, SURFACES, 3)).clamp(0.05, 0.95)
    style = draw.choice(8, *shape)
    frequency = 0.25 * 16.0 ** draw.unit(*shape)
    phase, tilt = draw.unit(SURFACES, 3), torch.where(draw.chance(0.5, *shape), draw.span(0, 1.5, *shape), 0.0)
    gloss = torch.where(draw.chance(0.3, *shape), draw.span(0.1, 0.5, *shape), 0.0)
    small = slice(0, PRIMITIVES)
    frequency[:, small] = frequency[:, small] * 2
    gloss[:, -1] = 0
    parts = OBJECTS * OBJECT_PARTS
    slots = torch.arange(SURFACES).expand(len(first), -1).clone()
    for o in range(OBJECTS):
        begin = o * OBJECT_PARTS
        slots[:, begin : begin + OBJECT_PARTS] = begin + TEXTURE_OF_OBJECT_PART[objects.kind[:, o].clamp_min(0)]
    for g in range(FIGURES):
        begin = parts + g * PARTS
        slots[:, begin : begin + PARTS] = begin + TEXTURE_OF_PART
        style[:, begin], style[:, begin + 1] = 8, 0
        first[:, begin] = first[:, begin + 1]
        tilt[:, begin], phase[:, begin] = 0, 0
    return Textures(*(_take(x, slots) for x in (first, second, style, frequency, phase, tilt, gloss)))


def _take(values: Tensor, slots: Tensor) -> Tensor:
    index = slots.reshape(*slots.shape, *(1,) * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
