import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.report import machine, write_report
from lavindit.report.figure import BEST_CONSTANT, MEAN_TARGET, NEAREST_TARGET, QUERY, QUERY_VAE, Figure
from lavindit.report.reference import REFERENCES, describe_references, references_of
from lavindit.report.schema import (
    Application,
    RunResult,
    Strip,
    TaskResult,
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
from lavindit.task import get_task


def make_figure(answer: float | None = 0.31, direction: Any = "min", **changes: Any) -> Figure:
    baselines = {NEAREST_TARGET: 0.52, MEAN_TARGET: 0.44, BEST_CONSTANT: 0.47}
    values = {"stderr": 0.02, "baselines": baselines, "ceiling": 0.05} | changes
    return Figure("AbsRel", "1", direction, True, answer, **values)


def make_task(figure: Figure | None = None, **changes: Any) -> TaskResult:
    values: dict[str, Any] = {
        "task": "depth_estimation",
        "version": 1,
        "summary": "How far each pixel is.",
        "held_out": False,
        "n": 48,
        "pairs": 3,
        "seconds_per_query": 0.21,
        "figures": [figure or make_figure(), Figure("RMSE", "m", "min", False, 1.2)],
        "protocol": "Scale and shift aligned.",
    }
    return TaskResult(**values | changes)


def make_strip(folder: Path, name: str, size: int = 64, frames: int = 1, truth: bool = True) -> Strip:
    """Pictures of coloured gradients under `folder`/pictures."""
    axis = torch.linspace(0, 1, size)
    paths = []
    for index, part in enumerate(["in1", "out1", "in2", "out2", "query", "answer", "truth"]):
        ramp = torch.stack([axis.expand(size, size), axis.expand(size, size).T, torch.full((size, size), index / 6)])
        paths.append(f"pictures/{name}_{part}.png")
        save_picture(ramp[:, None].expand(3, frames, size, size), folder / paths[-1])
    one, two, three, four, query, answer, target = paths
    return Strip([(one, two), (three, four)], query, answer, target if truth else None, f"{name}/test/0")


def make_result(folder: Path, **changes: Any) -> RunResult:
    rivals: dict[str, float | None] = {NEAREST_TARGET: 9.6, MEAN_TARGET: 18.2, QUERY: 23.0, QUERY_VAE: 17.9}
    psnr = Figure("PSNR", "dB", "max", True, 18.4, 0.3, rivals, 21.2)
    strip = make_strip(folder, "depth")
    values: dict[str, Any] = {
        "lavindit_version": "0.1.0",
        "command": "lavindit test --config tiny.yaml --out runs/tiny",
        "seed": 7,
        "commit": "abc1234-dirty",
        "machine": {"cpu": "Example CPU", "cores": 2, "gpu": None},
        "model": {"name": "tiny", "parameters": 7_012_345},
        "settings": {"solver": {"name": "euler", "steps": 20}, "guidance": 1.0},
        "data": {"world_version": 1, "split": "test"},
        "created": "2026-01-01T12:00:00+00:00",
        "tasks": [
            make_task(
                make_figure(draw_std=0.0123),
                strips=[strip, make_strip(folder, "clip", 32, frames=5)],
                draws=3,
                sampling={"steps": 8, "solver": "euler", "guidance": 2.5, "times": None},
                constant="black, chosen on 64 training targets",
            ),
            make_task(
                psnr, task="motion_deblurring", parameters={"length_px": [5.0, 11.0], "layers": {"1": {"drops": 64}}}
            ),
            make_task(make_figure(0.6), task="video_instance_segmentation", held_out=True, n=12),
        ],
        "applications": [Application("depth", "my photo", make_strip(folder, "photo", 300, truth=False), 0.4)],
        "notes": ["LPIPS weights are missing; PSNR leads."],
    }
    return RunResult(**values | changes)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_result(make_result(tmp_path), tmp_path / "result.json")
    return tmp_path


class Page(HTMLParser):
    """All tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


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
            ({"schema": 4}, "schema is 4, this version of lavindit reads schema 1 to 3"),
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


class TestPages:
    def test_html_is_self_contained(self, run_dir: Path) -> None:
        text = write_report(run_dir)["html"].read_text()
        page = Page(text)
        assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
        addresses = [a[k] or "" for _, a in page.tags for k in ("src", "href", "srcset", "xlink:href") if k in a]
        assert addresses
        assert all(address.startswith(("data:image/png;base64,", "#task-")) for address in addresses)
        assert not re.search(r"https?://|url\(|@import", text)
        assert "pictures/" not in text
        assert str(run_dir) not in text
        images = [attributes for tag, attributes in page.tags if tag == "img"]
        assert len(images) == 7 + 7 + 6
        assert all(image["alt"] for image in images)

    def test_html_enlarges_small_pictures_only(self, run_dir: Path) -> None:
        images = [a for tag, a in Page(write_report(run_dir)["html"].read_text()).tags if tag == "img"]
        assert (images[0]["width"], images[0]["class"]) == ("128", "pixelated")
        assert (images[-1]["height"], images[-1].get("class")) == ("256", None)

    def test_everything_is_escaped(self, tmp_path: Path) -> None:
        evil = "<script>alert(1)</script>\"'&|"
        (tmp_path / "pictures").mkdir()
        strip = replace(make_strip(tmp_path, "depth"), sample_id=evil)
        figure = replace(make_figure(), metric=evil, unit=evil)
        task = make_task(figure, task=evil, summary=evil, protocol=evil, strips=[strip])
        facts = {evil: evil, "nested": {evil: [evil]}}
        application = Application(evil, evil, strip, 1.0, [figure])
        result = make_result(
            tmp_path, command=evil, commit=evil, created=evil, lavindit_version=evil, machine=facts, data=facts,
            model={"name": evil}, settings=facts, tasks=[task], applications=[application], notes=[evil],
        )  # fmt: skip
        write_result(result, tmp_path / "result.json")
        paths = write_report(tmp_path)
        page = Page(paths["html"].read_text())
        assert not any(tag in ("script", "alert") for tag, _ in page.tags)
        assert evil in page.text
        known = {"class", "href", "id", "src", "alt", "width", "height", "role", "scope", "aria-label", "aria-hidden"}
        assert set().union(*(a for tag, a in page.tags if tag in ("img", "section", "span", "a", "th"))) <= known
        markdown = paths["markdown"].read_text().replace("    " + evil, "")  # the command is an indented block
        assert not re.search(r"(?<!\\)<script|(?<!\\)\|alert", markdown)
        rows = [line for line in markdown.splitlines() if line.startswith("| ")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {3, 4, 8, 9, 13}
        print_result(result, Console(width=100, file=(tmp_path / "out").open("w")))

    def test_missing_or_foreign_picture(self, run_dir: Path) -> None:
        (run_dir / "pictures" / "depth_query.png").unlink()
        (run_dir / "pictures" / "depth_answer.png").write_text("no picture")
        secret = run_dir.parent / "outside.png"
        Image.new("RGB", (4, 4)).save(secret)
        result = read_result(run_dir / "result.json")
        strip = replace(result.tasks[0].strips[0], truth="../outside.png")
        write_result(replace(result, tasks=[replace(result.tasks[0], strips=[strip])]), run_dir / "result.json")
        text = write_report(run_dir)["html"].read_text()
        assert text.count("(missing)") == 3

    def test_markdown_has_every_metric_and_picture(self, run_dir: Path) -> None:
        text = write_report(run_dir)["markdown"].read_text()
        result = read_result(run_dir / "result.json")
        for task in result.tasks:
            assert describe_verdict(task) in text
            assert all(f"{figure.metric}" in text for figure in task.figures)
        links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
        assert len(links) == 7 + 7 + 6
        assert all((run_dir / link).is_file() for link in links)

    def test_empty_run(self, tmp_path: Path) -> None:
        write_result(make_result(tmp_path, tasks=[], applications=[], model={}), tmp_path / "result.json")
        assert "No task was scored." in write_report(tmp_path)["html"].read_text()
        print_result(read_result(tmp_path / "result.json"), Console(quiet=True))

    def test_terminal_fits_in_80_columns(self, run_dir: Path) -> None:
        console = Console(width=80, record=True, file=(run_dir / "out").open("w"))
        print_result(read_result(run_dir / "result.json"), console)
        text = console.export_text()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
        for word in (
            "video_instance_",
            "segmentation",
            "held out",
            "✓ yes",
            "✗ no",
            "-0.1600",
            "-4.60",
            "n 48 · 0.21 s",
            "0.4700",
            "+0.1600",
            "[0.0123]",
            "+0.2100",
            "not query",
        ):
            assert word in text
        assert "…" not in text

    def test_pages_tell_how_a_task_was_measured(self, run_dir: Path) -> None:
        pages = write_report(run_dir)
        for text in (pages["markdown"].read_text(), Page(pages["html"].read_text()).text):
            assert (
                "Answered in 8 steps (euler), guidance 2.5. Best constant: black, chosen on 64 training targets."
                in text
            )
            assert "[0.0123]" in text
            assert "layers.1.drops" in text
            assert "5, 11" in text
            assert "Query through the VAE" in text
            assert "better by 0.50 dB than the query through the VAE" in text

    def test_published_figures_stand_apart_and_only_beside_the_world(self, run_dir: Path) -> None:
        result = read_result(run_dir / "result.json")
        assert references_of(result, "depth_estimation")[0].lavin_dit == 0.062
        elsewhere = replace(result, data={"source": {"root": "nyuv2"}})
        assert references_of(elsewhere, "depth_estimation") == []
        assert describe_references(result, "foreground_segmentation", "miou") == "66.9-75.8 (Pascal-5i)"
        assert describe_references(result, "colorization", "mse") == ""
        for text in (p.read_text() for p in write_report(run_dir).values()):
            assert "not comparable with the figures of this test" in text
            assert "NYUv2" in text

    def test_every_reference_is_of_a_column_in_its_unit(self) -> None:
        for reference in REFERENCES:
            column = next(c for c in get_task(reference.task).columns if c.metric == reference.metric)
            better = max if column.direction == "max" else min
            assert better(reference.lavin_dit, reference.lvm) == reference.lavin_dit
            assert column.unit == "%" or column.metric in ("lpips", "fid", "mean_deg") or reference.lavin_dit < 1

    def test_missing_result(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match=re.escape(f"no result.json in {tmp_path}; run `lavindit test` first")):
            write_report(tmp_path)
        with pytest.raises(LavinditError, match=r"no result\.json in"):
            write_report(tmp_path / "nowhere")

    def test_cannot_write(self, run_dir: Path) -> None:
        (run_dir / "report.html").mkdir()
        with pytest.raises(LavinditError, match=r"cannot write .*report\.html"):
            write_report(run_dir)
        assert not list(run_dir.glob(".*.tmp"))


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


class TestPictures:
    def test_image(self, tmp_path: Path) -> None:
        picture = torch.rand(3, 1, 5, 7)
        picture[0, 0, 0, 0], picture[1, 0, 0, 0], picture[2, 0, 0, 0] = -1.0, 2.0, math.nan
        save_picture(picture, tmp_path / "new" / "a.png")
        pixels = np.asarray(Image.open(tmp_path / "new" / "a.png"))
        assert pixels.shape == (5, 7, 3)
        assert pixels[0, 0].tolist() == [0, 255, 0]
        expected = (picture[:, 0, 1:].permute(1, 2, 0) * 255).round().numpy()
        assert (pixels[1:] == expected).all()
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]

    def test_film_strip(self, tmp_path: Path) -> None:
        save_picture(torch.linspace(0, 1, 3).view(1, 3, 1, 1).expand(3, 3, 4, 4), tmp_path / "a.png")
        pixels = np.asarray(Image.open(tmp_path / "a.png"))
        assert pixels.shape == (4, 16, 3)
        assert pixels[0, :, 0].tolist() == [0] * 4 + [255] * 2 + [128] * 4 + [255] * 2 + [255] * 4

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="shape"):
            save_picture(torch.zeros(3, 4, 4), tmp_path / "a.png")
        (tmp_path / "file").touch()
        with pytest.raises(LavinditError, match="cannot write"):
            save_picture(torch.zeros(3, 1, 4, 4), tmp_path / "file" / "a.png")


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
