"""`lavindit apply --truth`: an answer to a person's own picture is scored against its true values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lavindit.codecs import DepthCodec
from lavindit.errors import LavinditError
from lavindit.inference import Engine, load
from lavindit.inference.scorer import score_application
from lavindit.metrics.functional.depth import depth_errors
from lavindit.pictures import load_picture, save_picture
from lavindit.task import get_task

Cli = Callable[[list[object]], Any]
HEIGHT, WIDTH = 80, 100
DEPTH = get_task("depth_estimation")


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Engine:
    return load(tiny_model_dir)


def depth_m() -> Tensor:
    """A slope from 1 m to 9 m, nothing known in the first ten columns, nonsense in the next ten."""
    slope = torch.linspace(1, 9, WIDTH).repeat(HEIGHT, 1)
    slope[:, :10], slope[:, 10:20] = torch.nan, -1.0
    return slope


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("photo", "other")):
        coarse = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
        save_picture(torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH)), tmp_path / f"{name}.png")
    np.save(tmp_path / "depth.npy", depth_m().numpy())
    return tmp_path


@pytest.fixture
def apply(desk: Path, run_cli: Cli, tiny_model_dir: Path) -> Callable[..., Any]:
    """Runs `lavindit apply`."""

    def run(*options: object, task: str = "depth_estimation", out: str = "out") -> Any:
        fixed = ["--query", "photo.png", "--out", out, "--model", tiny_model_dir, "--pairs", 2]
        return run_cli(["apply", "--task", task, *fixed, *options])

    return run


@pytest.fixture
def refuses(desk: Path, apply: Callable[..., Any]) -> Callable[..., None]:
    """Asserts exit code 2 and one line with these words, and that nothing was written."""

    def check(words: str, *options: object, **named: str) -> None:
        before = sorted(desk.rglob("*"))
        ran = apply(*options, **named)
        assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert words in ran.stderr
        assert sorted(desk.rglob("*")) == before

    return check


def applications(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "result.json").read_text())["applications"]


def rmse_of(folder: Path) -> list[float]:
    found = [{f["metric"]: f["answer"] for f in application["figures"]} for application in applications(folder)]
    return [figures["rmse"] for figures in found]


class TestSquare:
    def test_truth_lies_where_the_query_lies(self, engine: Engine, desk: Path) -> None:
        """100x80 becomes 64x51 pixels in the middle of the square; each takes the value nearest to its centre."""
        (answer,) = engine.apply_all(DEPTH, [desk / "photo.png"], pairs=2, truths=[desk / "depth.npy"])
        query, truth = answer.episode.query, depth_m()
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[6:57] = True
        for row, column in ((6, 0), (6, 13), (30, 12), (30, 13), (56, 63), (40, 40)):
            place = int((row - 6 + 0.5) * HEIGHT / 51), int((column + 0.5) * WIDTH / 64)
            is_known = bool(truth[place].isfinite() and truth[place] > 0)
            assert bool(query.valid[0, 0, row, column]) == is_known
            if is_known:
                assert float(query.native[0, 0, row, column]) == float(truth[place])
        assert not bool(query.valid[0, 0, ~inside].any())
        assert float(query.valid[0, 0, inside].float().mean()) == pytest.approx(0.8, abs=0.02)
        assert torch.equal(query.target, DepthCodec().encode(query.native, query.valid))

    def test_stretched(self, engine: Engine, desk: Path) -> None:
        truths = [desk / "depth.npy"]
        (answer,) = engine.apply_all(DEPTH, [desk / "photo.png"], pairs=2, truths=truths, fit="stretch")
        assert float(answer.episode.query.valid.float().mean()) == pytest.approx(0.8, abs=0.02)

    def test_the_truth_itself_is_a_perfect_answer(self, engine: Engine, desk: Path) -> None:
        (answer,) = engine.apply_all(DEPTH, [desk / "photo.png"], pairs=2, truths=[desk / "depth.npy"])
        perfect = {f.metric: f.answer for f in score_application(DEPTH, answer.episode, answer.episode.query.target)}
        assert perfect["abs_rel"] == pytest.approx(0, abs=1e-4)
        assert perfect["delta1"] == 1
        worse = {f.metric: f.answer for f in score_application(DEPTH, answer.episode, answer.square)}
        assert worse["abs_rel"] > 0.05

    def test_the_answer_is_what_it_is_without_a_truth(self, engine: Engine, desk: Path) -> None:
        query = [desk / "photo.png"]
        one, other = (
            engine.apply_all(DEPTH, query, pairs=2, truths=truths)[0].square for truths in ([], [desk / "depth.npy"])
        )
        assert torch.equal(one, other)

    def test_frames_of_a_clip_each_have_theirs(self, engine: Engine, desk: Path) -> None:
        frames = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        truth = torch.arange(1.0, 4.0).view(1, 3, 1, 1).expand(1, 3, 64, 64)
        np.save(desk / "clip.npy", truth.numpy())
        (answer,) = engine.apply_all(DEPTH, [frames], pairs=2, truths=[desk / "clip.npy"])
        assert torch.equal(answer.episode.query.native, truth)
        np.save(desk / "clip.npy", truth[:, :2].numpy())
        with pytest.raises(LavinditError, match=r"clip.npy has 2 frames, the answer to \w+ 3"):
            engine.apply_all(DEPTH, [frames], pairs=2, truths=[desk / "clip.npy"])

    def test_motion_out_of_a_stretch_is_not_scored(self, engine: Engine, desk: Path) -> None:
        """A clip of 26 frames is asked in two stretches: of each the last frame's motion leads out of it."""
        frames = torch.rand(3, 26, 32, 64, generator=torch.Generator().manual_seed(1))
        np.save(desk / "flow.npy", np.ones((2, 26, 32, 64)))
        (answer,) = engine.apply_all(
            "optical_flow_estimation", [frames], pairs=1, steps=1, resolution=32, truths=[desk / "flow.npy"]
        )
        query = answer.episode.query
        known = query.valid.flatten(2).any(2)[0]
        assert (~known).nonzero().flatten().tolist() == [12, 25]
        assert float(query.native[0, 0, 16, 16]) == 0.5  # half the size, half the motion


class TestCommand:
    def test_figures_are_printed_and_reported(self, desk: Path, apply: Callable[..., Any], engine: Engine) -> None:
        ran = apply("--truth", "depth.npy", "--report", "run")
        assert (ran.code, ran.stderr) == (0, "")
        (application,) = applications(desk / "run")
        figures = {figure["metric"]: figure["answer"] for figure in application["figures"]}
        assert set(figures) == {"abs_rel", "delta1", "rmse"}
        (answer,) = engine.apply_all(DEPTH, ["photo.png"], pairs=2, truths=["depth.npy"])
        query = answer.episode.query
        by_hand = depth_errors(DepthCodec().decode(answer.square).double(), query.native.double(), query.valid)
        assert list(figures.values()) == pytest.approx(by_hand.tolist(), rel=1e-6)
        assert f"  abs_rel {figures['abs_rel']:.4g}, the mean of the pairs' targets 0." in ran.stdout
        truth = load_picture(desk / "run" / application["strip"]["truth"])
        assert float((truth - query.target).abs().max()) <= 0.5 / 255 + 1e-6

    def test_one_a_query_in_their_order(self, desk: Path, apply: Callable[..., Any]) -> None:
        np.save("twice.npy", 2 * depth_m().numpy())
        ran = apply("--query", "other.png", "--truth", "depth.npy", "twice.npy")
        assert (ran.code, ran.stderr) == (0, "")
        rmse = rmse_of(desk / "out")
        ran = apply("--query", "other.png", "--truth", "twice.npy", "--truth", "depth.npy", out="turned")
        turned = rmse_of(desk / "turned")
        assert rmse[0] * 2 == pytest.approx(turned[0], rel=1e-3)  # aligned to twice the depth, the error doubles
        assert rmse[1] == pytest.approx(2 * turned[1], rel=1e-3)

    def test_pictures_are_truths_of_pictures(self, desk: Path, apply: Callable[..., Any]) -> None:
        """A sharp photograph of what was photographed blurred: no --corrupt."""
        ran = apply("--truth", "other.png", task="motion_deblurring")
        assert (ran.code, ran.stderr) == (0, "")
        (application,) = applications(desk / "out")
        shown = {name: load_picture(desk / "out" / application["strip"][name]) for name in ("query", "truth", "answer")}
        shown = {name: picture[:, :, 6:57] for name, picture in shown.items()}  # without the padding
        mse = {name: float((shown[name] - shown["truth"]).square().mean()) for name in ("query", "answer")}
        figure = next(figure for figure in application["figures"] if figure["metric"] == "mse")
        assert figure["answer"] == pytest.approx(mse["answer"], rel=0.02)
        assert figure["baselines"]["query"] == pytest.approx(mse["query"], rel=0.02)

    def test_native_says_what_it_wrote(self, desk: Path, apply: Callable[..., Any]) -> None:
        ran = apply("--native")
        assert "wrote out/photo_depth_estimation.npy (shape [1, 1, 80, 100], unit m)\n" in ran.stdout
        (desk / "out" / "photo_depth_estimation.png").unlink()
        ran = apply("--native")
        assert (ran.code, ran.stderr.count("\n")) == (2, 1)
        assert "out/photo_depth_estimation.npy exists" in ran.stderr


class TestBadInput:
    def test_how_many(self, refuses: Callable[..., None]) -> None:
        refuses("queries: 1, truths: 2", "--truth", "depth.npy", "depth.npy")
        refuses("queries: 2, truths: 1", "--query", "other.png", "--truth", "depth.npy")
        refuses("one of --corrupt and --truth", "--truth", "depth.npy", "--corrupt", task="colorization")

    def test_files(self, desk: Path, refuses: Callable[..., None]) -> None:
        np.save("turned.npy", depth_m().T.numpy())
        np.save("words.npy", np.array([["a"] * WIDTH] * HEIGHT))
        np.save("two.npy", depth_m().expand(2, HEIGHT, WIDTH).numpy())
        np.save("nothing.npy", np.full((HEIGHT, WIDTH), np.nan))
        np.save("millimetres.npy", 1000 * depth_m().numpy())
        (desk / "text.npy").write_text("no array")
        for name, words in (
            ("none.npy", "cannot read none.npy as an array"),
            ("text.npy", "cannot read text.npy as an array"),
            ("none.png", "no such image: none.png"),
            ("turned.npy", "turned.npy is 80x100, its query photo 100x80; give a truth of the same size"),
            ("words.npy", "give numbers [H, W]"),
            ("two.npy", "takes [1, T, H, W]"),
            ("nothing.npy", "nothing.npy holds no value that is known"),
            ("millimetres.npy", "codec 'depth' holds 0.5 to 30 m; give that unit"),
        ):
            refuses(words, "--truth", name)

    def test_tasks_whose_answers_are_things(self, refuses: Callable[..., None]) -> None:
        refuses("depth.npy cannot be the truth of this task", "--truth", "depth.npy", task="object_detection")

    def test_folders_that_are_files_are_told_before_a_model_is_loaded(
        self, desk: Path, run_cli: Cli, refuses: Callable[..., None]
    ) -> None:
        (desk / "file").write_text("mine")
        refuses("--out file: file is a file; name a folder", out="file")
        refuses("--out file/deep/er: file is a file", out="file/deep/er")
        refuses("--report file: file is a file", "--report", "file")
        arguments = ["apply", "--task", "colorization", "--query", "photo.png", "--out", "file", "--model", "none"]
        assert "file is a file" in run_cli(arguments).stderr
