"""Primitives and the ray tracer: every ray of a batch of frames against every primitive, with no loop over rays.

Shape legend: F frames, P primitive slots, N rays of a frame, Q candidate (primitive, ray) pairs.

Each primitive is a canonical shape in its own frame, stretched by `scale`. The rays of one frame share their origin
(the camera, or for shadows the lamp), so one batched matrix product of bounding spheres with ray directions finds the
few candidate pairs, and only those are intersected.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BALL, BOX, CYLINDER, CONE, CAPSULE = range(5)
"""Canonical shapes: unit ball; cube [-1, 1]^3; radius 1, |y| <= 1; apex y = 1, base y = -1; radius 1, |y| <= half + 1
(rounded)."""


@dataclass(frozen=True, eq=False)
class Primitives:
    """A table of primitives.

    Attributes:
        kind: [F, P] shape, -1 for an empty slot.
        centre: [F, P, 3] in world metres.
        rotation: [F, P, 3, 3] own axes -> world.
        scale: [F, P, 3] metres; a capsule's are equal (its radius).
        half: [F, P] half length of a capsule's axis, in radii.
    """

    kind: Tensor
    centre: Tensor
    rotation: Tensor
    scale: Tensor
    half: Tensor

    def inverse(self) -> Tensor:
        """World offset -> canonical coordinates [F, P, 3, 3]."""
        return self.rotation.transpose(-1, -2) / self.scale[..., None]

    def radius(self) -> Tensor:
        """Radii of bounding spheres [F, P]."""
        x, y, z = self.scale.unbind(-1)
        flat = torch.stack([x, z], -1)
        rim = flat.amax(-1).square()
        options = [
            self.scale.amax(-1),
            self.scale.square().sum(-1).sqrt(),
            (rim + y.square()).sqrt(),
            (rim + y.square()).sqrt(),
            x * (self.half + 1),
        ]
        return torch.stack(options, -1).gather(-1, self.kind.clamp_min(0)[..., None]).squeeze(-1)


def trace(origin: Tensor, rays: Tensor, prims: Primitives) -> tuple[Tensor, Tensor]:
    """The nearest primitive along each ray.

    Args:
        origin: [F, 3], shared by a frame's rays and outside every primitive that it can see.
        rays: [F, 3, N] directions, of any length; zero for a ray that is not wanted.
        prims: What there is.

    Returns:
        Multiples of the ray at the hit [F, N] (inf: none) and the slots hit int64 [F, N] (-1: none).
    """
    frames, slots = prims.kind.shape
    count = rays.shape[2]
    pair, pixel = _candidates(origin, rays, prims)
    first = (torch.arange(frames, device=pair.device) * count).repeat_interleave(slots)
    ray = pixel + first.index_select(0, pair)
    inverse = prims.inverse()
    start = (inverse @ (origin[:, None] - prims.centre)[..., None]).reshape(-1, 3).T.contiguous()
    table = inverse.reshape(-1, 9).T.contiguous()
    flat = rays.transpose(0, 1).reshape(3, -1)
    kinds, half = prims.kind.reshape(-1), prims.half.reshape(-1)
    kind = kinds.index_select(0, pair)
    distance, rays_hit, slots_hit = [], [], []
    for shape, intersect in enumerate((_ball, _box, _cylinder, _cone, _capsule)):
        chosen = (kind == shape).nonzero().squeeze(1)
        p, r = pair.index_select(0, chosen), ray.index_select(0, chosen)
        d = flat.index_select(1, r)
        m = table.index_select(1, p)
        local = [_dot(m[3 * i : 3 * i + 3], d) for i in range(3)]
        t = intersect(start.index_select(1, p).unbind(0), local, half.index_select(0, p))
        hit = ((t > 1e-4) & (t < 1e6)).nonzero().squeeze(1)
        distance.append(t.index_select(0, hit))
        rays_hit.append(r.index_select(0, hit))
        slots_hit.append(p.index_select(0, hit) % slots)
    return _nearest(torch.cat(distance), torch.cat(rays_hit), torch.cat(slots_hit), frames, count)


def _candidates(origin: Tensor, rays: Tensor, prims: Primitives) -> tuple[Tensor, Tensor]:
    """(Frame and slot) and pixel of each pair whose ray enters the bounding sphere."""
    unit = rays / rays.square().sum(1, keepdim=True).sqrt().clamp_min(1e-20)
    offset = prims.centre - origin[:, None]
    tangent = offset.square().sum(-1) - (prims.radius() * 1.002 + 1e-3).square()
    limit = torch.where(tangent > 0, tangent.clamp_min(0).sqrt() * 0.9999, torch.full_like(tangent, -1e9))
    limit = torch.where(prims.kind >= 0, limit, torch.full_like(limit, 1e9))
    mask = torch.bmm(offset, unit) > limit[..., None]
    pair, pixel = mask.reshape(-1, rays.shape[2]).nonzero().unbind(1)
    return pair, pixel


def _nearest(t: Tensor, ray: Tensor, slot: Tensor, frames: int, count: int) -> tuple[Tensor, Tensor]:
    """Reduce hits to the nearest of each ray; on a tie the higher slot, so that the answer never depends on order."""
    best = torch.full((frames * count,), torch.inf, device=t.device).scatter_reduce_(0, ray, t, "amin")
    win = (t == best.index_select(0, ray)).nonzero().squeeze(1)
    index = torch.full((frames * count,), -1, device=t.device)
    index.scatter_reduce_(0, ray.index_select(0, win), slot.index_select(0, win), "amax")
    return best.view(frames, count), index.view(frames, count)


def _dot(a: Sequence[Tensor] | Tensor, b: Sequence[Tensor] | Tensor) -> Tensor:
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-9, torch.full_like(x, 1e-9), x)


def _round(o: Sequence[Tensor], d: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Entry and exit of a unit ball (three coordinates) or an infinite cylinder (two); NaN on a miss."""
    a = _dot(d, d).clamp_min(1e-12)
    nearest = -_dot(o, d) / a
    foot = [x + nearest * y for x, y in zip(o, d, strict=True)]
    reach = ((1 - _dot(foot, foot)) / a).sqrt()
    return nearest - reach, nearest + reach


def _ball(o: Sequence[Tensor], d: Sequence[Tensor], half: Tensor) -> Tensor:
    return _round(o, d)[0]


def _slab(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    inverse = 1 / _nonzero(d)
    a, b = (-1 - o) * inverse, (1 - o) * inverse
    return torch.minimum(a, b), torch.maximum(a, b)


def _box(o: Sequence[Tensor], d: Sequence[Tensor], half: Tensor) -> Tensor:
    (x0, x1), (y0, y1), (z0, z1) = (_slab(a, b) for a, b in zip(o, d, strict=True))
    enter, leave = x0.maximum(y0).maximum(z0), x1.minimum(y1).minimum(z1)
    return torch.where(enter < leave, enter, torch.inf)


def _cylinder(o: Sequence[Tensor], d: Sequence[Tensor], half: Tensor) -> Tensor:
    side, cap = _round([o[0], o[2]], [d[0], d[2]]), _slab(o[1], d[1])
    enter, leave = side[0].maximum(cap[0]), side[1].minimum(cap[1])
    return torch.where(enter < leave, enter, torch.inf)


def _cone(o: Sequence[Tensor], d: Sequence[Tensor], half: Tensor) -> Tensor:
    ox, oy, oz = o
    dx, dy, dz = d
    rise, fall = (1 - oy) / 2, -dy / 2
    a = _nonzero(dx * dx + dz * dz - fall * fall)
    b = ox * dx + oz * dz - rise * fall
    c = ox * ox + oz * oz - rise * rise
    root = (b * b - a * c).sqrt()
    base = (-1 - oy) / _nonzero(dy)
    best = torch.where((ox + base * dx).square() + (oz + base * dz).square() < 1, base, torch.inf)
    for t in ((-b - root) / a, (-b + root) / a):
        best = torch.where(((oy + t * dy).abs() <= 1) & (t > 0) & (t < best), t, best)
    return best


def _capsule(o: Sequence[Tensor], d: Sequence[Tensor], half: Tensor) -> Tensor:
    side = _round([o[0], o[2]], [d[0], d[2]])[0]
    y = o[1] + side * d[1]
    end = _round([o[0], o[1] - half * torch.where(y > 0, 1.0, -1.0), o[2]], d)[0]
    return torch.where(y.abs() <= half, side, end)


def surface_normals(points: Tensor, row: Tensor, prims: Primitives) -> Tensor:
    """World unit normals [3, Q] at world points [3, Q] on the primitives numbered `row` = frame * P + slot [Q]."""
    inverse = prims.inverse().reshape(-1, 9).T.index_select(1, row)
    offset = points - prims.centre.reshape(-1, 3).T.index_select(1, row)
    x, y, z = (_dot(inverse[3 * i : 3 * i + 3], offset) for i in range(3))
    kind, half = prims.kind.reshape(-1)[row], prims.half.reshape(-1)[row]
    zero, r = torch.zeros_like(x), (x * x + z * z).sqrt()
    capped = ((kind == CYLINDER) & (y.abs() > r)) | ((kind == CONE) & (y < -0.9995))
    largest = torch.stack([x, y, z]).abs().argmax(0)
    boxed = kind == BOX
    nx = torch.where(boxed, torch.where(largest == 0, x, zero), torch.where(capped, zero, x))
    nz = torch.where(boxed, torch.where(largest == 2, z, zero), torch.where(capped, zero, z))
    ny = torch.where(kind == CYLINDER, torch.where(capped, y, zero), y)
    ny = torch.where(kind == CONE, torch.where(capped, -torch.ones_like(y), r / 2), ny)
    ny = torch.where(kind == CAPSULE, y - y.clamp(-half, half), ny)
    ny = torch.where(boxed, torch.where(largest == 1, y, zero), ny)
    local = (nx, ny, nz)
    normal = torch.stack([_dot(inverse[j::3], local) for j in range(3)])
    return normal / normal.square().sum(0).sqrt().clamp_min(1e-12)


def trace_room(origin: Tensor, rays: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The room's inside: low and high corners [F, 3], infinite where open -> multiples of the ray [F, N] and faces.

    Face 2 * axis is the low side, 2 * axis + 1 the high side.
    """
    step = torch.where(rays.abs() < 1e-9, torch.full_like(rays, 1e-9), rays)
    up = step > 0
    bound = torch.where(up, (high - origin)[..., None], (low - origin)[..., None])
    t, axis = (bound / step).min(1)
    return t, axis * 2 + up.gather(1, axis[:, None]).squeeze(1)
