"""The benchmark of steps: which settings there are, which default is chosen, and that the engine follows it."""

import importlib
import json
import math
from pathlib import Path

import pytest

from lavindit.data import SourceConfig
from lavindit.errors import LavinditError
from lavindit.inference import SamplingConfig, load
from lavindit.models import load_engine_model, save_model
from lavindit.models.store import ModelBundle
from lavindit.report.figure import Figure
from lavindit.task import get_task

ROOT = Path(__file__).parents[2]
SMALL = SourceConfig(resolution=32, scenes=4, test_scenes=2)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("steps")


@pytest.fixture
def model(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A model directory of one's own."""
    vae, jdit, info = load_engine_model(tiny_model_dir)
    save_model(ModelBundle(vae, jdit, info | {"sampling": {"steps": 2, "guidance": 1.5}}), tmp_path / "model")
    return tmp_path / "model"


def figure(answer: float, stderr: float = 0.1, direction: str = "min") -> Figure:
    return Figure("error", "1", direction, True, answer, stderr)  # pyright: ignore[reportArgumentType]


def test_settings_take_the_evaluations_that_are_asked_for(steps) -> None:
    found = steps.even_settings([1, 2, 3, 8])
    assert {(s.solver, s.nfe) for s in found} == {("euler", n) for n in (1, 2, 3, 8)} | {
        (solver, n) for solver in ("heun", "midpoint") for n in (2, 8)
    }
    assert all(s.nfe == s.steps * (1 if s.solver == "euler" else 2) for s in found)


def test_the_default_is_the_cheapest_within_one_standard_error_of_the_best(steps) -> None:
    settings = {s.name: s for s in steps.even_settings([1, 2, 4])}
    errors = {
        "euler_uniform_1": figure(1.0),
        "euler_uniform_2": figure(0.59),
        "heun_uniform_2": figure(0.55),
        "midpoint_uniform_2": figure(0.7),
        "euler_uniform_4": figure(0.5),
    }
    good = steps.good_enough(errors, None)
    assert good == ["euler_uniform_4", "heun_uniform_2", "euler_uniform_2"]
    assert steps.chosen_of(good, settings) == "heun_uniform_2"
    assert steps.good_enough(errors, 0.05) == ["euler_uniform_4"]
    assert steps.good_enough(errors, 1.0)[-1] == "euler_uniform_1"
    upwards = {name: figure(f.answer or 0, direction="max") for name, f in errors.items()}
    assert steps.good_enough(upwards, None) == ["euler_uniform_1"]
    unknown = {"euler_uniform_1": figure(math.nan), "euler_uniform_2": figure(0.5, math.nan)}
    assert steps.good_enough(unknown, None) == ["euler_uniform_2"]
    assert steps.good_enough({"euler_uniform_1": figure(math.nan)}, None) == []


def test_other_tasks_get_what_is_good_for_most(steps) -> None:
    settings = steps.even_settings([1, 2])
    good = {"a": ["euler_uniform_1", "heun_uniform_2"], "b": ["heun_uniform_2"], "c": ["euler_tuned_4"]}
    assert steps.common_choice(good, settings).name == "heun_uniform_2"
    assert steps.common_choice({}, settings).name == "euler_uniform_1"


def test_a_stand_in_for_a_missing_headline_chooses_nothing(steps, monkeypatch) -> None:
    monkeypatch.setattr("lavindit.task.contract.available", lambda network: False)
    assert [steps.has_own_headline(get_task(name)) for name in ("inpainting", "depth_estimation")] == [False, True]
    row = {"nfe": 2, **steps.Setting("heun", 1).choice(), "answer": 0.3, "stderr": 0.1}
    own = {"settings": {"heun_uniform_2": row}, "default": "heun_uniform_2"}
    before = SamplingConfig(steps=4)
    assert steps.default_of(own, before) == {"steps": 1, "solver": "heun", "grid": "uniform"}
    assert steps.default_of(own | {"default": None}, before) == {"steps": 4, "solver": "euler", "grid": "uniform"}


def test_what_is_recorded_is_what_the_engine_does(steps, model: Path) -> None:
    tuned = steps.Setting("euler", 2, (0.0, 0.3, 1.0))
    steps.record(model, steps.Setting("heun", 2).choice(), {"depth_estimation": tuned.choice()})
    engine = load(model)
    other, own = (engine.settle(task=name).sampling for name in (None, "depth_estimation"))
    assert (other.solver, other.steps, other.times, other.guidance) == ("heun", 2, None, 1.5)
    assert (own.solver, own.steps, own.times, own.guidance) == ("euler", 2, (0.0, 0.3, 1.0), 1.5)
    before = (model / "config.json").read_bytes()
    with pytest.raises(LavinditError, match="times must rise"):
        steps.record(model, {"steps": 3}, {"depth_estimation": {"times": [0, 2]}})
    assert (model / "config.json").read_bytes() == before


def test_a_small_run_measures_chooses_and_records(steps, model: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "steps.json"
    monkeypatch.setattr(steps, "run_data", lambda folder, info: (SMALL, 1))
    options = ["--tasks", "depth_estimation", "--nfe", "1", "2", "--queries", "2", "--tune_queries", "1",
        "--candidates", "4", "--batch_size", "2", "--threads", "1"]  # fmt: skip
    steps.main(["--model", str(model), *options, "--out", str(out), "--write"])
    filed = json.loads(out.read_text())
    found = filed["figures"]["depth_estimation"]
    assert found["n"] == 2
    assert set(found["settings"]) == {
        *("euler_uniform_1", "euler_uniform_2", "heun_uniform_2", "midpoint_uniform_2", "euler_tuned_2")
    }
    assert all(math.isfinite(row["answer"]) for row in found["settings"].values())
    default = found["settings"][found["default"]]
    own = load(model).settle(task="depth_estimation").sampling
    assert (own.steps, own.solver) == (default["steps"], default["solver"])
    assert list(own.times or ()) == default.get("times", [])
    assert not (tmp_path / "steps.partial").exists()
