"""Pages and pictures of a report."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from example_result import make_figure, make_result, make_strip, make_task
from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.report import write_report
from lavindit.report.reference import REFERENCES, describe_references, references_of
from lavindit.report.schema import (
    Application,
    read_result,
    write_result,
)
from lavindit.report.terminal import print_result
from lavindit.report.wording import describe_verdict, flatten
from lavindit.task import get_task


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
        assert len(images) == 7 + 7 + 6 + 3  # of the one task with samples at a glance, too
        assert all(image["alt"] for image in images)

    def test_what_was_found_comes_before_how(self, run_dir: Path) -> None:
        text = Page(write_report(run_dir)["html"].read_text()).text
        order = ["At a glance", "All tasks", "Answers on other pictures", "How it was made", "Command"]
        assert sorted(order, key=text.index) == order

    def test_what_all_tasks_share_is_said_once(self) -> None:
        assert flatten({"context": {"a": "random", "b": "random"}, "pairs": 4}) == [
            ("context", "random (all 2)"),
            ("pairs", "4"),
        ]
        assert flatten({"context": {"a": "random", "b": "nearest"}}) == [
            ("context.a", "random"),
            ("context.b", "nearest"),
        ]

    def test_html_enlarges_small_pictures_only(self, run_dir: Path) -> None:
        tags = Page(write_report(run_dir)["html"].read_text()).tags
        images = [a for tag, a in tags if tag == "img" and "width" in a]  # thumbnails have the style sheet's
        asked = [a for a in images if "query" in str(a["alt"])]
        assert (asked[0]["width"], asked[0]["class"]) == ("128", "pixelated")
        assert (asked[-1]["height"], asked[-1].get("class")) == ("256", None)
        assert (images[-1]["height"], "target 2" in str(images[-1]["alt"])) == ("128", True)  # pairs are shown smaller

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
        with pytest.raises(
            LavinditError,
            match=re.escape(f"no result.json in {tmp_path}; run `lavindit test`, `benchmark` or `apply` first"),
        ):
            write_report(tmp_path)
        with pytest.raises(LavinditError, match=r"no result\.json in"):
            write_report(tmp_path / "nowhere")

    def test_cannot_write(self, run_dir: Path) -> None:
        (run_dir / "report.html").mkdir()
        with pytest.raises(LavinditError, match=r"cannot write .*report\.html"):
            write_report(run_dir)
        assert not list(run_dir.glob(".*.tmp"))


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
