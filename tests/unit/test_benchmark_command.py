"""`lavindit benchmark`: what it measures, where it goes on, what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import make_tiny_jdit, make_tiny_vae
from lavindit.errors import LavinditError
from lavindit.inference import load
from lavindit.models import ModelBundle, load_model, save_model
from lavindit.report.figure import BEST_CONSTANT, MEAN_FILL, QUERY_VAE
from lavindit.report.schema import read_result
from lavindit.task import all_tasks
from lavindit.training import DiTModule, benchmark, dit
from lavindit.training.protocols import PROTOCOLS, Protocol, built_in_tasks, choose_protocol

Cli = Callable[[list[object]], Any]
SMALL: list[object] = ["--n", 2, "--draws", 2, "--pairs", 2]
TASKS: list[object] = ["--task", "colorization", "--task", "inpainting", "--task", "foreground_segmentation"]
EXPECTED = Path(__file__).parents[2] / "benchmarks" / "expected.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model that says how it answers, and that it was trained on colorization alone."""
    info = {
        "resolution": 32,
        "tasks": ["colorization", "inpainting"],
        "max_pairs": 8,
        "sampling": {"steps": 1},
        "task_sampling": {"inpainting": {"steps": 2, "solver": "heun"}},
    }
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_model(ModelBundle(make_tiny_vae(), make_tiny_jdit(), info), folder / "model")
    return folder


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protocols with few training scenes, and a commit that names the code."""
    small = {name: Protocol(name, 2, 2, 2, scenes=12, scene_clips=12) for name in PROTOCOLS}
    monkeypatch.setattr("lavindit.training.protocols.PROTOCOLS", small)
    monkeypatch.setattr(benchmark, "current_commit", lambda: "abc1234")
    monkeypatch.setattr("lavindit.training.results.current_commit", lambda: "abc1234")


@pytest.fixture
def bench(run_cli: Cli, model: Path) -> Cli:
    def run(options: list[object]) -> Any:
        return run_cli(["benchmark", "quick", "--model", model, *options])

    return run


class TestProtocol:
    def test_pairs_follow_the_model(self) -> None:
        assert choose_protocol("quick", {}).pairs == 4
        assert choose_protocol("quick", {"max_pairs": 7}).pairs == 4
        assert choose_protocol("full", {"max_pairs": 12}).pairs == 8
        assert choose_protocol("quick", {"max_pairs": 8}, pairs=2).pairs == 2

    def test_a_changed_one_says_so(self) -> None:
        assert choose_protocol("quick", {"max_pairs": 8}).name == "quick"
        assert choose_protocol("quick", {}, n=3, draws=None, seed=5).name == "quick with images 3, clips 3, seed 5"
        assert choose_protocol("quick", {}, draws=2).name == "quick"  # what it says anyway

    def test_the_full_one_asks_every_task_often_enough(self) -> None:
        monkey = {"quick": PROTOCOLS["quick"], "full": PROTOCOLS["full"]}
        assert min(monkey["full"].images, monkey["full"].clips) >= 200
        assert monkey["full"].draws >= 3
        assert {"foreground_segmentation", "optical_flow_estimation"} <= set(built_in_tasks())
        assert set(built_in_tasks()) <= set(all_tasks())

    @pytest.mark.parametrize("changes", [{"n": 0}, {"pairs": 0}, {"draws": 0}, {"seed": -1}])
    def test_values_that_make_no_sense(self, changes: dict[str, int]) -> None:
        with pytest.raises(LavinditError, match=f"--{next(iter(changes))} must be at least"):
            choose_protocol("quick", {}, **changes)

    def test_unknown(self) -> None:
        with pytest.raises(LavinditError, match="unknown protocol 'slow'; there are quick, full"):
            choose_protocol("slow", {})


class TestRun:
    @pytest.fixture(scope="class")
    def kept(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("kept") / "run"

    def test_measures_every_task(self, bench: Cli, kept: Path) -> None:
        ran = bench([*TASKS, "--out", kept])
        assert ran.code == 0
        assert all(" of 12 answers" in line for line in ran.stderr.splitlines())  # on a slow machine
        result = read_result(kept / "result.json")
        assert [task.task for task in result.tasks] == ["colorization", "inpainting", "foreground_segmentation"]
        assert {(task.n, task.draws, task.pairs) for task in result.tasks} == {(2, 2, 8)}
        assert [task.held_out for task in result.tasks] == [False, False, True]
        assert result.settings["protocol"]["name"] == "quick"
        assert (result.settings["protocol"]["pairs"], result.settings["precision"]) == (8, "32-true")
        assert result.data["source"]["resolution"] == 32
        assert (result.model["name"], len(result.model["fingerprint"])) == ("tiny", 64)
        assert str(kept) not in json.dumps(result.to_json()["model"])
        for task in result.tasks:
            assert task.headline.draw_std is not None
            assert task.headline.baselines[BEST_CONSTANT] is not None
            assert "chosen on 12 training targets" in task.constant
        inpainting = result.tasks[1]
        assert inpainting.headline.baselines[MEAN_FILL] is not None
        assert inpainting.parameters["share"] == 0.5
        assert all((kept / f"report.{kind}").is_file() for kind in ("md", "html"))
        assert "share" in (kept / "report.md").read_text()

    def test_each_task_is_sampled_as_the_model_says(self, kept: Path) -> None:
        said = {t.task: (t.sampling["steps"], t.sampling["solver"]) for t in read_result(kept / "result.json").tasks}
        assert said == {
            "colorization": (1, "euler"),
            "inpainting": (2, "heun"),
            "foreground_segmentation": (1, "euler"),
        }

    def test_clips_and_the_query_through_the_vae(self, bench: Cli, tmp_path: Path) -> None:
        ran = bench(
            [
                "--n",
                1,
                "--draws",
                1,
                "--pairs",
                1,
                "--task",
                "deraining",
                "--task",
                "frame_prediction",
                "--out",
                tmp_path,
            ]
        )
        assert ran.code == 0, ran.stderr
        rain, clip = read_result(tmp_path / "result.json").tasks
        assert rain.headline.baselines[QUERY_VAE] is not None
        assert clip.n == clip.pairs == 1
        assert clip.headline.baselines[BEST_CONSTANT] is not None
        assert clip.headline.draw_std is None

    def test_the_same_again(self, bench: Cli, kept: Path, tmp_path: Path) -> None:
        bench([*TASKS, "--out", tmp_path])
        again, before = ([task.figures for task in read_result(p / "result.json").tasks] for p in (tmp_path, kept))
        assert again == before
        ran = bench([])
        assert (ran.code, "--out RUN is missing" in ran.stderr) == (2, True)

    def test_side_by_side_measures_the_same(self, bench: Cli, kept: Path, tmp_path: Path) -> None:
        clip: list[object] = ["--task", "frame_prediction"]
        ran = bench([*TASKS, *clip, "--workers", 2, "--threads", 2, "--out", tmp_path])
        assert (ran.code, "GPU" in ran.stderr) == (0, False)
        found, before = read_result(tmp_path / "result.json"), read_result(kept / "result.json")
        assert [task.task for task in found.tasks] == [*(task.task for task in before.tasks), "frame_prediction"]
        for one, other in zip(found.tasks, before.tasks, strict=False):
            assert one.headline.answer == pytest.approx(other.headline.answer, rel=1e-3)
            assert one.strips == other.strips
        assert (found.commit, found.settings["workers"], before.settings["workers"]) == ("abc1234", 2, 1)
        assert "--workers 2" in found.command
        assert not any("missing" in note for note in found.notes if "tasks" in note)

    def test_draws_differ_in_noise_alone_where_pairs_are_fixed(
        self, bench: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[str, Tensor]] = []
        answer = dit.answer_batch

        def spy(*arguments: Any, **options: Any) -> Tensor:
            found = answer(*arguments, **options)
            seen.append((arguments[2].sample_ids[0], found))
            return found

        monkeypatch.setattr(dit, "answer_batch", spy)
        monkeypatch.setattr(type(all_tasks()["colorization"]), "context", "fixed:0,1")
        assert bench(["--task", "colorization", "--n", 1, "--out", tmp_path]).code == 0
        (first, one), (second, other) = seen
        assert second == f"{first}/draw1"
        assert not torch.equal(one, other)


class TestResume:
    def test_goes_on_after_the_last_task(self, bench: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tested: list[str] = []
        test = benchmark.Benchmark._test

        def spy(self: Any, trainer: Any, name: str, task: Any) -> None:
            if name == "inpainting" and "inpainting" not in tested:
                tested.append(name)
                raise KeyboardInterrupt
            tested.append(name)
            test(self, trainer, name, task)

        monkeypatch.setattr(benchmark.Benchmark, "_test", spy)
        ran = bench([*SMALL, *TASKS, "--out", tmp_path])
        assert ran.code == 130
        assert f"1 of 3 tasks are kept in {tmp_path}" in ran.stderr
        half = read_result(tmp_path / "result.json")
        assert [task.task for task in half.tasks] == ["colorization"]
        assert any("2 of 3 tasks are missing" in note for note in half.notes)
        ran = bench([*SMALL, *TASKS, "--out", tmp_path])
        assert (ran.code, "1 tasks are measured already" in ran.stderr) == (0, True)
        assert tested == ["colorization", "inpainting", "inpainting", "foreground_segmentation"]
        whole = read_result(tmp_path / "result.json")
        assert whole.tasks[0] == half.tasks[0]
        assert not any("missing" in note for note in whole.notes if "tasks" in note)
        assert bench([*SMALL, *TASKS, "--out", tmp_path]).code == 0
        assert len(tested) == 4

    def test_another_benchmark_is_not_replaced(
        self,
        bench: Cli,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        run_cli: Cli,
        tiny_model_dir: Path,
        model: Path,
    ) -> None:
        one: list[object] = ["--task", "colorization", "--out", tmp_path]
        assert bench([*SMALL, *one]).code == 0
        before = (tmp_path / "result.json").read_bytes()

        def refused(ran: Any, what: str) -> None:
            assert ran.code == 2
            assert re.fullmatch(rf"lavindit: error: .*{what}.*--restart.*\n", ran.stderr)
            assert (tmp_path / "result.json").read_bytes() == before

        refused(bench(one), "the protocol may differ: name is quick with .* there, quick here")
        refused(run_cli(["benchmark", "quick", "--model", tiny_model_dir, *SMALL, *one]), "data")  # of another size
        bundle = load_model(model / "model")
        other = ModelBundle(bundle.vae, bundle.jdit, bundle.info | {"sampling": {"steps": 3}})
        save_model(other, tmp_path / "other")
        refused(
            run_cli(["benchmark", "quick", "--model", tmp_path / "other", *SMALL, *one]), "sampling of colorization"
        )
        assert bundle.jdit is not None
        with torch.no_grad():
            next(bundle.jdit.parameters()).add_(1)
        save_model(bundle, tmp_path / "other")
        refused(run_cli(["benchmark", "quick", "--model", tmp_path / "other", *SMALL, *one]), "model")
        monkeypatch.setattr(benchmark, "current_commit", lambda: "def5678")
        refused(bench([*SMALL, *one]), "code")
        monkeypatch.setattr(benchmark, "current_commit", lambda: "abc1234-dirty")
        refused(bench([*SMALL, *one]), "code")
        assert bench([*SMALL, *one, "--draws", 1, "--restart"]).code == 0
        assert read_result(tmp_path / "result.json").settings["protocol"]["draws"] == 1


class TestExpected:
    def test_written_met_and_missed(self, bench: Cli, tmp_path: Path) -> None:
        path, run = tmp_path / "expected.yaml", tmp_path / "run"
        assert bench([*SMALL, *TASKS, "--out", run, "--write-expected", path]).code == 0
        ran = bench([*SMALL, *TASKS, "--out", run, "--expect", path])
        assert (ran.code, "all figures are as" in ran.stdout) == (0, True)
        text = path.read_text()
        value = re.search(r"colorization:\n +metric: psnr\n +value: ([\d.]+)", text)
        assert value is not None
        path.write_text(text.replace(f"value: {value[1]}", f"value: {float(value[1]) + 9}"))
        ran = bench([*SMALL, *TASKS, "--out", run, "--expect", path])
        assert ran.code == 1
        assert re.search(r"not as expected: colorization: psnr is .* expected", ran.stderr)
        ran = bench([*SMALL, "--task", "inpainting", "--out", run, "--expect", path, "--restart"])
        assert ran.code == 0, ran.stderr  # only what was asked for
        ran = bench([*SMALL, *TASKS, "--out", tmp_path / "new", "--expect", tmp_path / "none.yaml"])
        assert (ran.code, (tmp_path / "new").exists()) == (2, False)

    @pytest.mark.parametrize(
        "tasks", [["depth_estimation"], pytest.param([], id="all", marks=pytest.mark.slow)], ids=["depth", "all"]
    )
    def test_the_released_model_gives_its_figures_again(
        self, run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[str]
    ) -> None:
        monkeypatch.setattr("lavindit.training.protocols.PROTOCOLS", PROTOCOLS)
        chosen = [f"--task={task}" for task in tasks]
        base = ["benchmark", "quick", "--model", "nano", "--out", tmp_path / "run", "--expect", EXPECTED]
        ran = run_cli([*base, *chosen])
        assert ran.code == 0, ran.stderr


class TestCompare:
    def test_two_runs(self, bench: Cli, run_cli: Cli, tmp_path: Path) -> None:
        for name in "ab":
            assert bench([*SMALL, "--task", "colorization", "--out", tmp_path / name]).code == 0
        compared: list[object] = ["benchmark", "--compare", tmp_path / "a", tmp_path / "b" / "result.json"]
        ran = run_cli([*compared, "--out", tmp_path / "page.md"])
        assert (ran.code, ran.stderr) == (0, "")
        assert "within noise" in ran.stdout
        assert "| colorization |" in (tmp_path / "page.md").read_text()
        assert bench([*SMALL, "--seed", 1, "--task", "colorization", "--out", tmp_path / "c"]).code == 0
        ran = run_cli(["benchmark", "--compare", tmp_path / "a", tmp_path / "c"])
        assert (ran.code, ran.stderr.count("\n")) == (2, 1)
        assert "protocol" in ran.stderr

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--model", "x"], "leave model out"),
            (["--expect", "x"], "leave expect out"),
            (["--out", "."], "names a Markdown file"),
        ],
    )
    def test_nothing_is_tested(self, run_cli: Cli, tmp_path: Path, options: list[object], words: str) -> None:
        ran = run_cli(["benchmark", "--compare", tmp_path, tmp_path, *options])
        assert (ran.code, ran.stderr.count("\n")) == (2, 1)
        assert words in ran.stderr
        assert "no result.json" in run_cli(["benchmark", "--compare", tmp_path, tmp_path]).stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--n", 0], "--n must be at least 1"),
        (["--workers", 0], "--workers must be at least 1"),
        (["--task", "colorisation"], "did you mean colorization"),
        (["--task", "colorization", "--task", "colorization"], "two tasks are named colorization"),
        (["--pairs", 40, "--task", "colorization"], "can show"),
        (["--model", "nowhere"], "no model in nowhere"),
        (["--device", "abacus"], "cannot use the device"),
    ],
)
def test_mistakes_leave_nothing(bench: Cli, tmp_path: Path, options: list[object], words: str) -> None:
    ran = bench([*options, "--out", tmp_path / "run"])
    assert ran.code == 2
    assert ran.stderr.count("\n") == 1
    assert words in ran.stderr
    assert not (tmp_path / "run").exists()


def test_a_test_of_a_model_directory_follows_its_task_sampling(model: Path) -> None:
    config = load(model).jdit.config
    module = DiTModule(str(model / "model"), config, init_from=str(model / "model"))
    assert module.sampling_of("inpainting").steps == module.sampling.steps  # nothing is loaded yet
    module.build_network()
    assert (module.sampling_of("inpainting").steps, module.sampling_of("inpainting").solver) == (2, "heun")
    assert module.sampling_of("colorization") == module.sampling
    stated = DiTModule(str(model / "model"), config, init_from=str(model / "model"), task_sampling={})
    stated.build_network()
    assert stated.sampling_of("inpainting") == stated.sampling
    module._started_with = {"inpainting": {"solver": "magic"}}
    with pytest.raises(LavinditError, match="magic"):
        module.sampling_of("inpainting")
