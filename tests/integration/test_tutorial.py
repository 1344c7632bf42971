"""docs/add-a-task.md is run as it stands: its task loads, scores the ideal when right, trains and answers."""

import re
import shlex
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
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def code_blocks(language: str) -> list[str]:
    return [code for name, code in BLOCK.findall(PAGE.read_text()) if name == language]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (code,) = code_blocks("python")
    path = tmp_path / "instance_boundaries.py"
    path.write_text(code)
    return path


def test_a_perfect_answer_scores_the_ideal_and_an_inverted_one_worse(plugin: Path):
    task = get_task(plugin)
    maker = EpisodeMaker(task, "test", SourceConfig(resolution=32, scenes=64, test_scenes=64))
    episode = maker.episode(0, 2, seed=0)
    assert collate([episode]).inputs.shape == (1, 3, 3, 1, 32, 32)
    assert 0 < float(episode.query.native.mean()) < 0.5
    perfect, inverted = task.make_metric(), task.make_metric()
    for query in range(3):
        pair = maker.episode(query, 0, seed=0).query
        perfect.update(episode.codec.decode(pair.target), pair.native, pair.valid, query)
        inverted.update(episode.codec.decode(1 - pair.target), pair.native, pair.valid, query)
    good, bad = perfect.compute(), inverted.compute()
    ideals = dict(zip(perfect.names, perfect.ideals, strict=True))
    for column in task.columns:
        assert float(good[column.metric]) == pytest.approx(ideals[column.metric])
        assert (bad[column.metric] < good[column.metric]) == (column.direction == "max")


def test_the_restoration_example_needs_no_more_than_degrade(tmp_path: Path):
    (code,) = code_blocks("py")
    path = tmp_path / "denoising.py"
    path.write_text(code)
    task = get_task(path)
    pair = EpisodeMaker(task, "test", SourceConfig(resolution=32, scenes=64, test_scenes=64)).episode(0, 0, 0).query
    assert pair.input.shape == pair.target.shape
    assert float((pair.input - pair.target).std()) == pytest.approx(0.1, abs=0.03)


TINY_VAE = [
    *("--model.init_args.network.widths", "[8, 8, 8]", "--model.init_args.network.norm_groups", "4"),
    *("--model.init_args.network.decoder_blocks", "1"),
]
TINY_DIT = [
    *("--model.init_args.network.width", "24", "--model.init_args.network.depth", "1"),
    *("--model.init_args.network.heads", "2", "--model.init_args.sampling.steps", "1"),
    *("--data.min_pairs", "2", "--data.max_pairs", "2", "--data.eval_pairs", "2"),
]
TINY_RUN = [
    *("--trainer.max_steps", "2", "--trainer.precision", "32-true", "--data.batch_size", "2"),
    *("--data.source.resolution", "32", "--data.source.scenes", "64", "--data.source.test_scenes", "4"),
    *("--data.test_samples", "2"),
]


def commands() -> list[list[str]]:
    """The arguments of every `lavindit` line of the page, but for the one on a folder that the page only describes."""
    lines = "\n".join(code_blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("lavindit ") and "my_pairs" not in line]


def test_the_tutorials_commands_train_test_report_and_apply(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(plugin.parent)
    monkeypatch.setattr(sys, "argv", ["lavindit"])
    (config,) = code_blocks("yaml")
    Path("boundaries.yaml").write_text(config)
    save_picture(torch.rand(3, 1, 20, 30), "photo.jpg")

    assert [arguments[0] for arguments in commands()] == ["tasks", "fit", "fit", "test", "report", "apply"]
    for arguments in commands():
        tiny = TINY_VAE if "experiment/demo_vae.yaml" in arguments else TINY_DIT
        main([*arguments, *tiny, *TINY_RUN] if arguments[0] in ("fit", "test") else arguments)

    result = read_result("runs/boundaries/result.json")
    assert {task.task for task in result.tasks} == {"instance_boundaries", "depth_estimation", "edge_detection"}
    assert Path("runs/boundaries/report.html").is_file()
    assert Path("answers/photo_instance_boundaries.png").is_file()
    assert "Outline every object" in capsys.readouterr().out
