"""What a J-DiT keeps of clean frames that it has read: their keys and values in every block."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KVCache:
    """Keys and values of a stretch of clean frames.

    Legend: L blocks, B batch, g key-value heads, n tokens a frame, d head width.

    Attributes:
        keys: Rotated keys [L, B, g, F n, d]; B is 1 where a batch shares them.
        values: Values, likewise.
        frames: F.
    """

    keys: Tensor
    values: Tensor
    frames: int

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def block(self, number: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one block."""
        return self.keys[number], self.values[number]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "KVCache":
        """The same on a device, or in a type."""
        return KVCache(self.keys.to(device, dtype), self.values.to(device, dtype), self.frames)


def join_caches(caches: Sequence[KVCache]) -> KVCache:
    """One cache of stretches that follow one another."""
    keys, values = (torch.cat([getattr(cache, name) for cache in caches], dim=3) for name in ("keys", "values"))
    return KVCache(keys, values, sum(cache.frames for cache in caches))
