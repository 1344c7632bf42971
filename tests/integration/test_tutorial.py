"""docs/add-a-task.md is run as it stands: its task is short, keeps every promise, trains and answers."""

import ast
import csv
import re
import shlex
import statistics
import sys
from pathlib import Path

import pytest
import torch

from lavindit.cli import main
from lavindit.data import EpisodeMaker, SourceConfig, collate
from lavindit.pictures import save_picture
from lavindit.report.schema import read_result
from lavindit.task import get_task

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"
STEPS = 200
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def code_blocks(language: str) -> list[str]:
    return [code for name, code in BLOCK.findall(PAGE.read_text()) if name == language]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (code,) = code_blocks("python")
    path = tmp_path / "instance_boundaries.py"
    path.write_text(code)
    return path


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank nor comment nor docstring."""
    strings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.split("#")[0].strip()) and number not in strings for number, line in lines)


def test_the_task_is_one_short_file(plugin: Path):
    assert 15 < code_lines(plugin.read_text()) <= 40
    assert (
        code_lines('"""Doc\n\nstring."""\n\n# comment\nx = 1\n\n\ndef f():\n    """Doc."""\n    return x  # so\n') == 3
    )


def test_it_keeps_every_promise_as_the_page_checks_it(plugin: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(plugin.parent)
    (code,) = (code for code in code_blocks("py") if "check_task" in code)
    exec(compile(code, str(PAGE), "exec"), {})
    episode = EpisodeMaker(get_task(plugin), "test", SourceConfig(resolution=32, scenes=8, test_scenes=8)).episode(
        0, 2, 0
    )
    assert collate([episode]).inputs.shape == (1, 3, 3, 1, 32, 32)
    assert 0 < float(episode.query.native.mean()) < 0.5


def test_the_restoration_example_needs_no_more_than_degrade(tmp_path: Path):
    (code,) = (code for code in code_blocks("py") if "class" in code)
    path = tmp_path / "denoising.py"
    path.write_text(code)
    task = get_task(path)
    pair = EpisodeMaker(task, "test", SourceConfig(resolution=32, scenes=64, test_scenes=64)).episode(0, 0, 0).query
    assert pair.input.shape == pair.target.shape
    assert float((pair.input - pair.target).std()) == pytest.approx(0.1, abs=0.03)


SMALL_VAE = [
    *("--model.init_args.network.widths", "[16, 16, 16]", "--model.init_args.network.norm_groups", "8"),
    *("--model.init_args.network.decoder_blocks", "1", "--trainer.max_steps", "40"),
]
SMALL_DIT = [
    *("--model.init_args.network.width", "64", "--model.init_args.network.depth", "2"),
    *("--model.init_args.sampling.steps", "2", "--model.init_args.noisy_copies", "1"),
    *("--data.min_pairs", "2", "--data.max_pairs", "2", "--data.eval_pairs", "2", "--trainer.max_steps", f"{STEPS}"),
]
SMALL_RUN = [
    *("--trainer.precision", "32-true", "--trainer.log_every_n_steps", "1", "--data.batch_size", "2"),
    *("--data.source.resolution", "32", "--data.source.scenes", "64", "--data.source.test_scenes", "16"),
    *("--data.test_samples", "4", "--data.context_draws", "1", "--data.source.photo_share", "0"),
]


def commands() -> list[list[str]]:
    """The arguments of every `lavindit` line of the page, but for the one on a folder that the page only describes."""
    lines = "\n".join(code_blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("lavindit ") and "my_pairs" not in line]


def losses_of(run: Path) -> list[float]:
    """The training loss of every step."""
    (path,) = run.glob("csv/version_*/metrics.csv")
    return [float(row["train_loss"]) for row in csv.DictReader(path.open()) if row["train_loss"]]


def test_the_tutorials_commands_make_check_train_test_report_and_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lavindit"])
    (config,), (code,) = code_blocks("yaml"), code_blocks("python")
    Path("boundaries.yaml").write_text(config)
    save_picture(torch.rand(3, 1, 20, 30), "photo.jpg")

    names = [arguments[0] for arguments in commands()]
    assert names == ["tasks", "tasks", "tasks", "fit", "fit", "test", "report", "apply"]
    for arguments in commands():
        small = SMALL_VAE if "experiment/demo_vae.yaml" in arguments else SMALL_DIT
        main([*arguments, *small, *SMALL_RUN] if arguments[0] in ("fit", "test") else arguments)
        if arguments[:2] == ["tasks", "new"]:
            assert Path("test_instance_boundaries.py").is_file()
            Path("instance_boundaries.py").write_text(code)

    losses = losses_of(Path("runs/boundaries"))
    assert len(losses) == STEPS
    first, last = (statistics.mean(part) for part in (losses[:20], losses[-20:]))
    assert last < 0.7 * first
    result = read_result("runs/boundaries/result.json")
    assert {task.task for task in result.tasks} == {"instance_boundaries", "depth_estimation", "edge_detection"}
    assert Path("runs/boundaries/report.html").is_file()
    assert Path("answers/photo_instance_boundaries.png").is_file()
    screen = capsys.readouterr().out
    assert "Outline every object" in screen
    assert "n = 32, test scenes at 64 px" in screen
