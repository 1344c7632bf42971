"""Flow matching: the path, its times, solvers and guidance. No networks.

One time direction everywhere: t = 0 is noise, t = 1 is data.
"""

from lavindit.flow.guidance import guide
from lavindit.flow.noise import seed_from, seeded_noise
from lavindit.flow.path import interpolate, velocity
from lavindit.flow.solvers import SOLVERS, Field, nfe, solve
from lavindit.flow.times import (
    Grid,
    check_times,
    logit_normal_times,
    official_grid,
    shift_times,
    time_grid,
    uniform_grid,
)
from lavindit.flow.tuning import tune_grids

__all__ = [
    "SOLVERS",
    "Field",
    "Grid",
    "check_times",
    "guide",
    "interpolate",
    "logit_normal_times",
    "nfe",
    "official_grid",
    "seed_from",
    "seeded_noise",
    "shift_times",
    "solve",
    "time_grid",
    "tune_grids",
    "uniform_grid",
    "velocity",
]
