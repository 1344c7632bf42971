"""Times: how they are drawn in training and stepped through in sampling."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lavindit.errors import LavinditError

Grid = Literal["uniform", "official"]
TABULATED_POINTS = (20, 30, 40)


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
    """The released time grid of n points (n - 1 steps): evenly to 0.05, then with growing steps.

    The release tabulates n = 20, 30 and 40 to 4 decimals, and these are rounded like it; other n follow the formula.
    """
    if points < 2:
        raise ValueError(f"a grid has at least 2 points, got {points}")
    half = points // 2
    start = torch.linspace(0, 0.05, half)
    rest = 0.05 + 0.95 * torch.linspace(1 / points, 1, points - half) ** 2
    rest[-1] = 1.0  # of two points the formula leaves the second short of the data
    grid = torch.cat([start, rest])
    return torch.round(grid, decimals=4) if points in TABULATED_POINTS else grid


def time_grid(kind: Grid, steps: int, shift: float = 1.0) -> Tensor:
    """`steps + 1` times from 0 to 1 of a uniform or of the released grid, shifted."""
    return uniform_grid(steps, shift) if kind == "uniform" else shift_times(official_grid(steps + 1), shift)


def check_times(times: Sequence[float]) -> None:
    """Refuse times that are no grid.

    Raises:
        LavinditError: They do not rise from 0 to 1.
    """
    numbers = len(times) > 1 and all(isinstance(t, int | float) for t in times)
    if not numbers or (times[0], times[-1]) != (0, 1) or not all(a < b for a, b in itertools.pairwise(times)):
        raise LavinditError(f"times must rise from 0 to 1, got {', '.join(map(str, times)) or 'none'}")
