"""Fixed-grid ODE solvers for dx/dt = v(x, t), from t = 0 (noise) to t = 1 (data)."""

import itertools
from collections.abc import Callable

from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Field, Tensor, Tensor, Tensor], Tensor]


def euler_step(field: Field, x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
    """First order: one evaluation a step."""
    return x + dt * field(x, t)


def midpoint_step(field: Field, x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
    """Second order: the velocity half a step ahead; two evaluations a step."""
    return x + dt * field(x + 0.5 * dt * field(x, t), t + 0.5 * dt)


def heun_step(field: Field, x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
    """Second order: the mean of the velocities at both ends; two evaluations a step."""
    first = field(x, t)
    return x + 0.5 * dt * (first + field(x + dt * first, t + dt))


SOLVERS: dict[str, Step] = {"euler": euler_step, "heun": heun_step, "midpoint": midpoint_step}
EVALUATIONS = {"euler": 1, "heun": 2, "midpoint": 2}
"""Evaluations of the field a step."""


def nfe(method: str, steps: int) -> int:
    """Evaluations of the field in `steps` steps of a key of `SOLVERS`; guidance asks the network twice in each."""
    return EVALUATIONS[method] * steps


def solve(field: Field, x: Tensor, grid: Tensor, method: str = "euler") -> Tensor:
    """Integrate from grid[0] to grid[-1].

    Args:
        field: v(x, t) with t a scalar tensor.
        x: State at grid[0].
        grid: Increasing times [steps + 1].
        method: A key of `SOLVERS`.
    """
    step = SOLVERS[method]
    grid = grid.to(x.device, x.dtype)
    for t, t_next in itertools.pairwise(grid):
        x = step(field, x, t, t_next - t)
    return x
