"""Colour: procedural textures, lamps, shadows and sky.

Shape legend: F frames, P primitive slots, R = P + 7 surface rows (primitives, six room faces, the sky), N rays.

Textures are functions of the position in the surface's own frame, in metres, so that they stick to what moves. Their
contrast fades as a pixel grows to cover a whole period, which is their only anti-aliasing.
"""

import torch
from torch import Tensor

from lavindit.data.world.geometry import rotation
from lavindit.data.world.parameters import Light, Textures
from lavindit.data.world.shapes import Primitives, trace

PLAIN, CHECKER, STRIPES, DOTS, PLAID, WAVES, GRADIENT, CLOUDS, TWO_SIDED = range(9)

_CHANNELS = 22


def texture_table(textures: Textures, prims: Primitives) -> Tensor:
    """Everything that shading looks up, one column for each surface row of each frame [22, F * R].

    Rows 0-8 turn the world into texture periods, 9-11 shift it, 12-14 and 15-17 are the two colours, then style,
    gloss, frequency and whether the row is the sky.
    """
    frames, slots = prims.kind.shape
    surfaces = textures.style.shape[1]
    own = torch.eye(3, device=prims.centre.device).expand(frames, surfaces, 3, 3).clone()
    own[:, :slots] = prims.rotation.transpose(-1, -2)
    centre = torch.zeros(frames, surfaces, 3, device=prims.centre.device)
    centre[:, :slots] = prims.centre
    matrix = textures.frequency[..., None, None] * (rotation(1, textures.tilt) @ rotation(2, textures.tilt) @ own)
    shift = textures.phase - (matrix @ centre[..., None]).squeeze(-1)
    sky = torch.zeros_like(textures.gloss)
    sky[:, -1] = 1
    single = torch.stack([textures.style.float(), textures.gloss, textures.frequency, sky], -1)
    return torch.cat([matrix.flatten(2), shift, textures.first, textures.second, single], -1).reshape(-1, _CHANNELS).T


def pattern(q: Tensor, style: Tensor, sharp: Tensor) -> Tensor:
    """How much of the second colour a point has, in [0, 1].

    Args:
        q: Position in periods [3, ...].
        style: int64 [...], one of the constants of this module.
        sharp: Slope of edges [...]: small where a pixel covers many periods.
    """
    cx, cy, cz = (q * (2 * torch.pi)).cos().unbind(0)
    warp = (q[0] * 2.1 + 1.7 * cy).sin() + (q[2] * 2.9 - 1.3 * cx).cos() + (q[1] * 2.3 + 1.1 * cz).sin()
    value = torch.zeros_like(cx)
    options = {
        CHECKER: cx * cy * cz * 3,
        STRIPES: cx,
        DOTS: cx + cy + cz - 0.4,
        PLAID: (cx.clamp(-0.3, 0.3) + cz.clamp(-0.3, 0.3)) * 0.8,
        WAVES: (warp * 2.2).sin(),
        TWO_SIDED: q[2] * 20,
    }
    for key, option in options.items():
        value = torch.where(style == key, option, value)
    soft = {GRADIENT: 0.5 + 0.5 * (q[1] * 1.5 + 0.3 * q[0]).sin(), CLOUDS: 0.5 + warp / 6}
    edge = (0.5 + value * sharp).clamp(0, 1)
    for key, option in soft.items():
        edge = torch.where(style == key, option, edge)
    return torch.where(style == PLAIN, torch.zeros_like(edge), edge)


def shade(
    points: Tensor,
    normals: Tensor,
    index: Tensor,
    footprint: Tensor,
    rays: Tensor,
    table: Tensor,
    light: Light,
    lit: Tensor,
) -> Tensor:
    """Colours in [0, 1].

    Args:
        points: World points [F, 3, N]; directions where the sky is seen.
        normals: World normals [F, 3, N].
        index: Column of `table` of each pixel [F, N].
        footprint: Width of a pixel on the surface in metres [F, N].
        rays: [F, 3, N].
        table: From `texture_table`.
        light: Lamps.
        lit: How much of the lamp each point sees [F, N].

    Returns:
        [F, 3, N].
    """
    frames, _, count = points.shape
    look = table.index_select(1, index.reshape(-1)).view(-1, frames, count)
    x, y, z = points.unbind(1)
    q = torch.stack([look[3 * i] * x + look[3 * i + 1] * y + look[3 * i + 2] * z + look[9 + i] for i in range(3)])
    style, gloss, frequency, sky = look[18:22]
    sharp = (0.22 / (footprint * frequency).clamp_min(1e-6)).clamp_max(4)
    sharp = torch.where(sky > 0, 4.0, sharp)
    mix = pattern(q, style, sharp)
    albedo = look[12:15] + (look[15:18] - look[12:15]) * mix
    lamp = light.position[..., None] - points
    distance2 = lamp.square().sum(1)
    lamp = lamp * distance2.rsqrt()[:, None]
    facing = (lamp * normals).sum(1)
    strength = facing.clamp_min(0) * lit / (1 + distance2 / light.reach.square()[:, None])
    fill = (normals * light.fill_from[..., None]).sum(1).clamp_min(0)
    hemisphere = 0.8 + 0.2 * normals[:, 1]
    back = -rays / rays.square().sum(1, keepdim=True).sqrt()
    halfway = lamp + back
    shine = (halfway * normals).sum(1) / halfway.square().sum(1).sqrt().clamp_min(1e-6)
    shine = gloss * shine.clamp_min(0).square().square().square().square().square() * lit
    shine = torch.where(facing > 0, shine, 0.0)
    total = (
        light.key[..., None] * strength[:, None]
        + light.fill[..., None] * fill[:, None]
        + light.ambient[..., None] * hemisphere[:, None]
    )
    total = torch.where(sky[:, None] > 0, 1.0, total)
    colour = albedo.transpose(0, 1) * total + (shine * (1 - sky))[:, None]
    return colour.clamp(0, 1).sqrt()


def visible_from_lamp(points: Tensor, normals: Tensor, wanted: Tensor, prims: Primitives, light: Light) -> Tensor:
    """1 where the lamp sees a point, else 0 [F, N]; points that face away or are not wanted are not traced."""
    rays = points - light.position[..., None]
    facing = (rays * normals).sum(1) < 0
    rays = torch.where((wanted & facing)[:, None], rays, 0.0)
    t, _ = trace(light.position, rays, prims)
    slack = 0.02 / rays.square().sum(1).sqrt().clamp_min(0.1)
    return (t > 1 - slack).float()
