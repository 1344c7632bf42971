"""`lavindit tasks`: the list, one task, its budget, a new one."""

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.errors import LavinditError
from lavindit.inference import TaskScorer
from lavindit.inference.budget import load_vae, measure_budget
from lavindit.models import STVAE
from lavindit.pictures import save_picture
from lavindit.task import all_tasks, get_task
from lavindit.testing import check_task

Cli = Callable[[list[object]], Any]
SMALL = SourceConfig(resolution=32, scenes=16, test_scenes=8)


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A desk without a model on it."""
    monkeypatch.delenv("LAVINDIT_MODEL", raising=False)
    monkeypatch.setattr("lavindit.models.released.RELEASED", tmp_path / "none")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


class TestList:
    def test_has_every_task(self, run_cli: Cli) -> None:
        ran = run_cli(["tasks"])
        assert ran.code == 0
        first = {line.split()[0] for line in ran.stdout.splitlines() if line.strip()}
        assert set(all_tasks()) <= first

    def test_of_one(self, run_cli: Cli) -> None:
        ran = run_cli(["tasks", "frame_prediction"])
        assert ran.stdout.splitlines()[0] == "frame_prediction (version 1, video)"
        assert "psnr dB: higher is better, headline" in ran.stdout
        assert "frames: 1 in, 13 out" in ran.stdout

    def test_a_column_without_its_weights(self, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        ran = run_cli(["tasks", "colorization"])
        assert "  lpips: lower is better; not measured, lacks lpips" in ran.stdout
        assert "  psnr dB: higher is better, headline" in ran.stdout


class TestBudget:
    def test_is_the_codec_and_eight_bits_by_hand(self) -> None:
        task = get_task("depth_estimation")
        budget = measure_budget(task, 3, SMALL)
        maker = EpisodeMaker(task, "test", SMALL)
        by_hand = []
        for scene in range(3):
            query, metric = maker.episode(scene, 0, seed=0).query, task.make_metric()
            rounded = (query.target * 255 + 0.5).floor() / 255
            metric.update(maker.episode(scene, 0, seed=0).codec.decode(rounded), query.native, query.valid, 0)
            by_hand.append(float(metric.compute()["abs_rel"]))
        assert (budget.task, budget.version, budget.n, budget.resolution) == ("depth_estimation", task.version, 3, 32)
        (row, *_), names = budget.rows, [row.metric for row in budget.rows]
        assert names == [column.metric for column in task.measured]
        assert (row.unit, row.direction, row.headline, row.ideal, row.vae) == ("1", "min", True, 0.0, None)
        assert row.exact == pytest.approx(0, abs=1e-6)
        assert row.eight_bit == pytest.approx(sum(by_hand) / 3, rel=1e-6)
        assert row.eight_bit > 1e-3

    def test_of_the_vae_is_the_ceiling_of_a_test(self, tiny_vae: STVAE) -> None:
        task = get_task("instance_segmentation")
        budget = measure_budget(task, 3, SMALL, tiny_vae)
        maker, scorer = EpisodeMaker(task, "test", SMALL), TaskScorer(task)
        for scene in maker.accepted(3):
            episode = maker.episode(scene, 4, seed=0)
            with torch.no_grad():
                rebuilt = tiny_vae.to_pictures(tiny_vae.to_latent(episode.query.target[None]))[0]
            scorer.update(episode, episode.query.target, rebuilt, 0.0)
        for row, figure in zip(budget.rows, scorer.result().figures, strict=True):
            assert (row.metric, row.vae, row.exact) == (figure.metric, figure.ceiling, figure.answer)
            assert row.exact == 100 > (row.vae or 0)

    def test_of_clips_and_of_a_source_with_few_scenes(self, tiny_vae: STVAE) -> None:
        config = SourceConfig(resolution=16, scenes=2, clips=2, test_clips=2)
        budget = measure_budget(get_task("frame_prediction"), 9, config, tiny_vae)
        assert budget.n == 2
        assert budget.rows[0].exact == 100
        assert budget.rows[0].eight_bit == 100 > (budget.rows[0].vae or 0)

    def test_tells_how_far_it_is(self) -> None:
        told: list[tuple[int, int]] = []
        measure_budget(get_task("colorization"), 3, SMALL, progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 3), (2, 3), (3, 3)]

    def test_without_samples(self) -> None:
        with pytest.raises(LavinditError, match="at least one sample, got 0"):
            measure_budget(get_task("colorization"), 0, SMALL)

    def test_command_without_a_model(self, run_cli: Cli) -> None:
        ran = run_cli(["tasks", "normal_estimation", "--budget", "--samples", 2, "--resolution", 32])
        assert ran.code == 0
        assert ran.stderr == ""
        lines = ran.stdout.splitlines()
        assert lines[1].split() == ["figure", "ideal", "codec", "8", "bit"]
        name, unit, _, _, ideal, codec, eight_bit = lines[2].split()
        assert (name, unit, ideal) == ("mean_deg", "deg", "0")
        assert float(codec) < 0.1 < float(eight_bit) < 1
        assert "n = 2, test scenes at 32 px" in lines
        assert lines[-1] == "VAE: none; name a model directory with --model or $LAVINDIT_MODEL"

    def test_command_with_a_model(
        self, run_cli: Cli, tiny_vae_dir: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        base: list[object] = ["tasks", "colorization", "--budget", "--samples", 2]
        shutil.copytree(tiny_model_dir, tmp_path / "run" / "model")
        outs = [run_cli([*base, "--model", model]) for model in (tiny_vae_dir, tiny_model_dir, tmp_path / "run")]
        monkeypatch.setenv("LAVINDIT_MODEL", str(tiny_vae_dir))
        outs.append(run_cli(base))
        tables = [ran.stdout.split("VAE: ")[0] for ran in outs]
        assert tables == tables[:1] * 4
        assert "n = 2, test scenes at 64 px" in tables[0]
        headline = next(line for line in tables[0].splitlines() if line.startswith("psnr"))
        codec, eight_bit, vae = map(float, headline.split()[-3:])
        assert codec == eight_bit == 100 > vae  # rendered pictures have 8 bits
        assert f"VAE: {tiny_vae_dir}" in outs[0].stdout

    def test_of_a_folder(self, run_cli: Cli) -> None:
        for number in range(2):
            picture = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(number))
            save_picture(picture, f"mine/{number}_input.png")
            save_picture(1 - picture, f"mine/{number}_target.png")
        ran = run_cli(["tasks", "mine", "--budget", "--resolution", 16])
        assert ran.code == 0, ran.stderr
        assert "n = 2, test scenes at 16 px" in ran.stdout

    def test_says_on_stderr_how_far_it_is(self, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lavindit.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
        ran = run_cli(["tasks", "colorization", "--budget", "--samples", 2, "--resolution", 16])
        assert ran.stderr == "1 of 2 scenes\n2 of 2 scenes\n"

    def test_names_what_is_not_measured(self, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.delenv("LAVINDIT_PERCEPTUAL", raising=False)
        ran = run_cli(["tasks", "inpainting", "--budget", "--samples", 1, "--resolution", 16])
        missing = [line.split(".")[0] for line in ran.stdout.splitlines() if line.startswith("not measured")]
        assert missing == ["not measured: fid, kid", "not measured: lpips", "not measured: lpips_proxy"]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["depth_estimation", "--samples", 3], "--samples is given without --budget"),
            (["--budget"], "--budget needs a task"),
            (["depth_estimation", "--budget", "--samples", 0], "--samples 0 must be at least 1"),
            (["depth_estimation", "--budget", "--resolution", 20], "resolution 20 must be a multiple of 16"),
            (["depth_estimation", "--budget", "--model", "nowhere"], "no model in nowhere"),
            (["depth_estimation", "--budget", "--root", "nowhere"], "no such folder: nowhere"),
            (["depth_estimatoin", "--budget"], "did you mean depth_estimation"),
        ],
    )
    def test_mistakes(self, run_cli: Cli, arguments: list[object], words: str) -> None:
        ran = run_cli(["tasks", *arguments])
        assert ran.code == 2
        assert words in ran.stderr
        assert ran.stderr.count("\n") == 1

    def test_on_a_public_data_set(self, run_cli: Cli, test_data: Path) -> None:
        root = test_data / "data" / "coco"
        arguments = ["tasks", "instance_segmentation", "--budget", "--samples", 3, "--resolution", 32, "--root", root]
        ran = run_cli(arguments)
        assert ran.code == 0, ran.stderr
        assert "n = 3, test scenes at 32 px" in ran.stdout

    def test_a_vae_knows_its_side(self, tiny_vae_dir: Path) -> None:
        vae, side = load_vae(tiny_vae_dir)
        assert isinstance(vae, STVAE)
        assert side == 64


class TestNew:
    @pytest.mark.parametrize("options", [[], ["--video"]], ids=["image", "video"])
    def test_works_as_it_stands(self, run_cli: Cli, options: list[object], tmp_path: Path) -> None:
        ran = run_cli(["tasks", "new", "my_shades", *options, "--out", "deep/here"])
        assert ran.code == 0
        assert "wrote deep/here/my_shades.py" in ran.stdout
        plugin, test = tmp_path / "deep/here/my_shades.py", tmp_path / "deep/here/test_my_shades.py"
        task = get_task(plugin)
        assert type(task).__name__ == "MyShades"
        assert task.modality == ("video" if options else "image")
        code: dict[str, Any] = {"__file__": str(test), "__name__": "test_my_shades"}
        exec(compile(test.read_text(), str(test), "exec"), code)
        (found,) = (value for name, value in code.items() if name.startswith("test_"))
        found()

    def test_is_short_and_tells_what_to_change(self, run_cli: Cli) -> None:
        run_cli(["tasks", "new", "mine"])
        source = Path("mine.py").read_text()
        docs = sum(
            (node.end_lineno or 0) - node.lineno + 1
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        )
        lines = [line.strip() for line in source.splitlines()]
        comments = sum(line.startswith("#") for line in lines)
        assert comments >= 5
        assert 15 < sum(map(bool, lines)) - comments - docs <= 40

    def test_the_check_would_tell(self, run_cli: Cli) -> None:
        run_cli(["tasks", "new", "mine"])
        path = Path("mine.py")
        path.write_text(path.read_text().replace('"mse", "1"', '"mse", "m"'))
        with pytest.raises(AssertionError, match="task mine: column mse says unit 'm', its metric '1'"):
            check_task(path, SMALL)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("MyTask", "cannot name a task"),
            ("my-task", "cannot name a task"),
            ("2fast", "cannot name a task"),
            ("class", "cannot name a task"),
            ("my__task", "cannot name a task"),
            ("../mine", "cannot name a task"),
            ("inpainting", "there is a task inpainting already"),
        ],
    )
    def test_names(self, run_cli: Cli, name: str, words: str) -> None:
        ran = run_cli(["tasks", "new", name])
        assert ran.code == 2
        assert words in ran.stderr
        assert os.listdir() == []

    @pytest.mark.parametrize("taken", ["mine.py", "test_mine.py"])
    def test_never_overwrites(self, run_cli: Cli, taken: str) -> None:
        Path(taken).write_text("keep")
        ran = run_cli(["tasks", "new", "mine"])
        assert ran.code == 2
        assert f"{taken} exists; choose another name or --out" in ran.stderr
        assert os.listdir() == [taken]
        assert Path(taken).read_text() == "keep"
