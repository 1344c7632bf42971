"""A J-DiT block: two streams with weights of their own, one attention over both.

Legend: B batch, F frames, n tokens a frame, N = F n, D width, d head width. Tokens are [B, F, n, D], so that a
time embedding per frame [B, F, D] (or one for all, [B, 1, D]) modulates by broadcasting.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lavindit.models.jdit.attention import KeysValues, attend, join_tokens
from lavindit.models.jdit.config import JDiTConfig
from lavindit.models.jdit.rope import SequenceTables, rotate

EPS = 1e-6


def rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """RMSNorm over the last dimension, in the type of its input.

    Autocast would have it in float32 on some devices; the kernels sum in float32 anyway.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.rms_norm(x, x.shape[-1:], None if weight is None else weight.to(x.dtype), EPS)


class RMSNorm(nn.Module):
    """Affine RMSNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return rms_norm(x, self.weight)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020), gate and up in one matrix."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Stream(nn.Module):
    """One stream's half of a block: AdaRN modulation, projections and MLP.

    Args:
        config: The model's config.
        drop: Probability of dropping a sublayer's update in training.
        readable: Whether later blocks read this stream; if not, it only offers keys and values, and its
            output projection and MLP do not exist, or are kept without being trained or run.
    """

    def __init__(self, config: JDiTConfig, drop: float, readable: bool = True) -> None:
        super().__init__()
        self.config, self.drop, self.readable = config, drop, readable
        self.modulation = nn.Linear(config.width, 4 * config.width)
        self.qkv = nn.Linear(config.width, config.width + 2 * config.kv_width, bias=False)
        self.q_norm = RMSNorm(config.width)
        self.k_norm = RMSNorm(config.kv_width)
        if readable or config.full_last_block:
            self.out = nn.Linear(config.width, config.width, bias=False)
            self.mlp = SwiGLU(config.width, config.mlp_width)
        if not readable:
            # What never gets a gradient must not be waited for by distributed training.
            for name in ("q_norm", "out", "mlp"):
                if hasattr(self, name):
                    getattr(self, name).requires_grad_(False)

    def modulate(self, time: Tensor) -> tuple[Tensor, ...]:
        """Time embedding [B, F or 1, D] -> attention scale and gate, MLP scale and gate, [B, F or 1, 1, D] each."""
        scale_a, gate_a, scale_m, gate_m = self.modulation(F.silu(time)).unsqueeze(2).chunk(4, dim=-1)
        return 1 + scale_a, gate_a.tanh(), 1 + scale_m, gate_m.tanh()

    def project(self, x: Tensor, scale: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Tokens [B, F, n, D] -> queries [B, heads, N, d], keys and values [B, kv heads, N, d].

        A stream that nobody reads asks no queries: None.
        """
        config = self.config
        x = rearrange(rms_norm(x) * scale, "b f n d -> b (f n) d")
        if not self.readable:
            k, v = F.linear(x, self.qkv.weight[config.width :]).chunk(2, dim=-1)
            return None, self._heads(self.k_norm(k)), self._heads(v)
        q, k, v = self.qkv(x).split([config.width, config.kv_width, config.kv_width], dim=-1)
        return self._heads(self.q_norm(q)), self._heads(self.k_norm(k)), self._heads(v)

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (h d) -> b h n d", d=self.config.head_dim)

    def update(self, x: Tensor, attended: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """Residual updates by attention output [B, heads, N, d] and MLP; returns tokens [B, F, n, D]."""
        _, gate_a, scale_m, gate_m = modulation
        merged = rearrange(attended, "b h (f n) d -> b f n (h d)", f=x.shape[1])
        x = x + self._dropped(gate_a * self._post_norm(self.out(merged)))
        return x + self._dropped(gate_m * self._post_norm(self.mlp(rms_norm(x) * scale_m)))

    def _post_norm(self, x: Tensor) -> Tensor:
        return rms_norm(x) if self.config.sandwich else x

    def _dropped(self, update: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return update
        keep = torch.rand(update.shape[0], 1, 1, 1, device=update.device) >= self.drop
        return update * keep / (1 - self.drop)


class JointBlock(nn.Module):
    """Full-sequence joint attention over the context and the target stream."""

    def __init__(self, config: JDiTConfig, drop: float, last: bool) -> None:
        super().__init__()
        self.config = config
        self.context = Stream(config, drop, readable=not last)
        self.target = Stream(config, drop)

    def forward(
        self,
        context: Tensor | None,
        target: Tensor | None,
        context_time: Tensor | None,
        target_time: Tensor | None,
        tables: SequenceTables,
        past: Sequence[KeysValues] = (),
    ) -> tuple[Tensor | None, Tensor | None, KeysValues]:
        """Update both streams, or the one that is there.

        Args:
            context: Clean tokens [B, Fc, n, D], or None.
            target: Noisy tokens [B, Ft, n, D], or None.
            context_time: Time embedding [B, 1, D].
            target_time: Time embedding [B, 1 or Ft, D].
            tables: Rotation and visibility of the Nc + Nt tokens.
            past: Keys and values of this block of frames that were read before and that all of these see.

        Returns:
            Context, or None from the last block, since nobody reads it; target; keys and values of all tokens here.
        """
        given = ((self.context, context, context_time), (self.target, target, target_time))
        streams = [(s, x, s.modulate(time)) for s, x, time in given if x is not None and time is not None]
        projected = [s.project(x, modulation[0]) for s, x, modulation in streams]
        cos, sin = tables.cos, tables.sin
        k, v = join_tokens([k for _, k, _ in projected]), join_tokens([v for _, _, v in projected])
        k = rotate(k, cos, sin, self.config)
        own, asking = (k, v.to(k.dtype)), [q for q, _, _ in projected if q is not None]
        if not asking:
            return None, None, own
        q = join_tokens(asking)
        first = k.shape[2] - q.shape[2]
        attended = attend(rotate(q, cos[first:], sin[first:], self.config), own, tables, self.config, past)
        readers = [stream for stream in streams if stream[0].readable]
        parts = attended.split([part.shape[2] for part in asking], dim=2)
        updated = {s: s.update(x, part, modulation) for (s, x, modulation), part in zip(readers, parts, strict=True)}
        return updated.get(self.context), updated.get(self.target), own
