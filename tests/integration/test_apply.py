"""`lavindit apply` and `Engine.apply`: a person's own pictures in, answers of the same size out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import lavindit
from lavindit.data.degradations import find_holes
from lavindit.inference import Engine
from lavindit.pictures import load_picture, save_picture
from lavindit.types import Prediction

Cli = Callable[[list[object]], Any]


def picture(height: int = 80, width: int = 100, seed: int = 0) -> Tensor:
    """Coloured blocks, so that an answer has something to depend on."""
    coarse = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (1, height, width)[1:], mode="nearest")


@pytest.fixture
def engine(tiny_model_dir: Path) -> Engine:
    return lavindit.load(tiny_model_dir)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_picture(picture(), tmp_path / "photo.png")
    for number in range(5):
        shown = picture(40, 50, seed=10 + number)
        save_picture(shown, tmp_path / "negative" / f"{number}_input.png")
        save_picture(1 - shown, tmp_path / "negative" / f"{number}_target.png")
    return tmp_path


@pytest.fixture
def apply(desk: Path, run_cli: Cli, tiny_model_dir: Path) -> Callable[..., str]:
    """Runs `lavindit apply` and expects it to go well; gives what it says."""

    def run(*options: object, task: str = "colorization", query: str = "photo.png", out: str = "out") -> str:
        fixed = ["--task", task, "--query", query, "--out", out, "--model", tiny_model_dir]
        ran = run_cli(["apply", *fixed, *options])
        assert (ran.code, ran.stderr) == (0, "")
        return ran.stdout

    return run


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


class TestCommand:
    @pytest.mark.parametrize("task", ["colorization", "depth_estimation", "foreground_segmentation"])
    def test_answer_has_the_size_of_the_query(self, desk: Path, apply: Callable[..., str], task: str) -> None:
        said = apply(task=task)
        assert f"wrote out/photo_{task}.png" in said
        with Image.open(desk / "out" / f"photo_{task}.png") as image:
            assert (image.format, image.size, image.mode) == ("PNG", (100, 80), "RGB")
            assert len(image.getcolors(8000) or range(8000)) > 10

    def test_the_same_seed_gives_the_same_bytes(self, desk: Path, apply: Callable[..., str]) -> None:
        for out, seed in (("a", 3), ("b", 3), ("c", 4)):
            apply("--seed", seed, out=out)
        first, again, other = ((desk / out / "photo_colorization.png").read_bytes() for out in "abc")
        assert first == again
        assert first != other

    def test_several_tasks_answer_as_each_alone(self, desk: Path, apply: Callable[..., str]) -> None:
        said = apply("--task", "edge_detection", "--corrupt", out="both")
        assert said.count("wrote both/photo_") == 2
        for task in ("colorization", "edge_detection"):
            apply("--corrupt", task=task, out="alone")
            name = f"photo_{task}.png"
            assert (desk / "both" / name).read_bytes() == (desk / "alone" / name).read_bytes()
        both, alone = (read(desk / out / "result.json")["applications"] for out in ("both", "alone"))
        assert [(a["task"], a["figures"]) for a in both] == [(a["task"], a["figures"]) for a in alone]

    def test_several_tasks_are_answered_all_or_none(self, desk: Path, run_cli: Cli, tiny_model_dir: Path) -> None:
        asked = ["--query", "photo.png", "--out", "out", "--model", tiny_model_dir, "--corrupt"]
        ran = run_cli(["apply", "--task", "colorization", "--task", "depth_estimation", *asked])
        assert (ran.code, ran.stderr.count("\n"), (desk / "out").exists()) == (2, 1, False)
        ran = run_cli(["apply", "--task", "colorization", "--task", "colorization", *asked])
        assert (ran.code, "two tasks are named colorization" in ran.stderr) == (2, True)

    def test_a_folder_of_five_pairs_is_a_task(self, desk: Path, apply: Callable[..., str]) -> None:
        apply("--pairs", 5, task="negative")
        assert load_picture(desk / "out" / "photo_negative.png").shape == (3, 1, 80, 100)
        (application,) = read(desk / "out" / "result.json")["applications"]
        assert application["task"] == "negative"
        assert application["figures"] == []
        assert application["strip"]["truth"] is None
        context = application["strip"]["context"]
        assert len(context) == 5
        for shown, target in context:
            difference = load_picture(desk / "out" / target) - (1 - load_picture(desk / "out" / shown))
            assert float(difference.abs().mean()) < 0.01

    def test_corrupt_scores_the_answer(self, desk: Path, apply: Callable[..., str]) -> None:
        save_picture(picture(96, 96), desk / "square.png")  # square: nothing is padded, all is scored
        apply("--corrupt", query="square.png")
        (application,) = read(desk / "out" / "result.json")["applications"]
        figures = {figure["metric"]: figure for figure in application["figures"]}
        assert set(figures) == {"psnr", "ssim", "mse"}
        strip = application["strip"]
        truth, query, answer = (load_picture(desk / "out" / strip[name]) for name in ("truth", "query", "answer"))
        assert float((query[0] - query[2]).abs().max()) == 0
        assert float((truth[0] - truth[2]).abs().max()) > 0.1
        for figure, shown in ((figures["mse"]["answer"], answer), (figures["mse"]["baselines"]["query"], query)):
            assert figure == pytest.approx(float((shown - truth).square().mean()), rel=0.02)
        assert figures["psnr"]["answer"] == pytest.approx(-10 * np.log10(figures["mse"]["answer"]), abs=1e-3)

    def test_native_writes_metres(self, desk: Path, apply: Callable[..., str]) -> None:
        apply("--native", task="depth_estimation")
        depth_m = np.load(desk / "out" / "photo_depth_estimation.npy")
        assert depth_m.shape == (1, 1, 80, 100)
        assert 0.5 - 1e-4 <= depth_m.min() < depth_m.max() <= 30 + 1e-3
        gray = load_picture(desk / "out" / "photo_depth_estimation.png").mean(0)[0].double().numpy()
        assert np.abs(0.5 * 60**gray - depth_m[0, 0]).max() < 30 * 0.02

    def test_steps_are_taken(self, desk: Path, apply: Callable[..., str]) -> None:
        for out, options in (("own", []), ("two", ["--steps", 2]), ("three", ["--steps", 3])):
            apply(*options, out=out)
        own, two, three = ((desk / out / "photo_colorization.png").read_bytes() for out in ("own", "two", "three"))
        assert own == two
        assert own != three

    def test_answers_add_up_in_one_report(self, desk: Path, apply: Callable[..., str], run_cli: Cli) -> None:
        apply("--report", "run")
        apply("--report", "run", task="negative")
        apply("--report", "run", "--overwrite", "--seed", 1)
        answers = {one["task"]: one["asked"] for one in read(desk / "run" / "result.json")["applications"]}
        assert {task: asked["seed"] for task, asked in answers.items()} == {"colorization": 1, "negative": 0}
        assert answers["negative"]["pairs"] == 4
        ran = run_cli(["report", "run"])
        assert (ran.code, ran.stderr) == (0, "")
        page = (desk / "run" / "report.html").read_text()
        assert f"by {answers['negative']['model']}, 4 pairs (random), answered in" in page

    def test_model_of_the_environment(
        self, desk: Path, run_cli: Cli, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAVINDIT_MODEL", str(tiny_model_dir.parent))  # a run folder will do
        ran = run_cli(["apply", "--task", "colorization", "--query", "photo.png", "--out", "out"])
        assert (ran.code, ran.stderr) == (0, "")


class TestPresets:
    @pytest.fixture
    def released(self, desk: Path) -> str:
        """A folder named and filled as people name and fill them: sizes differ, suffixes too."""
        folder = desk / "my task v1.5"
        for number, (name, suffix) in enumerate((("a.b c", ".PNG"), ("d_e_f", ".jpg"), ("3", ".png"))):
            for part, size in (("input", (40, 50 + number)), ("target", (70, 30))):
                path = folder / f"{name}_{part}.png"
                save_picture(picture(*size, seed=number), path)
                path.rename(path.with_name(f"{name}_{part}{suffix}"))  # a PNG inside, whatever its name
        return folder.name

    def test_official(self, desk: Path, apply: Callable[..., str], released: str, engine: Engine) -> None:
        said = apply("--preset", "official", "--resolution", 64, "--native", task=released)
        assert "stretched to 64x64" in said
        answer = load_picture(desk / "out" / "photo_my task v1.5.png")
        assert answer.shape == (3, 1, 64, 64)
        native = np.load(desk / "out" / "photo_my task v1.5.npy")
        assert np.array_equal(native, answer.numpy())  # the file holds the truncated values
        result = read(desk / "out" / "result.json")
        expected = {"preset": "official", "pairs": 4, "replacement": True, "resolution": 64, "fit": "stretch"}
        expected |= {"rounding": "truncate", "steps": 19, "solver": "euler", "guidance": 1.5, "shift": 1.0, "seed": 0}
        expected |= {"grid": "official", "posterior": "sample", "context": "random", "precision": "float32"}
        expected |= {"start": "noise", "times": None, "detail": False}
        assert result["settings"] == expected
        assert len(result["applications"][0]["strip"]["context"]) == 4  # of three pairs

        again = engine.apply(desk / released, desk / "photo.png", preset="official", resolution=64)
        assert isinstance(again, Prediction)
        assert torch.equal(again.image, answer)

    def test_options_come_before_the_preset(self, desk: Path, apply: Callable[..., str], released: str) -> None:
        preset = ("--preset", "official", "--resolution", 32)
        apply(*preset, "--steps", 1, "--posterior", "mean", "--guidance", 1, "--pairs", 2, task=released)
        settings = read(desk / "out" / "result.json")["settings"]
        assert (settings["pairs"], settings["resolution"]) == (2, 32)
        assert (settings["steps"], settings["posterior"], settings["guidance"]) == (1, "mean", 1.0)
        said = apply("--preset", "official", "--resolution", 32, "--fit", "pad", "--steps", 1, task="negative", out="b")
        assert "(100x80, resized and padded to 32x32 to be answered)" in said
        assert load_picture(desk / "b" / "photo_negative.png").shape == (3, 1, 80, 100)

    def test_a_model_that_names_its_preset(self, desk: Path, run_cli: Cli, tiny_model_dir: Path, released: str) -> None:
        shutil.copytree(tiny_model_dir, desk / "model")
        config = read(desk / "model" / "config.json") | {"info": {"preset": "official", "resolution": 32}}
        (desk / "model" / "config.json").write_text(json.dumps(config))
        fixed = ["apply", "--task", released, "--query", "photo.png", "--model", "model"]
        assert run_cli([*fixed, "--out", "own"]).code == 0
        assert load_picture(desk / "own" / f"photo_{released}.png").shape == (3, 1, 32, 32)
        ran = run_cli([*fixed, "--out", "ours", "--preset", "default"])
        assert (ran.code, "differ in size" in ran.stderr) == (2, True)  # ours keeps aspect ratios, and these differ

    def test_paper(self, desk: Path, apply: Callable[..., str]) -> None:
        apply("--preset", "paper")
        settings = read(desk / "out" / "result.json")["settings"]
        assert (settings["steps"], settings["grid"], settings["posterior"]) == (20, "uniform", "mean")
        assert load_picture(desk / "out" / "photo_colorization.png").shape == (3, 1, 80, 100)

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--preset", "newest", "unknown preset 'newest'; there are default, paper, official"),
            ("--resolution", "60", "resolution 60 must be a multiple of 16"),
            ("--fit", "squeeze", "'squeeze'"),
            ("--posterior", "mode", "'mode'"),
            ("--precision", "float8", "'float8'"),
            ("--device", "abacus", "cannot use the device 'abacus'"),
        ],
    )
    def test_what_is_not_there(
        self, desk: Path, run_cli: Cli, tiny_model_dir: Path, option: str, value: str, words: str
    ) -> None:
        fixed = ["apply", "--task", "colorization", "--query", "photo.png", "--out", "out", "--model", tiny_model_dir]
        ran = run_cli([*fixed, option, value])
        assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert words in ran.stderr
        assert not (desk / "out").exists()

    def test_defaults_are_ours(self, engine: Engine) -> None:
        settings = engine.settings
        assert (settings.preset, settings.fit, settings.rounding, settings.replacement) == (
            "default",
            "pad",
            "nearest",
            False,
        )
        assert (settings.pairs, settings.resolution, settings.sampling.steps) == (4, 64, 2)
        assert (settings.sampling.grid, settings.sampling.posterior) == ("uniform", "mean")


class TestEngine:
    def test_a_batch_equals_one_by_one(self, engine: Engine) -> None:
        queries = [picture(seed=seed) for seed in range(3)]
        together, split = (
            [answer.prediction for answer in engine.apply_all("depth_estimation", queries, pairs=2, batch_size=size)]
            for size in (3, 1)
        )
        for one, other in zip(together, split, strict=True):
            assert one.sample_id == other.sample_id
            torch.testing.assert_close(one.image, other.image, rtol=0, atol=1e-4)
        assert float((together[0].image - together[1].image).abs().mean()) > 1e-3

    def test_files_in_a_batch_equal_each_alone(self, engine: Engine, tmp_path: Path) -> None:
        """Noise belongs to the file's name, not to its place among the queries."""
        files = [tmp_path / f"{name}.png" for name in "abc"]
        for seed, path in enumerate(files):
            save_picture(picture(seed=seed), path)
        together = engine.apply("colorization", files, pairs=2)
        assert isinstance(together, list)
        for path, one in zip(files, together, strict=True):
            alone = engine.apply("colorization", path, pairs=2)
            assert isinstance(alone, Prediction)
            torch.testing.assert_close(one.image, alone.image, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("task", ["inpainting", "motion_deblurring"])
    def test_corrupted_queries_do_not_depend_on_their_company(self, engine: Engine, tmp_path: Path, task: str) -> None:
        files = [tmp_path / f"{name}.png" for name in "ab"]
        for path in files:
            save_picture(picture(64, 64), path)
        together = engine.apply_all(task, files, pairs=1, corrupt=True)
        alone = engine.apply_all(task, files[1:], pairs=1, corrupt=True)
        assert torch.equal(together[1].episode.query.input, alone[0].episode.query.input)

    @pytest.mark.parametrize("corrupt", [False, True])
    def test_what_a_query_shows_stays_at_its_own_size(self, engine: Engine, corrupt: bool) -> None:
        whole = 0.6 + 0.4 * picture(100, 140)
        holed = whole.clone()
        holed[..., 30:80, 40:90] = 0.5
        (answer,) = engine.apply_all("inpainting", [whole if corrupt else holed], pairs=1, corrupt=corrupt)
        kept = (answer.prediction.image == whole).all(0)[0]
        if corrupt:  # half the side of the square, wherever it lies
            assert 0.5 < float(kept.float().mean()) < 0.9
        else:
            assert not kept[30:80, 40:90].any()
            assert float(kept.sum()) > 0.8 * (100 * 140 - 50 * 50)  # but a seam, where the square has mixed pixels
        asked = answer.episode.query.input
        shown = ~find_holes(asked)
        assert torch.equal(answer.square[:, shown[0]], asked[:, shown[0]])
        (square,) = engine.apply_all("inpainting", [holed], pairs=1, fit="stretch")
        shown, asked = ~find_holes(square.episode.query.input), square.episode.query.input
        assert torch.equal(square.prediction.image[:, shown[0]], asked[:, shown[0]])

    @pytest.mark.parametrize("size", [(64, 64), (37, 91), (8, 8), (130, 20)])
    def test_any_size(self, engine: Engine, size: tuple[int, int]) -> None:
        prediction = engine.apply("normal_estimation", picture(*size), pairs=1)
        assert isinstance(prediction, Prediction)
        assert prediction.image.shape == (3, 1, *size)
        assert prediction.native.shape == (3, 1, *size)
        assert 0 <= float(prediction.image.min()) <= float(prediction.image.max()) <= 1

    def test_the_answer_depends_on_the_pairs_and_on_the_query(self, engine: Engine, desk: Path) -> None:
        task, query = str(desk / "negative"), picture(64, 64)
        first = engine.apply(task, query, pairs=3)
        other_query = engine.apply(task, 1 - query, pairs=3)
        for number in range(5):
            path = desk / "negative" / f"{number}_target.png"
            save_picture(1 - load_picture(path), path)
        other_pairs = engine.apply(task, query, pairs=3)
        for other in (other_query, other_pairs):
            assert float((first.image - other.image).abs().mean()) > 1e-4

    def test_the_seed_also_draws_the_noise(self, engine: Engine, tmp_path: Path) -> None:
        for part in ("input", "target"):
            save_picture(picture(64, 64), tmp_path / f"only_{part}.png")  # one pair: the context is always the same
        first, again, other = (engine.apply(tmp_path, picture(), pairs=1, seed=seed).image for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert float((first - other).abs().mean()) > 1e-4

    def test_a_colour_photograph_is_asked_for_as_gray(self, engine: Engine) -> None:
        (answer,) = engine.apply_all("colorization", [picture()], pairs=1)
        red, _, blue = answer.episode.query.input
        assert torch.equal(red, blue)

    def test_guidance_of_one_is_none(self, engine: Engine) -> None:
        plain, one, three = (
            engine.apply("colorization", picture(), pairs=1, guidance=guidance).image for guidance in (None, 1.0, 3.0)
        )
        assert torch.equal(plain, one)
        assert not torch.equal(plain, three)


class TestSave:
    def test_picture_and_native(self, tmp_path: Path) -> None:
        image = (picture(6, 5) * 255).round() / 255
        native = torch.linspace(1, 2, 30).view(1, 1, 6, 5)
        prediction = Prediction("depth_estimation", "mine", image, native, "m", 0.1)
        prediction.save(tmp_path / "new" / "a.png")
        assert torch.equal(load_picture(tmp_path / "new" / "a.png"), image)
        assert not (tmp_path / "new" / "a.npy").exists()
        prediction.save(str(tmp_path / "b.png"), native=True)
        assert np.array_equal(np.load(tmp_path / "b.npy"), native.numpy())
