"""Rotary position embedding over three axes: frame, row, column (Su et al. 2021; LaVin-DiT, sec. 3.3).

Legend: N tokens, d head width, split into one even part an axis; within a part of width p, channel pair i turns
by position * base^(-2i/p).
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from lavindit.models.jdit.config import JDiTConfig
from lavindit.models.jdit.layout import Calls, Layout

FEW_TOKENS = 64  # a call: fewer do not pay for it (benchmarks/context_calls.py)


class SequenceTables(NamedTuple):
    """What attention needs to know of a sequence besides its tokens.

    Attributes:
        cos: Cosines of the rotation angles [N, d].
        sin: Sines [N, d].
        mask: Boolean [N, N], True where attention is allowed.
        calls: The same as calls without masks. Where both are None, everybody sees everybody.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None = None
    calls: Calls | None = None


def sequence_tables(
    config: JDiTConfig, layout: Layout, height: int, width: int, device: torch.device
) -> SequenceTables:
    """Tables of a sequence of height x width tokens a frame.

    The angles are kept from call to call. The mask is not: it is cheap to make, and large. Of frames of few tokens one
    masked call is faster than many without, which leave out what nobody sees.
    """
    cos, sin = _angles_of(config, layout.context + layout.target, height, width, device)
    tokens = height * width
    if attends_in_calls(layout, tokens):
        return SequenceTables(cos, sin, calls=layout.calls(tokens))
    return SequenceTables(cos, sin, mask=layout.token_mask(tokens, device))


def attends_in_calls(layout: Layout, tokens: int) -> bool:
    """Whether a sequence of `tokens` a frame attends call by call, and not in one call with a mask."""
    calls = layout.calls(tokens)
    if calls is None or not layout.target:
        return True
    return len(calls) * FEW_TOKENS <= len(layout.context + layout.target) * tokens


@lru_cache(maxsize=32)
def _angles_of(
    config: JDiTConfig, frames: tuple[int, ...], height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    # Ordinary tensors, even when they are first needed under inference mode, so that training may use them.
    with torch.inference_mode(False), torch.no_grad():
        return rotation_angles(token_positions(torch.tensor(frames, device=device), height, width), config)


def forget_angles() -> None:
    """Drop the angles that are kept."""
    _angles_of.cache_clear()


def token_positions(frames: Tensor, height: int, width: int) -> Tensor:
    """Positions (t, y, x) of all tokens [F * height * width, 3] for frames at the given times [F]."""
    y = torch.arange(height, device=frames.device)
    x = torch.arange(width, device=frames.device)
    return torch.stack(torch.meshgrid(frames, y, x, indexing="ij"), dim=-1).flatten(0, 2)


def rotation_angles(positions: Tensor, config: JDiTConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine [N, d] for positions (t, y, x) [N, 3], laid out as the config's rotation wants them."""
    if config.rope_axes == "txy":
        positions = positions[:, [0, 2, 1]]
    parts = []
    for axis, dim in enumerate(config.axis_dims):
        exponent = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float64) / dim
        angle = positions[:, axis, None].double() * config.rope_base**-exponent
        halves = config.rope_rotation == "half_split"
        parts.append(torch.cat([angle, angle], -1) if halves else angle.repeat_interleave(2, -1))
    angles = torch.cat(parts, -1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor, config: JDiTConfig) -> Tensor:
    """Turn queries or keys [B, heads, N, d] by the angles [N, d]."""
    turned = []
    for part in x.split(config.axis_dims, dim=-1):
        if config.rope_rotation == "half_split":
            first, second = part.chunk(2, dim=-1)
            turned += [-second, first]
        else:
            turned.append(torch.stack([-part[..., 1::2], part[..., ::2]], dim=-1).flatten(-2))
    return x * cos.to(x.dtype) + torch.cat(turned, dim=-1) * sin.to(x.dtype)
