"""The studies' parts, and a tiny run of each: cells, plots, and what they file."""

import importlib
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lavindit.data import SourceConfig
from lavindit.errors import LavinditError

ROOT = Path(__file__).parents[2]
SMALL = SourceConfig(resolution=64, scenes=8, test_scenes=4, clips=4, test_clips=2)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def studies(bench, monkeypatch: pytest.MonkeyPatch):
    """What the studies share, on few scenes."""
    found = bench("studies")
    monkeypatch.setattr(found, "source_of", lambda protocol, resolution: SMALL)
    return found


def row(answer: float | None, stderr: float | None = 0.1, direction: str = "min", **baselines: float) -> dict:
    return {"metric": "error", "unit": "px", "direction": direction, "answer": answer, "stderr": stderr,
        "draw_std": None, "baselines": baselines, "n": 4, "draws": 1}  # fmt: skip


def test_cells_are_measured_once_and_go_on_after_an_interruption(bench, tmp_path: Path) -> None:
    cells, out, calls = bench("cells"), tmp_path / "study.json", []

    def measure() -> dict:
        calls.append(1)
        return {"value": (1, 2)}

    first = cells.Cells(out, {"n": 3})
    assert first.row("a", measure) == {"value": [1, 2]}
    with pytest.raises(ZeroDivisionError):
        first.row("b", lambda: {"value": 1 / 0})
    first.in_use.close()  # as its process ends
    second = cells.Cells(out, {"n": 3})
    assert second.row("a", measure) == {"value": [1, 2]}
    assert len(calls) == 1
    assert len(second.made["cell_commits"]) == 1
    with pytest.raises(LavinditError, match=r"cells with n 3, asked is 4.*remove it"):
        cells.Cells(out, {"n": 4})
    second.forget()
    assert not list(tmp_path.iterdir())
    third = cells.Cells(out, {"n": 3})
    assert third.row("a, seed 0", measure) == {"value": [1, 2]}
    (tmp_path / "study.partial" / "a_seed_0.json").write_text("{")
    with pytest.raises(LavinditError, match="remove it to begin anew"):
        cells.Cells(out, {"n": 3}).row("a, seed 0", measure)
    cells.Cells(None, {}).row("a", measure)
    assert not out.exists()


def test_two_processes_share_the_cells_and_the_last_one_clears_up(bench, tmp_path: Path) -> None:
    cells, out, calls = bench("cells"), tmp_path / "study.json", []

    def measure(name: str) -> dict:
        calls.append(name)
        return {"name": name}

    one, other = cells.Cells(out, {}), cells.Cells(out, {})

    def first_of_one() -> dict:
        # While one process measures a, the other finds it taken, and measures b.
        other._take("a", lambda: measure("a twice"), wait=False)
        other._take("b", lambda: measure("b"), wait=False)
        return measure("a")

    rows = one.all({"a": first_of_one, "b": lambda: measure("b twice")})
    assert rows == {"a": {"name": "a"}, "b": {"name": "b"}}
    assert calls == ["b", "a"]
    one.forget()
    assert other.all({"a": lambda: measure("a twice"), "b": lambda: measure("b twice")}) == rows
    other.forget()
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_one_line_and_exit_code_2(bench, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise LavinditError("no model;\nname one")

    with pytest.raises(SystemExit) as end:
        bench("cells").run_script(fail)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: no model; name one\n"


def test_plots_are_svg_with_all_that_is_known_inside_the_axes(bench) -> None:
    drawing = bench("drawing")
    lines = {"a<b": [(1, 0.5, 0.1), (2, 1.0, None), (8, 2.0)], "gap": [(1, None), (2, math.nan), (4, 1.5)]}
    panels = [
        drawing.Panel("plain", lines, "pairs", drawing.note_of(row(1.0))),
        drawing.Panel("logarithmic", {"a<b": [(1, 0.1), (16, 100.0)]}, "pairs", log_x=True, log_y=True),
        drawing.Panel("one value", {"gap": [(1, 3.0)]}),
        drawing.Panel("nothing", {"gap": [(1, None)]}),
    ]
    picture = ET.fromstring(drawing.draw(panels, 2))
    space = "{http://www.w3.org/2000/svg}"
    groups = picture.findall(f"{space}g")
    assert [len(group.findall(f"{space}circle")) for group in groups] == [4, 2, 1, 0]
    for circle in picture.iter(f"{space}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= drawing.WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= drawing.HEIGHT
    ends = [(c.attrib["cx"], c.attrib["cy"]) for c in groups[1].findall(f"{space}circle")]
    assert ends == [("0.0", f"{drawing.HEIGHT:.1f}"), (f"{drawing.WIDTH:.1f}", "0.0")]
    texts = [text.text for text in picture.iter(f"{space}text")]
    assert {"a<b", "gap", "not measured", "1", "8", "100", "plain", "error, px: less is better"} <= set(texts)
    assert texts.count("a<b") == 1  # one legend


def test_a_gain_has_the_sign_of_better(bench) -> None:
    study, gain = bench("context_length"), bench("studies").gain
    assert gain(row(2.0), 3.0) == 1.0
    assert gain(row(2.0, direction="max"), 3.0) == -1.0
    assert gain(row(None), 3.0) is None
    rows = {"1": row(3.0), "10": row(2.0), "2": row(9.0)}
    found = study.rise(rows, 0.5)
    assert found == {"from": 1, "to": 10, "gain": 1.0, "stderr": 0.5, "rises": True, "beyond_stderr": True}
    assert not study.rise({"1": row(3.0), "8": row(2.9)}, 0.14)["beyond_stderr"]
    assert not study.rise({"1": row(3.0), "8": row(3.0)}, 0.1)["rises"]
    unknown = study.rise({"1": row(None), "8": row(3.0)}, None)
    assert (unknown["gain"], unknown["rises"], unknown["beyond_stderr"]) == (None, False, False)
    tasks = {"a": {"rise": found}, "b": {"rise": unknown}}
    assert study.summary(tasks) == {"tasks": 2, "rising": 1, "rising_beyond_stderr": 1, "not_rising": ["b"]}


def test_context_length_measures_every_length_and_goes_on(
    bench, studies, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = bench("context_length"), tmp_path / "context_length.json"
    options = ["--model", str(tiny_model_dir), "--pairs", "1", "2", "--queries", "2", "--clips", "1", "--draws", "2",
        "--device", "cpu", "--plot", str(tmp_path / "plot.svg"), "--out", str(out)]  # fmt: skip
    monkeypatch.setattr(study, "source_of", lambda protocol, resolution: SMALL)
    real, asked = study.measure, []

    def interrupted(engine, task, *rest):
        asked.append(task.name)
        if asked == ["depth_estimation", "optical_flow_estimation"]:
            raise KeyboardInterrupt
        return real(engine, task, *rest)

    monkeypatch.setattr(study, "measure", interrupted)
    tasks = ["--tasks", "depth_estimation", "optical_flow_estimation"]
    with pytest.raises(KeyboardInterrupt):
        study.main([*options, *tasks])
    assert not out.exists()
    study.main([*options, *tasks])
    assert asked == ["depth_estimation", "optical_flow_estimation", "optical_flow_estimation"]
    filed = json.loads(out.read_text())
    found = filed["figures"]["tasks"]
    assert set(found) == {"depth_estimation", "optical_flow_estimation"}
    assert {"command", "seed", "commit", "machine", "n", "model"} <= set(filed)
    depth = found["depth_estimation"]["pairs"]
    assert set(depth) == {"1", "2"}
    assert depth["1"]["n"] == 2
    assert depth["1"]["answer"] != depth["2"]["answer"]
    assert {"nearest_target", "mean_target"} <= set(depth["1"]["baselines"])
    assert depth["1"]["baselines"]["nearest_target"] == depth["1"]["baselines"]["mean_target"]  # one pair
    assert found["depth_estimation"]["rise"]["stderr"] > 0
    assert filed["figures"]["summary"]["tasks"] == 2
    assert "depth_estimation" in (tmp_path / "plot.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context_length.json", "plot.svg"]
