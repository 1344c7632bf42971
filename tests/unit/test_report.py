"""Results as files, and what is said of them."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from example_result import make_figure, make_result, make_task
from lavindit.errors import LavinditError
from lavindit.report import machine
from lavindit.report.figure import MEAN_TARGET, NEAREST_TARGET, QUERY, Figure
from lavindit.report.schema import (
    read_result,
    write_result,
)
from lavindit.report.terminal import print_result
from lavindit.report.wording import (
    describe_run,
    describe_sampling,
    describe_verdict,
    format_answer,
    format_number,
    is_limited,
    is_uncertain,
    judge,
)


class TestSchema:
    def test_round_trip(self, tmp_path: Path) -> None:
        result = make_result(tmp_path)
        write_result(result, tmp_path / "result.json")
        assert read_result(tmp_path / "result.json") == result
        assert not list(tmp_path.glob(".*.tmp"))

    def test_not_finite_is_null(self, tmp_path: Path) -> None:
        baselines = {NEAREST_TARGET: math.nan, MEAN_TARGET: math.inf}
        figure = make_figure(math.nan, stderr=math.nan, baselines=baselines, ceiling=None)
        settings = {
            "rate": math.nan,
            "scale": np.float32(0.5),
            "shift": torch.tensor(0.25),
            "path": Path("x"),
            "n": (1,),
        }
        result = make_result(tmp_path, tasks=[make_task(figure)], settings=settings)
        write_result(result, tmp_path / "result.json")
        text = (tmp_path / "result.json").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        assert json.loads(text)["settings"] == {"rate": None, "scale": 0.5, "shift": 0.25, "path": "x", "n": [1]}
        again = read_result(tmp_path / "result.json").tasks[0]
        assert again == result.tasks[0]
        assert again.headline.answer is None
        assert again.beats(NEAREST_TARGET) is None
        assert judge(again) == "unknown"

    @pytest.mark.parametrize(("direction", "better"), [("min", 0.1), ("max", 0.3)])
    def test_margin_is_positive_when_better(self, direction: str, better: float) -> None:
        baselines = {NEAREST_TARGET: 0.2, MEAN_TARGET: None}
        task = make_task(make_figure(better, direction, baselines=baselines))
        assert task.margin(NEAREST_TARGET) == pytest.approx(0.1)
        assert task.beats(NEAREST_TARGET) is True
        worse = make_task(make_figure(0.4 - better, direction, baselines=baselines))
        assert worse.margin(NEAREST_TARGET) == pytest.approx(-0.1)
        assert worse.beats(NEAREST_TARGET) is False
        assert make_task(make_figure(0.2, direction, baselines=baselines)).beats(NEAREST_TARGET) is False
        assert task.beats(MEAN_TARGET) is None
        assert task.margin(QUERY) is None

    def test_needs_one_headline(self) -> None:
        with pytest.raises(ValueError, match="2 headline figures"):
            make_task(figures=[make_figure(), make_figure()])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": 5}, "schema is 5, this version of lavindit reads schema 1 to 4"),
            ({"schema": None}, "schema is None"),
            ({"seed": "7"}, "RunResult.seed must be a whole number, not '7'"),
            ({"tasks": {}}, "RunResult.tasks must be a list"),
            ({"tasks": [{"task": "x"}]}, r"RunResult.tasks\[0\].version is missing"),
            ({"machine": []}, "RunResult.machine must be an object"),
        ],
    )
    def test_malformed_field(self, run_dir: Path, change: dict[str, Any], message: str) -> None:
        path = run_dir / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(LavinditError, match=message) as caught:
            read_result(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000])
    def test_malformed_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "result.json"
        path.write_bytes(content)
        with pytest.raises(LavinditError, match=re.escape(str(path))):
            read_result(path)

    def test_headline_missing_in_file(self, run_dir: Path) -> None:
        path = run_dir / "result.json"
        path.write_text(path.read_text().replace('"headline": true', '"headline": false'))
        with pytest.raises(LavinditError, match="0 headline figures"):
            read_result(path)


class TestWording:
    def test_verdicts(self) -> None:
        assert describe_verdict(make_task()) == (
            "Beats both baselines: better by 0.2100 than the nearest target, better by 0.1300 than the mean target. "
            "Also better by 0.1600 than the best constant."
        )
        worse = make_figure(0.45, baselines={NEAREST_TARGET: 0.52, MEAN_TARGET: 0.44, QUERY: 0.45})
        assert describe_verdict(make_task(worse)) == (
            "Beats one of the two baselines: better by 0.0700 than the nearest target, worse by 0.0100 than the mean "
            "target (within two standard errors). Also equal to the unchanged query."
        )
        assert judge(make_task(make_figure(0.9))) == "none"

    @pytest.mark.parametrize(
        ("value", "text"),
        [(None, "n/a"), (0.0, "0.0000"), (0.31, "0.3100"), (1.5, "1.500"), (-18.416, "-18.42"), (1e-5, "1.00e-05")],
    )
    def test_numbers(self, value: float | None, text: str) -> None:
        assert format_number(value) == text


class TestCaveats:
    def test_a_lead_within_two_standard_errors_may_be_chance(self, tmp_path: Path) -> None:
        sure, unsure = make_task(), make_task(make_figure(0.42))
        assert (is_uncertain(sure), is_uncertain(unsure)) == (False, True)
        text = describe_run(make_result(tmp_path, tasks=[sure, unsure], applications=[]))
        assert "On 1 of them one is beaten by less than two standard errors" in text

    def test_a_ceiling_below_the_answer_says_that_the_vae_limits(self) -> None:
        assert not is_limited(make_figure())
        assert is_limited(make_figure(0.31, ceiling=0.4))
        assert is_limited(make_figure(30.0, "max", ceiling=0.5))
        assert not is_limited(make_figure(0.31, ceiling=None))
        assert "the VAE limits this task" in describe_verdict(make_task(make_figure(0.31, ceiling=0.4)))

    def test_sampling_in_words(self) -> None:
        assert describe_sampling({"steps": 1, "solver": "euler", "start": "zeros"}) == "1 step (euler), start zeros"
        tuned = {"steps": 2, "solver": "heun", "times": [0, 0.25, 1], "shift": 3.0, "grid": "official", "guidance": 1.0}
        assert describe_sampling(tuned) == "2 steps (heun) at 0, 0.25, 1"
        assert describe_sampling(tuned | {"times": None}) == "2 steps (heun), grid official, shift 3"

    def test_spread_over_draws_stands_in_brackets(self) -> None:
        assert format_answer(make_figure(0.31, draw_std=0.014)) == "0.3100 ±0.0200 [0.0140]"
        assert format_answer(make_figure(0.31)) == "0.3100 ±0.0200"

    def test_percentages_differ_by_points(self) -> None:
        figure = Figure("miou", "%", "max", True, 50.0, 1.0, {NEAREST_TARGET: 20.0, MEAN_TARGET: 10.0})
        assert "better by 30.00 percentage points" in describe_verdict(make_task(figure))

    def test_answers_alone_are_counted(self, tmp_path: Path) -> None:
        result = make_result(tmp_path, tasks=[])
        assert describe_run(result).startswith(f"{len(result.applications)} answer")

    def test_long_names_break_at_underscores(self, tmp_path: Path) -> None:
        console = Console(width=80, record=True, file=io.StringIO())
        print_result(make_result(tmp_path, tasks=[make_task(task="video_instance_segmentation")]), console)
        text = console.export_text()
        assert re.search(r"^ ?video_instance_ ", text, re.MULTILINE)
        assert re.search(r"^ ?segmentation ", text, re.MULTILINE)


class TestMachine:
    def test_describe_machine(self) -> None:
        facts = machine.describe_machine()
        assert {"cpu", "cores", "memory_gib", "gpu", "python", "torch"} <= facts.keys()
        assert facts["cores"] >= 1
        assert json.dumps(facts)

    def test_commit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = machine.current_commit()
        assert commit is None or re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", commit)
        answers = {"ls-files": "x", "rev-parse": "abc1234", "status": "?? notes.txt"}
        monkeypatch.setattr(machine, "_git", lambda *a: answers[a[0]])
        assert machine.current_commit() == "abc1234"
        answers["status"] += "\n?? tasks/mine.py"
        assert machine.current_commit() == "abc1234-dirty"
        answers["status"] = " M README.md"
        assert machine.current_commit() == "abc1234-dirty"

    def test_no_git(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert machine.current_commit() is None
