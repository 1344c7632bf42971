"""Noise that belongs to a sample, not to the batch it happens to be computed in."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_from(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seeded_noise(sample_ids: Sequence[str], shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal noise [len(sample_ids), *shape], each row drawn from its own sample id and the seed.

    Drawn on the CPU, so that the answer does not depend on device, batch size, order or number of processes.
    """
    rows = [
        torch.randn(shape, generator=torch.Generator().manual_seed(seed_from("noise", seed, sample_id)))
        for sample_id in sample_ids
    ]
    return torch.stack(rows)
