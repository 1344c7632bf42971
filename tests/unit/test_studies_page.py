"""docs/results.md: up to date, every section from synthetic results, and what is missing or damaged is said."""

import importlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lavindit.errors import LavinditError

ROOT = Path(__file__).parents[2]
MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 4.0, "gpu": None, "system": "s", "python": "3.11", "torch": "2.13"}
MADE = {"command": "python it.py", "seed": [0, 1], "commit": "abc1234", "machine": MACHINE, "n": {"a": 8, "b": 8}}
NANO_ROW = "| depth (held out) | `error` px ↓ |"
PROXY = {"metric": "lpips_proxy", "unit": "1", "answer": 0.25}
BASELINES = {"nearest_target": 0.75, "mean_target": 0.625}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("results_page")


def row(answer: float | None, **more: object) -> dict:
    return {"metric": "error", "unit": "px", "direction": "min", "answer": answer, "stderr": 0.01, "n": 8,
        "baselines": BASELINES, **more}  # fmt: skip


def side(answer: float) -> dict:
    return {"answer": answer, "stderr": 0.01, "ceiling": 0.05}


def figures_of_all() -> dict[str, dict]:
    """A made-up result for every section but the last ones, whose scripts' own results are there."""
    headline = row(0.5, headline=True, ceiling=0.1)
    proxy = headline | {"headline": False} | PROXY
    task = {"task": "depth", "held_out": True, "n": 8, "figures": [headline]}
    ways = {"ours, 4 steps, cached": 0.25, "autoregressive, cached": 1.5}
    cell = {"resolution": 64, "pairs": 8, "query_s": ways}
    size = {"size": "small", "seed": 0, "parameters": 1.2e6, "steps": 10, "train_s": 120.0,
        "held_out_loss": {"all": 0.4321}, "tasks": {"depth": row(0.5)}}  # fmt: skip
    trained = {"seed": 0, "steps": 300, "tasks": {"depth": row(0.5)}}
    setting = {"nfe": 4, "answer": 0.5, "stderr": 0.01}
    unseen = row(None) | {"task": "depth", "pairs": 8, "seed": 0, "with": 0.25, "with_stderr": None, "without": 0.5,
        "without_stderr": 0.01, "lost_unseen": 0.25,
        "gain_over_baselines": {name: value - 0.5 for name, value in BASELINES.items()}}  # fmt: skip
    return {
        "nano": {"tasks": [task], "n": None},
        "nano_perceptual": {"tasks": [task | {"figures": [headline, proxy]}], "n": None},
        "autoregressive": {
            "parameters": {"ours": 6.5e6, "autoregressive": 6.4e6, "our_vae": 1e6, "tokenizer": 1e6},
            "ours": {"minutes": 47.1}, "autoregressive": {"minutes": 45.0}, "figures": {
                "summary": {"tasks": 1, "ours_ahead": 1, "ours_is": {"better": 0, "within noise": 1, "worse": 0}},
                "tasks": {"depth": row(None, ours=side(0.5), autoregressive=side(0.625), ours_is="within noise")},
            },
        },
        "autoregressive_latency": {"figures": {"cells": [cell, {**cell, "pairs": 1}], "baseline_takes_times_as_long": [
            {"query_s": {"4 steps, cached, against cached": value}} for value in (6.0, 3.5)]}},
        "specialists": {"figures": {"depth": row(0.25, held_out=False, gap=0.25, gap_stderr=0.02,
            ours=side(0.5) | {"baselines": {"mean_target": 1.25}}, minutes=10.0, parameters=6.4e6)}},
        "model_size": {"figures": {"rows": [size, {**size, "size": "large"}],
            "summary": {"loss_falls": False, "steps": [
                {"seed": 0, "from": "small", "to": "large", "loss": 0.01, "tasks_better": 0, "tasks": 1,
                    "tasks_better_beyond_noise": 0}]}}},
        "context_length": {"figures": {
            "summary": {"rising": 1, "tasks": 1, "rising_beyond_stderr": 0},
            "tasks": {"depth": {"trained": False, "rise": {"gain": 0.1, "stderr": 0.2},
                "pairs": {"1": row(0.5), "8": row(0.375)}}}}},
        "recipe": {"minutes": 8.0, "figures": {
            "rows": [trained | {"variant": "whole"}, trained | {"variant": "x"}],
            "comparison": [{"undone": "x", "seed": 0, "loss_without_over_with": None, "gains": {"depth": 0.1},
                "beyond_noise": 1, "worse_beyond_noise": 0}]}},
        "latency": {"targets": [{"target": "faster", "asked": ">= 3", "found": 3.5, "met": True}]},
        "steps": {"figures": {"depth": row(None) | {"default": "euler_tuned_4", "settings": {
            "euler_uniform_4": setting, "euler_tuned_4": setting | {"answer": 0.25},
            "heun_uniform_8": setting | {"nfe": 8}}}}},
        "unseen_task": {"steps": 10, "figures": {"comparison": [unseen],
            "rows": [{"arm": "with", "trained_tasks": []}, {"arm": "without", "trained_tasks": ["edges"]}]}},
    }  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    for name, data in figures_of_all().items():
        (folder / f"{name}.json").write_text(json.dumps(MADE | data))
    (folder / "context_length.svg").write_text("<svg/>")
    return folder


def test_the_page_is_up_to_date(page, capsys: pytest.CaptureFixture[str]) -> None:
    """Made again whenever a result changes: `python benchmarks/results_page.py`."""
    try:
        page.main(["--check"])
    except SystemExit:
        pytest.fail(f"run `python benchmarks/results_page.py`: {capsys.readouterr().err}")


def test_every_section_says_its_figures_its_making_and_its_limits(page, results: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "results.md"
    tabled = tmp_path / "README.md"
    tabled.write_text("before\n<!-- nano-figures -->\nold\n<!-- nano-figures-end -->\nafter\n")
    page.main(["--results", str(results), "--out", str(out), "--tabled", str(tabled)])
    head, *table, tail = tabled.read_text().split("\n<!-- nano-figures")
    assert (head, tail) == ("before", "-end -->\nafter\n")
    assert f"{NANO_ROW} 0.500 ± 0.010 | 0.750 | 0.625 | - | - | 0.100 | 8 |" in table[0]
    tabled.write_text("no place")
    with pytest.raises(LavinditError, match="no place for nano's figures"):
        page.main(["--results", str(results), "--out", str(out), "--tabled", str(tabled)])
    text = out.read_text()
    assert "Not measured yet" not in text
    sections = importlib.import_module("results_sections").SECTIONS
    assert {section.stem for section in sections} == set(figures_of_all())
    parts = dict(zip([s.stem for s in sections], re.split(r"^## ", text, flags=re.M)[1:], strict=True))
    for section in sections:
        part = parts[section.stem]
        assert part.startswith(section.title)
        assert "**What it does not show.**" in part
        assert "Machine: a CPU, 2 cores, 4 GiB, no GPU" in part
        assert "Commit abc1234. Seeds: 0, 1." in part
        assert "Command: `python it.py`" in part
    for stem, said in {
        "nano": (
            "| depth (held out) | `error` px ↓ | 0.500 ± 0.010 | 0.750 | 0.625 | - | - | 0.100 | 8 |",
            "on 1 of 1 tasks",
        ),
        "autoregressive": (
            "| 0.5 ± 0.01 | 0.625 ± 0.01 | 0.05 | 0.05 | within noise |",
            "ahead on 1 of 1",
            "6.50 M",
            "47 ours, with the validation that ends it; 45 the baseline",
        ),
        "autoregressive_latency": ("| 64 | 8 | 0.25 | 1.5 |", "against cached | 3.5 | 6 |"),
        "specialists": (
            "| 0.25 ± 0.01 | 0.5 ± 0.01 | 0.05 | 0.25 ± 0.02 | 25 % | 10.0 | 6.40 M | 8 |",
            "on 1 of 1 tasks",
        ),
        "model_size": ("| small | 0 | 1.20 M | 10 | 2 | 0.4321 |", "Larger is not always better", "+0.0100"),
        "context_length": ("| depth (not trained on) | `error` px ↓ | 0.5 | 0.375 | 0.1 ± 0.2 |", "1 of 1 tasks, on 0"),
        "recipe": ("| depth | `error` px ↓ | 0.5 ± 0.01 |", "| x | 0 | 300 | - | 0.1 | 1 of 1 | 0 of 1 |"),
        "latency": ("| faster | >= 3 | 3.50 | met |",),
        "steps": ("| depth | `error` px ↓ | 0.5 ± 0.01 | - | euler tuned 4 |",),
        "unseen_task": (
            "| 8 | 0 | 0.25 | 0.5 ± 0.01 | 0.75 | 0.625 | - | 8 |",
            "without training on it better than nearest target and mean target; training on it is worth 0.25 px.",
            "in both: edges.",
        ),
    }.items():
        for words in said:
            assert words in parts[stem], stem
    assert "](../results/context_length.svg)" in parts["context_length"]
    assert "svg" not in parts["model_size"]  # its script has drawn none
    for stem in ("steps", "autoregressive_latency"):
        assert f"](../results/{stem}.svg)" in parts[stem]
        assert ET.fromstring((results / f"{stem}.svg").read_text()).tag.endswith("svg")


def test_a_check_writes_nothing_and_names_what_is_out_of_date(
    page, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.md"
    options = ["--results", str(results), "--out", str(out), "--tabled"]
    with pytest.raises(SystemExit) as end:
        page.main([*options, "--check"])
    assert end.value.code == 1
    assert not out.exists()
    assert not (results / "steps.svg").exists()
    assert f"out of date: {out}" in capsys.readouterr().err
    page.main(options)
    page.main([*options, "--check"])
    (results / "latency.json").write_text((results / "latency.json").read_text().replace("3.5", "2.5"))
    with pytest.raises(SystemExit):
        page.main([*options, "--check"])


def test_what_is_missing_or_damaged_is_said_with_its_command(page, results: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    options = ["--results", str(results), "--out", str(out), "--tabled"]
    (results / "model_size.json").unlink()
    page.main(options)
    missing = [line for line in out.read_text().splitlines() if line.startswith("Not measured yet")]
    assert len(missing) == 1
    assert "`model_size.json` is missing. `python benchmarks/model_size.py" in missing[0]
    (results / "model_size.json").write_text('{"figures": {}}')
    with pytest.raises(
        LavinditError, match=r"not as its script writes it.*make it again: python benchmarks/model_size"
    ):
        page.main(options)
    (results / "model_size.json").write_text("[")
    with pytest.raises(LavinditError, match=r"cannot read .*model_size.json"):
        page.main(options)
    with pytest.raises(LavinditError, match="no folder"):
        page.main(["--results", str(tmp_path / "nowhere")])
