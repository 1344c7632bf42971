"""The recorded difficulty of the embedded world is that of this world, and within its bounds."""

import importlib.util
import json
import operator
from pathlib import Path

import torch

import lavindit  # noqa: F401
from lavindit.data import world
from lavindit.data.world import WORLD_VERSION

ROOT = Path(__file__).parents[2]


def difficulty_script():
    spec = importlib.util.spec_from_file_location("world_difficulty", ROOT / "benchmarks" / "world_difficulty.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def holds(figure: float, rule: tuple[str, float]) -> bool:
    return {">=": operator.ge, "<": operator.lt, "<=": operator.le}[rule[0]](figure, rule[1])


def test_recorded_difficulty_is_of_this_world() -> None:
    record = json.loads(Path(world.__file__).with_name("difficulty.json").read_text())
    assert record["world_version"] == WORLD_VERSION
    assert record["n"] >= 256
    thresholds = difficulty_script().THRESHOLDS
    assert record["figures"].keys() == thresholds.keys()
    for name, rule in thresholds.items():
        assert holds(record["figures"][name], rule), name


def test_motion_is_long_enough_to_be_worth_seeing() -> None:
    """The recorded figure, again on fewer clips; at twice the resolution motions are twice as long."""
    script = difficulty_script()
    length, occluded = script.lengths_of_motion(64, seed=0, clips=16)
    assert length.mean() >= 4
    assert length.median() > 2
    assert 0.02 < occluded.float().mean() < 0.25
    twice = script.lengths_of_motion(32, seed=0, clips=16)[0].mean() * 2
    torch.testing.assert_close(twice, length.mean(), rtol=0.02, atol=0)


def test_the_mean_of_the_context_is_still_a_bad_answer() -> None:
    script = difficulty_script()
    script.TRAIN_SCENES = 64
    figures = script.mean_of_context(scenes=48, resolution=32, seed=0)
    for name, figure in figures.items():
        assert holds(figure, script.THRESHOLDS[name]), name
