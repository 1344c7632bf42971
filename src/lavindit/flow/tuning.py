"""Time grids that are tuned to a field, so that a solver with few steps stays near the exact solution."""

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from lavindit.flow.solvers import SOLVERS, Field, solve

REFERENCE_STEPS = 2  # of Heun's method between two candidate times
FIRST_STRIDE = 4  # candidates that a time may jump over at once


@dataclass(frozen=True, eq=False)
class Path:
    """A solver's way through candidate times.

    Attributes:
        state: Where it is [B, ...].
        places: Numbers of the times that it went by.
        error: Distance from the exact state there.
    """

    state: Tensor
    places: tuple[int, ...]
    error: float


@torch.no_grad()
def tune_grids(
    field: Field, x: Tensor, steps: Collection[int], method: str = "euler", candidates: int = 32
) -> dict[int, Tensor]:
    """Time grids of some numbers of steps that keep a solver near the exact solution.

    Times are chosen from evenly spaced candidates. A reference trajectory of small Heun steps goes through all of
    them. First, dynamic programming: for each number of steps and each candidate that they may end at, the path is kept
    whose state has the least error there, among those that extend a kept path of one step less. So an error is that of
    the solver on its way, and what later steps repair of an early one does not count. This is exact wherever the
    smaller of two errors at a time stays the smaller one, which a network does not promise. So then the path, or the
    even grid where that is better, is mended: single times move while that lowers the error at t = 1.

    Source: dynamic programming over candidate times is from Watson et al., "Learning to Efficiently Sample from
    Diffusion Probabilistic Models", 2021; with the error carried along, as here, it is in Pei et al., "Optimal Stepsize
    for Diffusion Sampling", 2025.

    Args:
        field: v(x, t) with t a scalar tensor.
        x: States at t = 0 [B, ...]; all samples get the same grid, for the mean of their errors.
        steps: Numbers of steps that a grid is wanted for, none above `candidates`. The programme takes about
            max(steps) x candidates evaluations for Euler and half the candidates times as many for the others; mending
            takes some hundreds more.
        method: A key of `SOLVERS`.
        candidates: Steps of the finest grid.

    Returns:
        Grid [n + 1] by its number n of steps.
    """
    last = max(steps)
    if min(steps) < 1 or last > candidates:
        raise ValueError(f"steps must lie between 1 and {candidates} candidates, got {sorted(steps)}")
    times = torch.linspace(0, 1, candidates + 1, device=x.device, dtype=x.dtype)
    exact = [x]
    for t, t_next in itertools.pairwise(times):
        exact.append(solve(field, exact[-1], torch.linspace(float(t), float(t_next), REFERENCE_STEPS + 1), "heun"))

    @cache
    def error_at_end(places: tuple[int, ...]) -> float:
        return _distance(solve(field, x, times[list(places)], method), exact[-1])

    grids: dict[int, Tensor] = {}
    kept = {0: Path(x, (0,), 0.0)}
    for number in range(1, last + 1):
        ends = range(candidates, candidates + 1) if number == last else range(1, candidates + 1)
        kept = _extend(field, kept, ends, times, exact, method)
        if number in steps:
            even = tuple(round(i * candidates / number) for i in range(number + 1))
            start = min((even, kept[candidates].places), key=error_at_end)
            grids[number] = times[list(_mend(start, error_at_end))].cpu()
    return grids


def _distance(found: Tensor, exact: Tensor) -> float:
    """Mean over samples of the root mean square difference."""
    return float((found - exact).flatten(1).square().mean(1).sqrt().mean())


def _extend(
    field: Field, kept: dict[int, Path], ends: range, times: Tensor, exact: list[Tensor], method: str
) -> dict[int, Path]:
    """The best path of one step more to each of the ends that can be reached."""
    best: dict[int, Path] = {}
    for place, path in kept.items():
        later = range(max(place + 1, ends.start), ends.stop)
        if not later:
            continue
        first = field(path.state, times[place])

        def known(x: Tensor, t: Tensor, path: Path = path, first: Tensor = first) -> Tensor:
            return first if x is path.state else field(x, t)  # every step starts with the velocity where it is

        for end in later:
            state = SOLVERS[method](known, path.state, times[place], times[end] - times[place])
            error = _distance(state, exact[end])
            if end not in best or error < best[end].error:
                best[end] = Path(state, (*path.places, end), error)
    return best


def _mend(places: tuple[int, ...], error_of: Callable[[tuple[int, ...]], float]) -> tuple[int, ...]:
    """Move single times, first far and then near, until no move lowers the error."""
    stride = FIRST_STRIDE
    while stride:
        better = next((moved for moved in _moves(places, stride) if error_of(moved) < error_of(places)), None)
        places, stride = (places, stride // 2) if better is None else (better, stride)
    return places


def _moves(places: tuple[int, ...], stride: int) -> Iterator[tuple[int, ...]]:
    """All grids with one time between the ends moved by `stride`, without passing its neighbours."""
    for number in range(1, len(places) - 1):
        for place in (places[number] - stride, places[number] + stride):
            if places[number - 1] < place < places[number + 1]:
                yield (*places[:number], place, *places[number + 1 :])
