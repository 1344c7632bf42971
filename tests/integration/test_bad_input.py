"""Whatever a person can get wrong: exit code 2, one line that names the thing and the remedy, nothing half-written."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lavindit.pictures import save_picture
from lavindit.training import sharded

Cli = Callable[[list[object]], Any]
Refuses = Callable[..., None]

SMALL = (
    "--data.tasks=[colorization]",
    "--data.source.scenes=8",
    "--data.source.test_scenes=2",
    "--data.batch_size=2",
    "--data.max_pairs=2",
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=1",
    "--trainer.default_root_dir=run",
)
NETWORK = (
    "--model=lavindit.training.DiTModule",
    "--model.vae=vae",
    "--model.network.width=64",
    "--model.network.depth=1",
    "--model.network.heads=2",
)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tiny_vae_dir: Path) -> Path:
    """The working folder of a person with a model, a VAE, a picture and a folder of three pairs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAVINDIT_MODEL", raising=False)
    monkeypatch.setattr("lavindit.models.released.RELEASED", tmp_path / "none")
    shutil.copytree(tiny_model_dir, tmp_path / "model")
    shutil.copytree(tiny_vae_dir, tmp_path / "vae")
    save_picture(torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(0)), tmp_path / "photo.png")
    for number in range(3):
        for part in ("input", "target"):
            save_picture(torch.full((3, 1, 16, 16), number / 2), tmp_path / "pairs" / f"{number}_{part}.png")
    (tmp_path / "file").write_text("a file, no folder")
    return tmp_path


@pytest.fixture
def refuses(desk: Path, run_cli: Cli) -> Refuses:
    """Asserts that a command ends with 2 and one line that holds the words, and leaves every file as it was."""

    def check(arguments: list[object], *words: str) -> None:
        before = everything(desk)
        ran = run_cli(arguments)
        assert ran.code == 2
        assert ran.stderr.startswith("lavindit: error: ")
        assert ran.stderr.count("\n") == 1
        assert ran.stderr.endswith("\n")
        assert ran.stdout == ""
        for word in words:
            assert word in ran.stderr
        assert everything(desk) == before

    return check


def apply(
    *options: object, task: object = "colorization", query: object = "photo.png", **other: object
) -> list[object]:
    named = {"out": "out", "model": "model"} | other
    flags = [item for key, value in named.items() for item in (f"--{key}", value)]
    return ["apply", "--task", task, "--query", query, *flags, *options]


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_desk_is_in_order(desk: Path, run_cli: Cli) -> None:
    ran = run_cli(apply())
    assert (ran.code, ran.stderr) == (0, "")
    assert (desk / "out" / "photo_colorization.png").is_file()


class TestApply:
    def test_damaged_image(self, desk: Path, refuses: Refuses) -> None:
        content = (desk / "photo.png").read_bytes()
        (desk / "cut.png").write_bytes(content[: len(content) // 2])
        (desk / "text.png").write_text("no picture")
        (desk / "empty.png").touch()
        for name in ("cut.png", "text.png", "empty.png"):
            refuses(apply(query=name), name, "replace or remove the file")

    def test_one_damaged_image_among_good_ones(self, desk: Path, refuses: Refuses) -> None:
        (desk / "text.png").write_text("no picture")
        refuses([*apply(), "--query", "text.png"], "text.png")  # a second --query adds to the first

    def test_missing_image(self, desk: Path, refuses: Refuses) -> None:
        refuses(apply(query="none.png"), "no such image: none.png")
        refuses(apply(query="pairs"), "pairs is a folder of pairs", "name it with --task")
        (desk / "empty").mkdir()
        refuses(apply(query="empty"), "empty is a folder", "name image files")

    def test_two_queries_of_one_name(self, desk: Path, refuses: Refuses) -> None:
        (desk / "b").mkdir()
        shutil.copy(desk / "photo.png", desk / "b" / "photo.png")
        refuses([*apply(), "--query", "b/photo.png"], "out/photo_colorization.png", "different names")

    def test_task_folders(self, desk: Path, refuses: Refuses) -> None:
        (desk / "nothing").mkdir()
        refuses(apply(task="nothing"), "no pairs in nothing", "NAME_input.png")
        (desk / "pairs" / "1_target.png").unlink()
        refuses(apply(task="pairs"), "pairs/1_input.png", "add pairs/1_target.png")
        (desk / "pairs" / "1_target.png").write_text("no picture")
        refuses(apply("--pairs", 3, task="pairs"), "pairs/1_target.png", "replace")

    def test_unknown_task(self, refuses: Refuses) -> None:
        refuses(apply(task="colorisation"), "'colorisation'", "did you mean colorization")

    def test_broken_plugin(self, desk: Path, refuses: Refuses) -> None:
        (desk / "mine.py").write_text("raise RuntimeError('two\\nlines')")
        refuses(apply(task="mine.py"), "mine.py", "fails to import", "two lines")

    def test_no_model_there(self, desk: Path, refuses: Refuses) -> None:
        refuses(apply(model="none"), "no model in none", "lavindit fit")
        refuses(apply(model="pairs"), "no model in pairs", "lavindit fit")
        refuses(apply(model="file"), "file is a file", "folder")

    def test_the_environment_names_no_model(self, refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
        nameless = ["apply", "--task", "colorization", "--query", "photo.png", "--out", "out"]
        monkeypatch.setenv("LAVINDIT_MODEL", "none")
        refuses(nameless, "no model in none")

    def test_model_of_another_kind(self, refuses: Refuses) -> None:
        refuses(apply(model="vae"), "vae holds a VAE alone", "J-DiT")

    def test_damaged_weights(self, desk: Path, refuses: Refuses) -> None:
        for name in ("jdit.safetensors", "stvae.safetensors"):
            content = (desk / "model" / name).read_bytes()
            for damaged in (b"", b"junk" * 9, content[:2000], content[:-4]):
                (desk / "model" / name).write_bytes(damaged)
                refuses(apply(), f"model/{name}", "copy the model again")
            (desk / "model" / name).write_bytes(content)
        (desk / "model" / "jdit.safetensors").unlink()
        refuses(apply(), "model/jdit.safetensors", "copy the model again")

    def test_weights_of_another_model(self, desk: Path, refuses: Refuses) -> None:
        shutil.copy(desk / "model" / "stvae.safetensors", desk / "model" / "jdit.safetensors")
        refuses(apply(), "model/jdit.safetensors does not fit its config.json")

    def test_config_of_another_format(self, desk: Path, refuses: Refuses) -> None:
        path = desk / "model" / "config.json"
        good = path.read_text()
        for text, words in (
            ('{"architectures": ["Other"]}', "not a lavindit model"),
            ("[]", "not a lavindit model"),
            ("{", "cannot read"),
            ("", "cannot read"),
            (good.replace('"format_version": 1', '"format_version": 99'), "update lavindit"),
            (good.replace('"kind": "jdit"', '"kind": "other"'), "update lavindit"),
            (good.replace('"heads": 2', '"heads": 3'), "describes no network"),
            (good.replace('"heads"', '"hats"'), "describes no network"),
        ):
            assert text != good
            path.write_text(text)
            refuses(apply(), "model/config.json", words)

    @pytest.mark.parametrize("info", [{"sampling": {"stepz": 3}}, {"sampling": {"steps": 0}}, {"resolution": "64"}])
    def test_config_with_other_info(self, desk: Path, refuses: Refuses, info: dict[str, Any]) -> None:
        change(desk / "model" / "config.json", info=info)
        refuses(apply(), "error")

    def test_folder_that_cannot_be_written(self, refuses: Refuses) -> None:
        refuses(apply(out="file/out"), "--out file/out: file is a file; name a folder")

    def test_answer_that_exists(self, desk: Path, refuses: Refuses, run_cli: Cli) -> None:
        (desk / "out").mkdir()
        (desk / "out" / "photo_colorization.png").write_text("precious")
        refuses(apply(), "out/photo_colorization.png exists", "--overwrite")
        assert run_cli(apply("--overwrite")).code == 0
        assert (desk / "out" / "photo_colorization.png").read_bytes()[:4] == b"\x89PNG"

    def test_numbers(self, refuses: Refuses) -> None:
        for flag in ("--pairs", "--steps"):
            for value in (0, -1):
                refuses(apply(flag, value), flag.strip("-"), "at least 1")
            refuses(apply(flag, "many"), flag, "'many'", "--help")
        refuses(apply("--threads", 0), "--threads must be at least 1")

    def test_more_pairs_than_there_are(self, refuses: Refuses) -> None:
        refuses(apply("--pairs", 4, task="pairs"), "task pairs can show 3 pairs", "4 were asked for")
        refuses(apply("--pairs", 300), "256 pairs", "300 were asked for")

    def test_corrupt_where_a_picture_alone_is_not_enough(self, refuses: Refuses) -> None:
        refuses(apply("--corrupt", task="depth_estimation"), "depth_estimation needs depth_m")
        refuses(apply("--corrupt", "--pairs", 2, task="pairs"), "pairs needs target")

    def test_arguments(self, refuses: Refuses) -> None:
        refuses(["apply"], "--query", "--out", "lavindit apply --help")
        refuses(["apply", "--query", "photo.png", "--out", "out"], "--task", "--prompt", "lavindit apply --help")
        refuses(apply("--surprise"), "--surprise", "lavindit apply --help")


class TestReport:
    def test_without_a_result(self, desk: Path, refuses: Refuses) -> None:
        for name in ("pairs", "none", "file"):
            refuses(["report", name], f"no result.json in {name}", "run `lavindit test`, `benchmark` or `apply` first")

    def test_with_a_damaged_result(self, desk: Path, refuses: Refuses) -> None:
        (desk / "run").mkdir()
        for text in ("", "{", "[]", '{"schema": 99}', '{"schema": 1}'):
            (desk / "run" / "result.json").write_text(text)
            refuses(["report", "run"], "run/result.json")


class TestFit:
    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ("--trainer.default_root_dir=file/run", ("cannot write to the run folder file/run",)),
            ("--data.source.resolution=60", ("resolution 60", "multiple of")),
            ("--data.tasks=[colorisation]", ("'colorisation'", "did you mean colorization")),
            ("--data.weights={depth: 1}", ("no task 'depth'",)),
            ("--data.min_pairs=5", ("min_pairs 5", "max_pairs 2")),
            ("--data.surprise=1", ("--data.surprise", "lavindit fit --help")),
            ("--data.batch_size=many", ("data.batch_size", "many")),
            ("--model.network.heads=3", ("width 64 must divide by heads 3",)),
            ("--model.network.surprise=3", ("surprise", "lavindit fit --help")),
            ("--model.targets=every_pair", ("every_pair needs network.context_attention: causal",)),
            ("--model.sampling.steps=0", ("steps must be at least 1",)),
            ("--model.sampling.shift=0", ("shift must be a number above 0, got 0",)),
            ("--model.sampling.solver=rk9", ("'rk9'", "euler")),
            ("--trainer.precision=half", ("trainer.precision",)),
            ("--trainer.strategy=fsdp3", ("no strategy 'fsdp3'", "ddp, ", "fsdp2")),
            ("--trainer.strategy=fsdp", ("fsdp needs a GPU", "fsdp2")),
            ("--ckpt_path=none.ckpt", ("no checkpoint none.ckpt", "--ckpt_path")),
        ],
    )
    def test_values(self, refuses: Refuses, option: str, words: tuple[str, ...]) -> None:
        refuses(["fit", *NETWORK, *SMALL, option], *words)

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ("--model.vae=none", ("no model in none", "lavindit fit")),
            ("--data.min_pairs=8 --data.max_pairs=8", ("can show 7 pairs", "8 were asked for")),
            ("--data.eval_pairs=9", ("can show 8 pairs", "9 were asked for")),  # told before the first step
            ("--data.source.photos=none --data.source.photo_share=1", ("no such folder: none",)),
            ("--data.source.photos=pairs --data.source.photo_share=1", ("pairs holds 6 images", "10 or more")),
        ],
    )
    def test_what_shows_only_in_a_run(self, desk: Path, refuses: Refuses, option: str, words: tuple[str, ...]) -> None:
        refuses(["fit", *NETWORK, *SMALL, *option.split()], *words)

    def test_no_model(self, refuses: Refuses) -> None:
        for arguments in (["fit"], ["fit", *SMALL]):
            refuses(arguments, "no model is described", "--config experiment/")
        refuses(["fit", *SMALL, "--model=Nonsense"], "Nonsense")

    def test_config_files(self, desk: Path, refuses: Refuses) -> None:
        refuses(["fit", "--config", "none.yaml"], "no config none.yaml", "experiment/demo_vae.yaml")
        refuses(["fit", "--config", "preset/official1.yaml"], "no config preset/official1.yaml", "preset/official.yaml")
        (desk / "bad.yaml").write_text("a: [\nb")
        refuses(["fit", "--config", "bad.yaml"], "cannot read the config bad.yaml")
        refuses(["fit", "--config"], "--config needs a file")


class TestCheckpoints:
    @pytest.mark.parametrize("command", ["test", "validate", "predict"])
    def test_none_yet(self, refuses: Refuses, command: str) -> None:
        refuses([command, *NETWORK, *SMALL], "no checkpoint run/checkpoints/last.ckpt", "lavindit fit")

    @pytest.mark.parametrize(
        ("says", "words"),
        [
            ({"lavindit_kind": "vae", "lavindit_format": 2}, ("kind 'vae'", "kind 'jdit'")),
            ({"lavindit_kind": "jdit", "lavindit_format": 2}, ("another network", "missing in it")),
            ({"lavindit_kind": "jdit", "lavindit_format": 3}, ("newer lavindit", "update")),
            ({"lavindit_kind": "jdit"}, ("older lavindit", "--restart")),
        ],
    )
    def test_that_does_not_fit(self, desk: Path, refuses: Refuses, says: dict, words: tuple[str, ...]) -> None:
        lightning = {"pytorch-lightning_version": "2.6.0", "state_dict": {}, "epoch": 0, "global_step": 0, "loops": {}}
        torch.save(lightning | says, desk / "other.ckpt")
        for command in ("test", "fit"):
            arguments = [command, *NETWORK, *SMALL, "--ckpt_path=other.ckpt"]
            refuses(arguments, *words)

    @pytest.mark.parametrize("file", [".metadata", "meta.pt"])
    def test_of_shards_that_carries_code(self, desk: Path, refuses: Refuses, file: str) -> None:
        folder = desk / "shards.ckpt"
        folder.mkdir()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        sharded.write_tensors({"state_dict.x": torch.zeros(2)}, folder)
        torch.save({"pytorch-lightning_version": "2.6.0"}, folder / "meta.pt")
        (folder / file).write_bytes(pickle.dumps(Code(desk / "it-ran"), protocol=2))
        refuses(["test", *NETWORK, *SMALL, "--ckpt_path=shards.ckpt"], "shards.ckpt")
        assert not (desk / "it-ran").exists()

    def test_that_is_none(self, desk: Path, refuses: Refuses) -> None:
        (desk / "junk.ckpt").write_text("junk")
        refuses(["test", *NETWORK, *SMALL, "--ckpt_path=junk.ckpt"], "junk.ckpt")
        torch.save({"weights": torch.zeros(2000)}, desk / "cut.ckpt")
        (desk / "cut.ckpt").write_bytes((desk / "cut.ckpt").read_bytes()[:900])
        refuses(["fit", *NETWORK, *SMALL, "--ckpt_path=cut.ckpt"], "cannot read the checkpoint cut.ckpt", "--restart")

    def test_of_another_program(self, desk: Path, refuses: Refuses) -> None:
        torch.save({"weights": torch.zeros(2)}, desk / "other.ckpt")
        refuses(["test", *NETWORK, *SMALL, "--ckpt_path=other.ckpt"], "other.ckpt")

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("command", ["test", "fit"])
    def test_that_carries_code(self, desk: Path, refuses: Refuses, command: str, zipped: bool) -> None:
        content = {"lavindit_kind": "jdit", "state_dict": {}, "code": Code(desk / "it-ran")}
        if zipped:
            torch.save(content, desk / "code.ckpt")
        else:
            (desk / "code.ckpt").write_bytes(pickle.dumps(content, protocol=2))
        arguments = [command, *NETWORK, *SMALL, "--ckpt_path=code.ckpt"]
        refuses(arguments, "code.ckpt")
        assert not (desk / "it-ran").exists()
        pickle.loads(pickle.dumps(Code(desk / "it-ran")))  # the trap does work
        assert (desk / "it-ran").exists()


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_unknown_command(refuses: Refuses) -> None:
    refuses(["fitt"], "'fitt'", "fit", "apply")


def test_a_defect_of_ours_keeps_its_traceback(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lavindit.cli.tasks.all_tasks", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cli(["tasks"])


def test_in_a_process_of_its_own(desk: Path) -> None:
    """What `run_cli` shows is what a shell shows."""
    command = [sys.executable, "-c", "from lavindit.cli import main; main()", "test", *NETWORK, *SMALL]
    ran = subprocess.run(command, cwd=desk, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert re.fullmatch(r"lavindit: error: no checkpoint run/checkpoints/last\.ckpt; .*\n", ran.stderr)
    assert ran.stdout == ""


def test_an_abbreviated_option_is_refused(run_cli):
    ran = run_cli(["fit", "--config", "experiment/demo_vae.yaml", "--trainer.max_step", "3"])
    assert ran.code == 2
    assert "; perhaps trainer.max_steps is meant; " in ran.stderr
