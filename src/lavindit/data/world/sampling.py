"""What a scene is made of: random parameters, drawn for a whole batch of scenes at once.

Shape legend: B scenes, O object slots, G figures, S surface slots (primitives, six room faces, the sky).

Every scene has its own generator, which makes one vector of uniforms; the functions below read it from left to right,
so that a scene does not depend on its neighbours.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.data.world.figures import FIGURES, PARTS, POSE_RANGES, TEXTURE_OF_PART, Figures
from lavindit.data.world.geometry import apply, rotation
from lavindit.data.world.objects import KINDS, OBJECT_PARTS, OBJECTS, TEXTURE_OF_OBJECT_PART

PRIMITIVES = OBJECTS * OBJECT_PARTS + FIGURES * PARTS
SURFACES = PRIMITIVES + 7
UNIFORMS = 2048
NEAREST_M, FARTHEST_M = 0.5, 30.0
"""Depth of every surface that a scene shows."""


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


def uniforms(seed: int, split: str, indices: list[int]) -> Tensor:
    """One vector of uniforms for each scene [B, UNIFORMS]; it depends on nothing but (seed, split, index)."""
    rows = []
    for index in indices:
        digest = hashlib.blake2b(f"lavindit-world/{seed}/{split}/{index}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        rows.append(torch.rand(UNIFORMS, generator=generator))
    return torch.stack(rows)


@dataclass(frozen=True, eq=False)
class Camera:
    """Position [B, 3], angles (yaw, pitch, roll) [B, 3], tangent of half the field of view [B]; and its motion:
    amplitudes `sway` [B, 3] in metres and `turn` [B, 3] in radians, `rate` [B, 2] in radians per frame.
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
    """One for each surface: colours [B, S, 3] twice, style int64 [B, S], cycles per metre [B, S], phase [B, S, 3],
    a quarter-turn-free tilt [B, S] in radians, and gloss [B, S].
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
    """A batch of scenes, before anything is posed: low and high are the room's corners [B, 3], inf where open."""

    camera: Camera
    low: Tensor
    high: Tensor
    light: Light
    objects: Objects
    figures: Figures
    textures: Textures


def sample(draw: Draw, even: Tensor) -> Parameters:
    """Draw a batch of scenes.

    Args:
        draw: The scenes' uniforms.
        even: bool [B], whether a scene must have a figure.
    """
    room = draw.chance(0.6)
    camera, low, high = _camera_and_room(draw, room)
    light = _light(draw, room, low, high)
    figures = _figures(draw, camera, low, high, even)
    objects = _objects(draw, camera, low, high, figures)
    return Parameters(camera, low, high, light, objects, figures, _textures(draw, objects))


def _camera_and_room(draw: Draw, room: Tensor) -> tuple[Camera, Tensor, Tensor]:
    still = draw.chance(0.25)[:, None]
    sway = torch.where(still, 0.0, draw.span(-1, 1, 3) * torch.tensor([0.35, 0.08, 0.35]))
    turn = torch.where(still, 0.0, draw.span(-1, 1, 3) * torch.tensor([0.12, 0.07, 0.05]))
    tan = draw.span(0.42, 0.8)
    yaw = draw.span(-torch.pi, torch.pi)
    pitch = torch.where(room, draw.span(-0.6, 0.3), draw.span(-0.5, 0.06))
    roll = draw.span(-1, 1) * draw.span(0, 0.3)
    camera = Camera(
        torch.zeros_like(sway), torch.stack([yaw, pitch, roll], 1), tan, sway, turn, draw.span(0.15, 0.6, 2)
    )
    margin = camera.clearance + 0.05
    size = torch.stack([draw.span(3.2, 12), draw.span(2.4, 5.5), draw.span(3.2, 12)], 1)
    height = margin + draw.unit() * torch.where(room, size[:, 1] - 2 * margin, draw.span(0.5, 3.0)).clamp_min(0.0)
    ahead = rotation(1, yaw) @ torch.tensor([0.0, 0.0, -1.0])
    spread = size / 2 - margin[:, None]
    position = -ahead * draw.span(0.1, 1.3, 1) * spread + draw.span(-0.4, 0.4, 3) * spread
    position = position.maximum(-spread).minimum(spread)
    position[:, 1] = height
    low, high = -size / 2, size / 2
    low[:, 1], high[:, 1] = 0, size[:, 1]
    outside = ~room[:, None]
    wall = draw.chance(0.16, 2) & outside
    low = low.clone()
    high = torch.where(outside, torch.inf, high)
    low[:, [0, 2]] = torch.where(outside & ~wall, -torch.inf, low[:, [0, 2]])
    return Camera(position, camera.angles, tan, sway, turn, camera.rate), low, high


def _light(draw: Draw, room: Tensor, low: Tensor, high: Tensor) -> Light:
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


def _spots(draw: Draw, camera: Camera, count: int, near: float, far: float) -> tuple[Tensor, Tensor]:
    """Places in view: points on the line of sight's plan [B, count, 3] (y = 0) and their distances ahead."""
    ahead = far / near
    distance = near * ahead ** draw.unit(count)
    across = draw.span(-0.95, 0.95, count) * camera.tan_half_fov[:, None] * distance
    plan = torch.stack([across, torch.zeros_like(across), -distance], -1)
    heading = rotation(1, camera.angles[:, 0])[:, None]
    point = apply(heading, plan) + camera.position[:, None]
    point[..., 1] = 0
    return point, distance


def _keep_inside(point: Tensor, low: Tensor, high: Tensor, margin: Tensor) -> Tensor:
    """Clamp points [B, n, 3] to the room, less a margin [B, n, 3]; the low side wins where there is no space."""
    return point.minimum(high[:, None] - margin).maximum(low[:, None] + margin)


def _figures(draw: Draw, camera: Camera, low: Tensor, high: Tensor, even: Tensor) -> Figures:
    shape = (FIGURES,)
    wanted = torch.stack([even | draw.chance(0.25), draw.chance(0.3)], 1)
    ground, _ = _spots(draw, camera, FIGURES, 2.4, 7.0)
    height = draw.span(1.35, 1.9, *shape)
    stride = draw.span(0, 0.35, *shape)
    reach = 0.4 * height + stride
    margin = torch.stack([reach, torch.zeros_like(height), reach], -1)
    ground = _keep_inside(ground, low, high, margin)
    ranges = POSE_RANGES
    pose = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draw.unit(FIGURES, len(ranges))
    swing = draw.span(-0.35, 0.35, FIGURES, len(ranges)) * torch.tensor([0.3] * 3 + [1.0] * 10)
    clear = _clear_of_camera(ground, camera, 0.7 * height + stride) & (high[:, 1:2] > height + 0.1)
    apart = (ground[:, 0] - ground[:, 1]).square().sum(-1).sqrt() > 1.0
    active = wanted & clear
    active = torch.stack([active[:, 0], active[:, 1] & (apart | ~active[:, 0])], 1)
    heading = draw.span(-torch.pi, torch.pi, *shape)
    return Figures(active, ground, heading, height, pose, swing, stride, draw.span(0.3, 0.8, *shape))


def _clear_of_camera(point: Tensor, camera: Camera, radius: Tensor) -> Tensor:
    """Whether upright cylinders about points [B, n, 3] leave the camera its clearance [B, n]."""
    offset = (point - camera.position[:, None])[..., [0, 2]].square().sum(-1).sqrt()
    return offset > radius + camera.clearance[:, None]


def _objects(draw: Draw, camera: Camera, low: Tensor, high: Tensor, figures: Figures) -> Objects:
    shape = (OBJECTS,)
    present = draw.unit(*shape) < draw.span(0.4, 1.0)[:, None]
    kind = draw.choice(len(KINDS), *shape)
    point, distance = _spots(draw, camera, OBJECTS, 1.4, 11.0)
    size = (
        (0.16 * distance).clamp(0.2, 0.9)[..., None] * draw.span(0.5, 1.5, OBJECTS, 1) * draw.span(0.6, 1.5, OBJECTS, 3)
    )
    compound = torch.tensor([k.stands for k in KINDS])[kind]
    floating = draw.chance(0.35, *shape) & ~compound
    tilt = torch.where(floating, 1.0, 0.0)[..., None] * draw.span(-1.2, 1.2, OBJECTS, 2)
    angles = torch.cat([draw.span(-torch.pi, torch.pi, OBJECTS, 1), tilt], -1)
    bound = size.square().sum(-1).sqrt()
    moves = draw.chance(0.6, *shape)[..., None]
    sway = torch.where(moves, draw.span(-0.4, 0.4, OBJECTS, 3), 0.0)
    sway[..., 1] = torch.where(floating, sway[..., 1], 0.0)
    spin = torch.where(moves[..., 0], draw.span(-0.8, 0.8, *shape), 0.0)
    lift = camera.position[:, 1:2] + distance * (
        camera.angles[:, 1].tan()[:, None] + draw.span(-0.8, 0.8, *shape) * camera.tan_half_fov[:, None]
    )
    margin = bound[..., None] + sway.abs() + 0.02
    margin[..., 1] = torch.where(floating, margin[..., 1], size[..., 1])
    point[..., 1] = torch.where(floating, lift, size[..., 1])
    point = _keep_inside(point, low, high, margin)
    fits = (point + margin * 0.999 < high[:, None]).all(-1)
    reach = bound + sway.square().sum(-1).sqrt()
    far = (point - camera.position[:, None]).square().sum(-1).sqrt() > reach + camera.clearance[:, None]
    present = present & fits & far & _apart(point, bound, present & fits & far, figures)
    return Objects(torch.where(present, kind, -1), point, angles, size, sway, spin, draw.span(0.2, 0.7, *shape))


def _apart(point: Tensor, bound: Tensor, present: Tensor, figures: Figures) -> Tensor:
    """Drop an object that would stand in a figure or in an earlier object [B, O]."""
    body = figures.ground + torch.stack(
        [torch.zeros_like(figures.height), figures.height / 2, torch.zeros_like(figures.height)], -1
    )
    near = (point[:, :, None] - body[:, None]).square().sum(-1).sqrt() < bound[..., None] * 0.8 + figures.height[
        :, None
    ] * 0.35
    keep = present & ~(near & figures.active[:, None]).any(-1)
    gap = (point[:, :, None] - point[:, None]).square().sum(-1).sqrt() / (bound[:, :, None] + bound[:, None])
    for o in range(1, point.shape[1]):
        keep[:, o] &= ~((gap[:, o, :o] < 0.7) & keep[:, :o]).any(1)
    return keep


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
