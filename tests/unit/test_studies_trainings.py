"""Studies that train: tiny runs of them through `lavindit fit`, that go on where they stopped."""

import importlib
import json
from pathlib import Path

import pytest

from lavindit.data import SourceConfig
from lavindit.errors import LavinditError
from lavindit.task import get_task

ROOT = Path(__file__).parents[2]
SMALL = SourceConfig(resolution=64, scenes=8, test_scenes=4, clips=4, test_clips=2)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks; tests are on few scenes."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("studies"), "source_of", lambda protocol, resolution: SMALL)
    return importlib.import_module


def fit_options(vae: Path) -> list[str]:
    """A training of the nano config that takes a second."""
    model = {"vae": vae, "compile_blocks": "false", "noisy_copies": 1, "sampling": '{"steps": 1}'}
    data = {"latents": "null", "source.scenes": 8, "batch_size": 2, "min_pairs": 1, "max_pairs": 1}
    data |= {"source.photo_share": 0, "source.test_scenes": 4}
    return [*(f"--model.init_args.{name}={value}" for name, value in model.items()),
        *(f"--data.{name}={value}" for name, value in data.items()), "--trainer.accelerator=cpu"]  # fmt: skip


def test_sizes_are_trained_in_equal_steps_and_compared(
    bench, tiny_vae_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = bench("model_size"), tmp_path / "model_size.json"
    monkeypatch.setattr(study, "SIZES", {"small": (32, 1, 2), "large": (48, 1, 2)})
    options = ["--run", str(tmp_path / "runs"), "--steps", "2", "--sizes", "small", "large", "--device", "cpu",
        "--tasks", "depth_estimation", "--eval_pairs", "1", "--val_samples", "1", "--queries", "1",
        "--plot", str(tmp_path / "plot.svg"), "--out", str(out), *fit_options(tiny_vae_dir)]  # fmt: skip
    train, trained = study.Training.train, []

    def interrupted(self):
        trained.append(self.run.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(self)

    monkeypatch.setattr(study.Training, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.main(options)
    study.main(options)
    assert trained == ["small_2_seed0", "large_2_seed0", "large_2_seed0"]
    filed = json.loads(out.read_text())
    small, large = filed["figures"]["rows"]
    assert small["parameters"] < large["parameters"]
    assert small["steps"] == large["steps"] == 2
    assert small["train_s"] > 0
    assert set(small["held_out_loss"]) == {"all", "depth_estimation"}
    assert small["tasks"]["depth_estimation"]["n"] == 1
    (step,) = filed["figures"]["summary"]["steps"]
    assert step["loss"] == large["held_out_loss"]["all"] - small["held_out_loss"]["all"]
    assert "held-out loss" in (tmp_path / "plot.svg").read_text()
    with pytest.raises(LavinditError, match="no size 'huge'; there are small, large"):
        study.main([*options, "--sizes", "huge"])


def test_larger_is_better_only_where_every_step_is(bench) -> None:
    study = bench("model_size")

    def row(size: str, parameters: int, loss: float, error: float) -> dict:
        figure = {"answer": error, "direction": "min", "stderr": 0.1}
        return {"size": size, "seed": 0, "parameters": parameters, "held_out_loss": {"all": loss},
            "tasks": {"depth": figure}}  # fmt: skip

    found = study.summary([row("l", 30, 0.3, 0.5), row("s", 10, 0.5, 0.4), row("m", 20, 0.4, 0.6)])
    assert [(step["from"], step["to"], step["tasks_better"]) for step in found["steps"]] == [
        ("s", "m", 0),
        ("m", "l", 1),
    ]
    assert [step["tasks_better_beyond_noise"] for step in found["steps"]] == [0, 0]  # 0.1 is less than 0.14
    assert found["loss_falls"]
    assert not study.summary([row("s", 10, 0.5, 0.4), row("m", 20, 0.6, 0.3)])["loss_falls"]


def test_a_recipe_is_compared_with_one_choice_undone(bench, tiny_vae_dir: Path, tmp_path: Path) -> None:
    study, out = bench("recipe"), tmp_path / "recipe.json"
    network = ["--model.init_args.network.width=32", "--model.init_args.network.depth=1",
        "--model.init_args.network.heads=2"]  # fmt: skip
    options = ["--run", str(tmp_path / "runs"), "--minutes", "0.005",
        "--variants", "whole", "no input beside the noise",
        "--tasks", "depth_estimation", "--eval_pairs", "1", "--val_samples", "1", "--queries", "1", "--device", "cpu",
        "--out", str(out), *fit_options(tiny_vae_dir), *network]  # fmt: skip
    study.main(options)
    whole, without = json.loads(out.read_text())["figures"]["rows"]
    assert whole["parameters"] - without["parameters"] == 32 * (64 + 1 + 2)
    assert whole["steps"] > 0
    (row,) = json.loads(out.read_text())["figures"]["comparison"]
    assert row["undone"] == "no input beside the noise"
    loss = without["held_out_loss"]["depth_estimation"] / whole["held_out_loss"]["depth_estimation"]
    assert row["loss_without_over_with"] == pytest.approx(loss)
    assert row["gains"]["depth_estimation"] == pytest.approx(
        without["tasks"]["depth_estimation"]["answer"] - whole["tasks"]["depth_estimation"]["answer"]
    )
    with pytest.raises(LavinditError, match="no variant 'luck'"):
        study.main([*options, "--variants", "luck"])


def test_what_is_held_out_is_in_one_training_and_asked_of_both(bench, tiny_vae_dir: Path, tmp_path: Path) -> None:
    study, out = bench("unseen_task"), tmp_path / "unseen_task.json"
    network = ["--model.init_args.network.width=32", "--model.init_args.network.depth=1",
        "--model.init_args.network.heads=2"]  # fmt: skip
    study.main(["--run", str(tmp_path / "runs"), "--steps", "1", "--others", "depth_estimation",
        "--unseen", "foreground_segmentation", "normal_estimation", "--pairs", "1", "2", "--queries", "1",
        "--draws", "1", "--device", "cpu", "--plot", str(tmp_path / "plot.svg"), "--out", str(out),
        *fit_options(tiny_vae_dir), *network])  # fmt: skip
    filed = json.loads(out.read_text())
    rows = {row["arm"]: row for row in filed["figures"]["rows"]}
    assert rows["with"]["trained_tasks"] == ["depth_estimation", "normal_estimation", "seen_foreground"]
    assert rows["without"]["trained_tasks"] == ["depth_estimation"]
    assert rows["with"]["parameters"] == rows["without"]["parameters"]
    found = filed["figures"]["comparison"]
    assert [(row["task"], row["pairs"]) for row in found] == [
        (task, pairs) for task in ("foreground_segmentation", "normal_estimation") for pairs in (1, 2)
    ]
    for row in found:
        sign = 1 if row["direction"] == "max" else -1
        assert row["lost_unseen"] == pytest.approx(sign * (row["with"] - row["without"]))
        nearest = row["baselines"]["nearest_target"]
        assert row["gain_over_baselines"]["nearest_target"] == pytest.approx(sign * (row["without"] - nearest))
    assert "trained without it" in (tmp_path / "plot.svg").read_text()


def test_the_tasks_to_encode_are_all_that_either_training_needs(bench, capsys: pytest.CaptureFixture[str]) -> None:
    study = bench("unseen_task")
    study.main(["--list_tasks"])
    names = [word.removeprefix("--task=") for word in capsys.readouterr().out.split()]
    tasks = [get_task(name) for name in names]
    assert not any(task.held_out for task in tasks)
    assert all(max(task.input_frames, task.target_frames) == 1 for task in tasks)
    seen = next(task for task in tasks if task.name == "seen_foreground")
    assert seen.version == get_task("foreground_segmentation").version
    assert {name for name in study.UNSEEN if get_task(name).held_out} == {"foreground_segmentation"}
