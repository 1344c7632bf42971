"""`lavindit test --task NAME --data.root PATH`: a model on a public data set, in its published layout."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lavindit.cli.train import name_tasks
from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.report.schema import RunResult, read_result

Cli = Callable[[list[object]], Any]
SMALL = [
    *("--config", "experiment/all_tasks_jdit.yaml", "--model.init_args.network.width=64"),
    *("--model.init_args.network.depth=2", "--model.init_args.sampling.steps=1", "--trainer.precision=32-true"),
    *("--data.source.resolution=32", "--data.eval_pairs=1", "--data.min_pairs=1", "--data.max_pairs=1"),
]


def write_davis(root: Path, clips: int = 2, frames: int = 13) -> Path:
    """Clips of a white square that moves to the right, with its mask, as DAVIS-2017 has them."""
    for clip in range(clips):
        for frame in range(frames):
            mask = torch.zeros(1, 1, 48, 64, dtype=torch.bool)
            mask[..., 10 + clip : 30 + clip, 10 + frame : 34 + frame] = True
            picture = 0.2 + 0.6 * mask.float().expand(3, 1, 48, 64)
            name = f"480p/clip{clip}/{frame:05d}"
            save_picture(picture, root / "JPEGImages" / f"{name}.png")
            path = root / "JPEGImages" / f"{name}.png"
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
            image = Image.fromarray(mask[0, 0].to(torch.uint8).numpy())
            image.putpalette(np.array([0, 0, 0, 128, 0, 0], dtype=np.uint8).tobytes())
            (root / "Annotations" / f"480p/clip{clip}").mkdir(parents=True, exist_ok=True)
            image.save(root / "Annotations" / f"{name}.png")
    for part, names in (("train", ["clip0"]), ("val", [f"clip{i}" for i in range(1, clips)])):
        path = root / "ImageSets" / "2017" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_vae_dir: Path) -> list[object]:
    """The options of a run that has taken one step, on an image and a video task."""
    from lavindit.cli import main

    run = tmp_path_factory.mktemp("run")
    options = [*SMALL, f"--model.init_args.vae={tiny_vae_dir}", f"--trainer.default_root_dir={run}"]
    small = ["--data.source.scenes=4", "--data.source.clips=2", "--data.batch_size=1", "--trainer.max_steps=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lavindit"])
        tasks = ["--task", "colorization", "--task=video_depth_estimation"]
        main(["fit", *map(str, options), *small, "--data.val_samples=1", *tasks])
    return options


def run_of(options: list[object]) -> RunResult:
    return read_result(Path(str(options[-1]).partition("=")[2]) / "result.json")


def test_clips_with_masks(trained: list[object], tmp_path: Path, run_cli: Cli) -> None:
    root = write_davis(tmp_path / "davis", clips=3)
    arguments = ["--task", "video_instance_segmentation", "--data.root", root, "--data.context_draws=3"]
    ran = run_cli(["test", *trained, *arguments])
    assert ran.code == 0, ran.stderr
    result = run_of(trained)
    (task,) = result.tasks
    assert (task.task, task.n, task.draws, task.pairs) == ("video_instance_segmentation", 2, 3, 1)
    assert task.held_out  # it was trained on two other tasks
    figures = {figure.metric: figure for figure in task.figures}
    assert set(figures) == {"j_and_f", "j", "f", "ap", "ap50"}
    assert figures["j"].draw_std is not None
    assert figures["j"].answer is not None
    assert figures["j"].ceiling is not None
    assert any("DAVIS" in note for note in result.notes)
    assert str(root) in str(result.data)


def test_three_draws_of_the_embedded_world(trained: list[object], run_cli: Cli) -> None:
    small = ["--data.source.scenes=4", "--data.source.test_scenes=3"]
    ran = run_cli(["test", *trained, "--task", "colorization", *small, "--data.context", "nearest"])
    assert ran.code == 0, ran.stderr
    result = run_of(trained)
    assert (result.tasks[0].n, result.tasks[0].draws) == (3, 3)
    assert not result.tasks[0].held_out
    assert result.settings["context"] == "nearest"
    assert (
        any("Not measured" in note and "lpips" in note for note in result.notes)
        or result.tasks[0].headline.metric == "lpips"
    )
    assert "[" in ran.stdout  # the spread over draws


def test_a_model_directory_is_tested_without_a_checkpoint(
    tmp_path: Path, run_cli: Cli, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_davis(tmp_path / "davis", clips=3)
    network = ["heads=2", "queries_per_kv=1", "context_attention=joint"]
    model = [f"--model.init_args.network.{option}" for option in network]
    model += ["--model.init_args.targets=query", "--model.init_args.noisy_copies=1"]
    arguments = [*SMALL, *model, f"--model.init_args.vae={tiny_model_dir}", "--trainer.default_root_dir=run"]
    ran = run_cli(["test", *arguments, "--task", "foreground_segmentation", "--data.root", root])
    assert (ran.code, ran.stderr.count("init_from")) == (2, 1)
    few = ["--data.root", root, "--data.context_draws=1", "--data.test_samples=2"]
    start = f"--model.init_args.init_from={tiny_model_dir}"
    ran = run_cli(["test", *arguments, start, "--task", "foreground_segmentation", *few])
    assert ran.code == 0, ran.stderr
    assert read_result("run/result.json").tasks[0].n == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "pose_estimation"], "pose_estimation requires keypoints_px, which the data set at .* lacks"),
        (["--task", "video_depth_estimation"], "requires depth_m, which the data set at .* lacks"),
        (["--task", "colorization", "--data.source.layout", "coko"], "coco"),
        (["--task", "optical_flow_estimaton"], "did you mean optical_flow_estimation"),
        (["--task"], "--task needs a task"),
    ],
)
def test_what_cannot_be_tested_on_it(
    trained: list[object], tmp_path: Path, run_cli: Cli, arguments: list[str], words: str
) -> None:
    root = write_davis(tmp_path / "davis")
    ran = run_cli(["test", *trained, "--data.root", root, *arguments])
    assert ran.code == 2
    assert ran.stderr.count("\n") == 1
    assert re.search(words, ran.stderr), ran.stderr


def test_an_unknown_layout_is_told(trained: list[object], tmp_path: Path, run_cli: Cli) -> None:
    ran = run_cli(["test", *trained, "--task", "colorization", "--data.root", tmp_path])
    assert ran.code == 2
    assert "nyuv2" in ran.stderr


def test_tasks_by_name() -> None:
    assert name_tasks(["test", "--task", "a", "--task=b", "--data.root", "c"]) == [
        *("test", "--data.source.root", "c"),
        '--data.tasks=["a", "b"]',
    ]
    with pytest.raises(LavinditError, match="--task needs"):
        name_tasks(["--task"])
