"""Two results side by side, and figures that are expected again."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from lavindit.errors import LavinditError
from lavindit.report.compare import compare_results, error_of, read_either
from lavindit.report.compare_pages import print_comparison, render_comparison
from lavindit.report.expected import find_misses, read_expected, write_expected
from lavindit.report.figure import Figure
from lavindit.report.schema import RunResult, TaskResult, write_result

PROTOCOL = {"name": "quick", "images": 24, "draws": 2}


def task(name: str, answer: float | None, direction: Any = "min", **changes: Any) -> TaskResult:
    figures = [
        Figure("error", "m", direction, True, answer, 0.3, draw_std=0.4 * 2**0.5),
        Figure("other", "1", "max", False, 1),
    ]
    values: dict[str, Any] = {"version": 1, "summary": "", "held_out": False, "n": 24, "pairs": 4, "draws": 2}
    return TaskResult(task=name, seconds_per_query=0.1, figures=figures, **values | changes)


def result(*tasks: TaskResult, **changes: Any) -> RunResult:
    values: dict[str, Any] = {
        "lavindit_version": "0",
        "command": "lavindit benchmark quick --model tiny --out run",
        "seed": 0,
        "commit": "abc",
        "machine": {},
        "model": {"name": "tiny"},
        "settings": {"protocol": PROTOCOL},
        "data": {"world_version": 2, "source": {"resolution": 32}},
        "created": "2026",
        "tasks": list(tasks),
    }
    return RunResult(**values | changes)


class TestCompare:
    def test_error_joins_queries_and_draws(self) -> None:
        figure = task("a", 1.0).headline
        assert error_of(figure, draws=2) == pytest.approx(0.5)  # 0.3^2 + 0.4^2 * 2 / 2
        assert error_of(replace(figure, draw_std=None), draws=1) == pytest.approx(0.3)
        assert error_of(replace(figure, stderr=None), draws=2) is None

    def test_marks(self) -> None:
        noise = 2 * 0.5**0.5  # 2 sqrt(0.5^2 + 0.5^2)
        before = result(
            *(
                task(name, 10.0, way)
                for name, way in (("a", "min"), ("b", "max"), ("c", "min"), ("d", "max"), ("e", "min"))
            )
        )
        after = result(
            task("a", 10 - noise - 0.01),
            task("b", 10 - noise - 0.01, "max"),
            task("c", 10 - noise + 0.01),
            task("d", 10 + noise + 0.01, "max"),
            task("e", None),
        )
        found = compare_results(before, after)
        assert [d.mark for d in found.differences] == ["better", "worse", "within noise", "better", "not known"]
        assert found.differences[0].noise == pytest.approx(noise)
        assert found.differences[1].gain == pytest.approx(-noise - 0.01)
        assert (found.count("better"), found.count("worse")) == (2, 1)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"settings": {"protocol": PROTOCOL | {"draws": 3}}}, r"draws is 2 in the first and 3 .*has --draws"),
            ({"settings": {"protocol": PROTOCOL | {"name": "quick with draws 3", "draws": 3}}}, "protocol.draws is 2"),
            (
                {"settings": {"protocol": {"name": "full", "images": 200, "draws": 3}}},
                "protocol.name is quick in the first",
            ),
            ({"settings": {}}, "protocol.name is quick in the first and not stated"),
            (
                {"data": {"world_version": 3, "source": {"resolution": 32}}},
                "data.world_version is 2 in the first and 3",
            ),
            ({"data": {"world_version": 2, "source": {"resolution": 64}}}, "data.source.resolution is 32"),
            ({"seed": 1}, "seed is 0 in the first and 1"),
            ({"tasks": [task("a", 1.0, n=8)]}, "a.n is 24 in the first and 8"),
            ({"tasks": [task("a", 1.0, version=2)]}, "a.version is 1 in the first and 2"),
            ({"tasks": [task("a", 1.0, pairs=8)]}, "a.pairs is 4 in the first and 8"),
            ({"tasks": [task("b", 1.0)]}, "have no task in common"),
        ],
    )
    def test_what_cannot_be_compared(self, change: dict[str, Any], words: str) -> None:
        before = result(task("a", 1.0))
        with pytest.raises(LavinditError, match=words) as caught:
            compare_results(before, replace(before, **change), ("one", "two"))
        assert "\n" not in str(caught.value)
        assert "one" in str(caught.value)

    def test_another_headline_is_refused(self) -> None:
        other = task("a", 1.0)
        figures = [replace(figure, headline=not figure.headline) for figure in other.figures]
        with pytest.raises(LavinditError, match=r"a\.headline is error in the first and other"):
            compare_results(result(task("a", 1.0)), result(replace(other, figures=figures)))

    def test_pages(self) -> None:
        before = result(task("video_instance_segmentation", 10.0), task("left", 1.0))
        after = result(task("video_instance_segmentation", 5.0, held_out=True), task("right", 1.0))
        found = compare_results(before, after, ("runs/a", "runs/b"))
        text = render_comparison(found)
        for words in ("Only in A: left.", "Only in B: right.", "1 better", "| better |", "+5.000 | ±1.414", "runs/b"):
            assert words in text
        console = Console(width=80, record=True, file=io.StringIO())
        print_comparison(found, console)
        shown = console.export_text()
        assert "…" not in shown
        assert "better" in shown

    def test_reads_a_folder_or_a_file(self, tmp_path: Path) -> None:
        write_result(result(task("a", 1.0)), tmp_path / "run" / "result.json")
        (tmp_path / "run" / "result.json").rename(tmp_path / "kept.json")
        assert read_either(tmp_path / "kept.json").seed == 0
        with pytest.raises(LavinditError, match=r"no result\.json in"):
            read_either(tmp_path / "run")


class TestExpected:
    METRICS = {"a": "error", "b": "other"}  # noqa: RUF012

    def test_round_trip_and_tolerance(self, tmp_path: Path) -> None:
        path = tmp_path / "expected.yaml"
        measured = result(task("a", 2.0), task("b", 3.0))
        write_expected(path, measured, self.METRICS)
        expected = read_expected(path)
        assert (expected.model, expected.protocol, expected.commit) == ("tiny", PROTOCOL, "abc")
        assert expected.tasks["a"].tolerance == pytest.approx(0.075)  # a quarter of 0.3
        assert (expected.tasks["b"].metric, expected.tasks["b"].tolerance) == ("other", pytest.approx(0.01))
        assert find_misses(measured, expected, path) == []
        assert find_misses(result(task("a", 2.07), task("b", 9.0)), expected, path) == []

    def test_misses_name_the_task(self, tmp_path: Path) -> None:
        path = tmp_path / "expected.yaml"
        write_expected(path, result(task("a", 2.0), task("b", 3.0)), self.METRICS)
        expected = read_expected(path)
        off = find_misses(result(task("a", 2.08)), expected, path)
        assert off == ["a: error is 2.080, expected 2.000 within 0.075 (off by 0.08)", "b: other was not measured"]
        assert find_misses(result(task("a", 2.08)), expected, path, only=["a"]) == off[:1]
        assert find_misses(result(task("a", None)), expected, path, only=["a"]) == ["a: error was not measured"]

    def test_another_protocol_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "expected.yaml"
        write_expected(path, result(task("a", 2.0)), self.METRICS)
        other = result(task("a", 2.0), settings={"protocol": PROTOCOL | {"images": 2}})
        with pytest.raises(LavinditError, match="expects another protocol: images 24 in place of 2"):
            find_misses(other, read_expected(path), path)

    def test_a_figure_that_was_not_measured_is_not_expected(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match="a has no figure error"):
            write_expected(tmp_path / "e.yaml", result(task("a", None)), self.METRICS)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("- 1", "must be a mapping with model"),
            ("a: [", "is not valid YAML"),
            ("model: nano", "holds no expected figures: Expected.protocol is missing"),
            (
                yaml.safe_dump(
                    {"model": "m", "protocol": {}, "command": "", "commit": None, "tasks": {"a": {"metric": "e"}}}
                ),
                "value is missing",
            ),
        ],
    )
    def test_files_that_are_none(self, tmp_path: Path, content: str, words: str) -> None:
        (tmp_path / "e.yaml").write_text(content)
        with pytest.raises(LavinditError, match=words):
            read_expected(tmp_path / "e.yaml")
        with pytest.raises(LavinditError, match="cannot read"):
            read_expected(tmp_path / "none.yaml")
