import itertools
import math

import pytest
import torch

from lavindit.errors import LavinditError
from lavindit.flow import (
    check_times,
    guide,
    interpolate,
    logit_normal_times,
    nfe,
    official_grid,
    seed_from,
    seeded_noise,
    shift_times,
    solve,
    time_grid,
    tune_grids,
    uniform_grid,
    velocity,
)


def test_path_starts_at_noise_ends_at_data_and_moves_at_the_velocity():
    noise, data = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    t, dt = torch.tensor(0.3, dtype=torch.float64), 1e-4
    assert torch.equal(interpolate(noise, data, torch.tensor(0.0)), noise)
    assert torch.equal(interpolate(noise, data, torch.tensor(1.0)), data)
    slope = (interpolate(noise, data, t + dt) - interpolate(noise, data, t - dt)) / (2 * dt)
    torch.testing.assert_close(slope, velocity(noise, data))


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("method", ["euler", "heun", "midpoint"])
def test_every_solver_is_exact_on_a_straight_path(method, steps):
    noise, data = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    answer = solve(lambda x, t: velocity(noise, data), noise, uniform_grid(steps), method)
    torch.testing.assert_close(answer, data, atol=1e-6, rtol=0)


def test_euler_follows_a_linear_field_in_closed_form():
    # dx/dt = a x: n Euler steps multiply by (1 + a/n) each.
    x = torch.randn(6, dtype=torch.float64)
    answer = solve(lambda x, t: -0.7 * x, x, uniform_grid(8), "euler")
    torch.testing.assert_close(answer, x * (1 - 0.7 / 8) ** 8, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_error_falls_with_the_order_of_the_solver(method, order):
    exact = math.exp(-1.0)
    one = torch.ones(1, dtype=torch.float64)
    errors = [abs(float(solve(lambda x, t: -x, one, uniform_grid(n), method)) - exact) for n in (16, 32)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_guidance_extrapolates_from_the_null_branch_and_skips_it_at_one():
    with_pairs, without = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(guide(with_pairs, lambda: without, 1.5), without + 1.5 * (with_pairs - without))

    def never():
        raise AssertionError("the null branch ran at scale 1")

    assert guide(with_pairs, never, 1.0) is with_pairs


def test_time_grids_run_from_zero_to_one_and_rise():
    for grid in (uniform_grid(7), uniform_grid(7, shift=3.0), official_grid(20), official_grid(30)):
        assert grid[-1] == 1
        assert grid[0] == 0
        assert (grid.diff() > 0).all()
    assert len(official_grid(20)) == 20


TABULATED = {
    20: "0 56 111 167 222 278 333 389 444 500 524 730 1148 1777 2618 3671 4936 6412 8100 10000",
    30: "0 36 71 107 143 179 214 250 286 321 357 393 429 464 500 511 600 779 1049 1410 1862 2403 3036 3759 4573 5477 "
    "6472 7557 8733 10000",
    40: "0 26 53 79 105 132 158 184 211 237 263 289 316 342 368 395 421 447 474 500 506 555 655 804 1004 1253 1553 "
    "1902 2302 2752 3251 3801 4401 5051 5750 6500 7300 8150 9050 10000",
}


@pytest.mark.parametrize("points", TABULATED)
def test_the_official_grid_is_the_released_table(points):
    table = torch.tensor([int(value) for value in TABULATED[points].split()]).double().div(10_000).float()
    assert torch.equal(official_grid(points), table)
    assert torch.equal(time_grid("official", points - 1), table)


def test_official_grids_of_any_length():
    for points in [*range(2, 25), 31, 150, 600]:
        grid = official_grid(points)
        assert len(grid) == points
        assert (grid[0], grid[-1]) == (0, 1)
        assert (grid.diff() > 0).all()
    with pytest.raises(ValueError, match="at least 2 points"):
        official_grid(1)
    assert torch.equal(time_grid("official", 9, shift=3.0), shift_times(official_grid(10), 3.0))
    assert torch.equal(time_grid("uniform", 9, shift=3.0), uniform_grid(9, 3.0))


def test_shift_keeps_the_ends_and_moves_times_towards_noise():
    t = torch.linspace(0, 1, 11)
    torch.testing.assert_close(shift_times(t, 1.0), t)
    assert (shift_times(t, 3.0)[1:-1] < t[1:-1]).all()


def test_training_times_are_logit_normal():
    t = logit_normal_times((20000,), generator=torch.Generator().manual_seed(0))
    logits = torch.logit(t.double())
    assert abs(float(logits.mean())) < 0.03
    assert float(logits.std()) == pytest.approx(1.0, abs=0.02)


def test_noise_belongs_to_the_sample_not_to_its_batch():
    together = seeded_noise(["a", "b", "c"], (4, 2), seed=3)
    assert torch.equal(together[1], seeded_noise(["b"], (4, 2), seed=3)[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[0], seeded_noise(["a"], (4, 2), seed=4)[0])


def test_seeds_do_not_collide_by_concatenation():
    assert seed_from("a", "bc") != seed_from("ab", "c")
    assert seed_from(1, 2) == seed_from("1", "2")
    assert 0 <= seed_from("x") < 2**63


@pytest.mark.parametrize("method", ["euler", "heun", "midpoint"])
def test_nfe_counts_what_a_solver_asks_of_the_field(method):
    calls = []
    solve(lambda x, t: calls.append(t) or -x, torch.ones(1), uniform_grid(5), method)
    assert nfe(method, 5) == len(calls)


def test_times_that_are_no_grid_are_refused_in_one_line():
    check_times((0.0, 0.2, 1.0))
    inner = ((0.5, 0.5), (0.6, 0.5), ("a",), (math.nan,))
    for times in ((), (0.0,), (0.0, 0.5), (0.1, 1.0), *((0.0, *some, 1.0) for some in inner)):
        with pytest.raises(LavinditError, match=r"^times must rise from 0 to 1, got .+$"):
            check_times(times)


def early(x, t):
    """A field that changes most near the noise, as those of tasks with one right answer do."""
    return -8 * torch.exp(-6 * t) * x + torch.sin(9 * t)


def error_of(grid, x, method):
    return float((solve(early, x, grid, method) - solve(early, x, uniform_grid(400), "heun")).square().mean().sqrt())


@pytest.mark.parametrize("method", ["euler", "heun", "midpoint"])
def test_tuned_grids_come_nearer_to_the_exact_solution_than_even_ones(method):
    generator = torch.Generator().manual_seed(0)
    tuned_on, new = torch.randn(2, 16, 3, dtype=torch.float64, generator=generator)
    grids = tune_grids(early, tuned_on, [1, 2, 4], method, candidates=16)
    assert {steps: len(grid) for steps, grid in grids.items()} == {1: 2, 2: 3, 4: 5}
    for steps, grid in grids.items():
        check_times(grid.tolist())
        assert error_of(grid, new, method) <= error_of(uniform_grid(steps), new, method)
    assert error_of(grids[4], new, method) < 0.5 * error_of(uniform_grid(4), new, method)


@pytest.mark.parametrize("method", ["euler", "midpoint"])
def test_the_best_of_all_grids_is_found_where_there_are_few(method):
    x = torch.randn(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times, exact = torch.linspace(0, 1, 9, dtype=torch.float64), solve(early, x, uniform_grid(16), "heun")

    def error(grid):
        return float((solve(early, x, grid, method) - exact).abs().mean())

    every = [times[[0, *inner, 8]] for inner in itertools.combinations(range(1, 8), 2)]
    assert error(tune_grids(early, x, [3], method, candidates=8)[3]) == min(map(error, every))


def test_a_straight_path_has_grids_of_every_length():
    x = torch.zeros(2, 3, dtype=torch.float64)
    grids = tune_grids(lambda x, t: torch.ones_like(x), x, [1, 3, 6], candidates=6)
    for steps, grid in grids.items():
        torch.testing.assert_close(solve(lambda x, t: torch.ones_like(x), x, grid), torch.ones_like(x))
        assert len(grid) == steps + 1
    with pytest.raises(ValueError, match="between 1 and 6"):
        tune_grids(early, x, [2, 7], candidates=6)
