"""The table of the comparison of attention modes, on figures that are made up."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("attention_modes_table")


def figure(direction: str, answer: float | None) -> dict:
    return {"metric": "m", "unit": "1", "direction": direction, "answer": answer, "stderr": None}


def found(table, loss: float, error: float, score: float | None, steps: int = 10):
    headline = {"depth": figure("min", error), "edges": figure("max", score)}
    return table.Found(steps, 60.0, {"all": loss}, headline, {}, "abc")


def test_every_seed_is_set_beside_the_joint_model_of_its_own(table):
    cells = {
        table.Cell("joint", 3, 0, "time"): found(table, 1.0, 0.2, 0.5),
        table.Cell("joint", 3, 1, "time"): found(table, 2.0, 0.4, 0.8),
        table.Cell("every_pair", 3, 0, "time"): found(table, 0.5, 0.1, 0.5, steps=6),
        table.Cell("every_pair", 3, 1, "time"): found(table, 0.5, 0.2, 0.4, steps=8),
        table.Cell("prefix", 7, 0, "steps"): found(table, 0.5, 0.1, 0.5),
    }
    rows = {(row["variant"], row["pairs"]): row for row in table.compare(cells)}
    row = rows["every_pair", 3]
    assert row["headline_ratio_to_joint"]["depth"]["mean"] == pytest.approx(2.0)  # half of the error, twice as good
    assert row["headline_ratio_to_joint"]["edges"]["mean"] == pytest.approx(0.75)
    assert row["headline_ratio_to_joint"]["mean"] == pytest.approx({"mean": 1.375, "std": 0.125 * 2**0.5, "n": 2})
    assert row["headline_ratio_to_joint"]["median"] == row["headline_ratio_to_joint"]["mean"]  # two tasks
    assert row["held_out_loss_over_joint"]["mean"] == pytest.approx(0.375)
    assert row["steps"]["mean"] == 7
    assert rows["joint", 3]["headline_ratio_to_joint"]["mean"]["mean"] == 1
    assert rows["prefix", 7]["headline_ratio_to_joint"] == {}  # no joint model to compare with
    (target,) = table.targets(list(rows.values()))
    assert target["target"].startswith("every_pair, K = 3, equal time")
    assert target["met"]


def test_three_percent_may_be_lost_at_equal_steps_and_nothing_at_equal_time(table):
    for budget, met in (("steps", True), ("time", False)):
        cells = {
            table.Cell("joint", 3, 0, budget): found(table, 1.0, 0.2, 0.50),
            table.Cell("prefix", 3, 0, budget): found(table, 1.0, 0.2, 0.49),
        }
        (target,) = table.targets(table.compare(cells))
        assert target["found"] == 0.99
        assert target["met"] == met


def test_a_figure_that_is_missing_counts_nowhere(table):
    cells = {
        table.Cell("joint", 3, 0, "steps"): found(table, 1.0, 0.2, None),
        table.Cell("prefix", 3, 0, "steps"): found(table, 1.0, 0.2, 0.5),
    }
    joint, prefix = table.compare(cells)
    assert joint["headline"]["edges"]["mean"] is None
    assert set(prefix["headline_ratio_to_joint"]) == {"depth", "mean", "median"}
