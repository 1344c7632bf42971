"""Times: how they are drawn in training and stepped through in sampling."""

import torch
from torch import Tensor


def logit_normal_times(
    shape: tuple[int, ...],
    mean: float = 0.0,
    std: float = 1.0,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw t = sigmoid(mean + std * n), n ~ N(0, 1) (Esser et al. 2024, sec. 3.1): most of them in the middle."""
    return torch.sigmoid(mean + std * torch.randn(shape, device=device, generator=generator))


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Time shift t / (t + s (1 - t)): s > 1 moves times towards the noise; s = 1 changes nothing."""
    return t / (t + shift * (1 - t))


def uniform_grid(steps: int, shift: float = 1.0) -> Tensor:
    """`steps + 1` times from 0 to 1, evenly spaced before the shift."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return shift_times(torch.linspace(0, 1, steps + 1), shift)


def official_grid(points: int) -> Tensor:
    """The released time grid of n points (n - 1 steps); the release tabulates n = 20, 30, 40 to 4 decimals."""
    half = points // 2
    start = torch.linspace(0, 0.05, half)
    rest = 0.05 + 0.95 * torch.linspace(1 / points, 1, points - half) ** 2
    return torch.round(torch.cat([start, rest]), decimals=4)
