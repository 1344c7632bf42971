"""`lavindit compile | append`, and `lavindit apply --prompt`: the pairs are read once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TINY_JDIT, make_tiny_jdit, make_tiny_vae
from lavindit.inference import Engine
from lavindit.models import ModelBundle, save_model
from lavindit.pictures import load_picture, save_picture
from tiny_prompts import picture, write_pairs

Cli = Callable[[list[object]], Any]


@pytest.fixture(scope="module")
def models(engines: dict[str, Engine], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model directory for each mode, 32 px and two steps; do not write to them."""
    folders = {mode: tmp_path_factory.mktemp(mode) / "model" for mode in engines}
    for mode, folder in folders.items():
        save_model(ModelBundle(engines[mode].vae, engines[mode].jdit, engines[mode].info), folder)
    return folders


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAVINDIT_MODEL", raising=False)
    for name in "ab":
        save_picture(picture(ord(name), 40, 50), tmp_path / f"{name}.png")
    write_pairs(tmp_path / "negative", width=50)
    for frame in range(5):
        save_picture(picture(3, 40, 50), tmp_path / "clip" / f"{frame}.png")
    return tmp_path


@pytest.fixture
def run(desk: Path, run_cli: Cli) -> Callable[..., str]:
    """Runs a command, expects it to go well, gives what it says."""

    def check(*arguments: object) -> str:
        ran = run_cli(list(arguments))
        assert (ran.code, ran.stderr) == (0, "")
        return ran.stdout

    return check


@pytest.fixture
def refuses(desk: Path, run_cli: Cli) -> Callable[..., None]:
    """Asserts that a command ends with 2 and one line that holds the words, and leaves every file as it was."""

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in desk.rglob("*") if path.is_file()}

    def check(arguments: list[object], *words: str) -> None:
        before = everything()
        ran = run_cli(arguments)
        assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert ran.stderr.startswith("lavindit: error: ")
        for word in words:
            assert word in ran.stderr
        assert everything() == before

    return check


@pytest.mark.parametrize("mode", ["prefix", "causal"])
def test_a_prompt_answers_as_its_task(desk: Path, run: Callable[..., str], models: dict[str, Path], mode: str) -> None:
    model = ("--model", models[mode])
    said = run("compile", "--task", "negative", "--pairs", 3, "--seed", 2, "--out", "new/p", *model)
    size = (desk / "new" / "p").stat().st_size / 1e6
    assert said.startswith(f"wrote new/p: negative, 3 pairs, {size:.1f} MB, in ")
    assert str(models[mode]) in said
    queries = ("--query", "a.png", "b.png", "--guidance", 2, *model)
    run("apply", "--task", "negative", "--pairs", 3, "--seed", 2, "--out", "task", *queries)
    run("apply", "--prompt", "new/p", "--out", "prompt", *queries)
    for name in ("a_negative.png", "b_negative.png"):
        task, prompt = (load_picture(desk / out / name) for out in ("task", "prompt"))
        assert task.shape == (3, 1, 40, 50)
        assert float((task - prompt).abs().max()) <= 1.01 / 255
    results = [json.loads((desk / out / "result.json").read_text()) for out in ("task", "prompt")]
    assert results[0]["settings"] == results[1]["settings"]
    assert [len(result["applications"][0]["strip"]["context"]) for result in results] == [3, 3]


def test_sampling_may_be_chosen_with_each_query(desk: Path, run: Callable[..., str], models: dict[str, Path]) -> None:
    model = ("--model", models["causal"])
    run("compile", "--task", "negative", "--pairs", 1, "--out", "p", *model)
    answer = ("apply", "--prompt", "p", "--query", "a.png", *model)
    for out, options in (("own", ()), ("seed", ("--seed", 5)), ("steps", ("--steps", 3)), ("same", ("--pairs", 1))):
        run(*answer, "--out", out, *options)
    own, seed, steps, same = ((desk / out / "a_negative.png").read_bytes() for out in ("own", "seed", "steps", "same"))
    assert own == same
    assert len({own, seed, steps}) == 3
    assert json.loads((desk / "steps" / "result.json").read_text())["settings"]["steps"] == 3


def test_append(desk: Path, run: Callable[..., str], models: dict[str, Path]) -> None:
    model = ("--model", models["causal"])
    run("compile", "--task", "negative", "--context", "fixed:0,1,2", "--out", "whole", *model)
    run("compile", "--task", "negative", "--context", "fixed:0,1", "--out", "p", *model)
    more = ("--input", "negative/2_input.png", "--target", "negative/2_target.png")
    said = run("append", "--prompt", "p", *more, "--out", "p", "--overwrite", *model)  # in its own place
    assert said.startswith("wrote p: negative, 3 pairs, ")
    for name in ("p", "whole"):
        run("apply", "--prompt", name, "--query", "a.png", "--out", f"out_{name}", *model)
    appended, whole = (load_picture(desk / f"out_{name}" / "a_negative.png") for name in ("p", "whole"))
    assert float((appended - whole).abs().max()) <= 1.01 / 255


def test_a_registered_task(desk: Path, run: Callable[..., str], models: dict[str, Path]) -> None:
    model = ("--model", models["prefix"])
    assert "colorization, 1 pair, " in run("compile", "--task", "colorization", "--pairs", 1, "--out", "p", *model)
    save_picture(picture(1, 32, 32), desk / "square.png")
    said = run("apply", "--prompt", "p", "--query", "square.png", "--out", "out", "--corrupt", *model)
    assert "psnr" in said


def test_what_cannot_be_compiled(
    desk: Path, refuses: Callable[..., None], models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk / "there").write_text("mine")

    def check(*words: str, task: str = "negative", mode: str = "causal", out: str = "p", options: Any = ()) -> None:
        refuses(["compile", "--task", task, "--out", out, "--model", models[mode], *options], *words)

    check("context_attention: joint", mode="joint", options=("--pairs", 2))
    check("pairs must be at least 1, got 0", options=("--pairs", 0))
    check("can show 4 pairs", "5 were asked for", options=("--pairs", 5))
    check("there exists; choose another --out or add --overwrite", out="there")
    check("negative is a folder", out="negative", options=("--overwrite",))
    check("unknown task 'positive'", task="positive")
    check("chosen by the query (context nearest)", options=("--context", "nearest"))
    check("unknown preset 'new'", options=("--preset", "new"))
    check("multiple of 16", options=("--resolution", 40))
    check("no model in", options=("--model", "negative"))
    monkeypatch.setattr("lavindit.inference.prompt.free_bytes", lambda device: 2000)
    check("is free: fewer --pairs or a smaller --resolution", options=("--pairs", 2))


def test_what_a_prompt_cannot_answer(
    desk: Path, run: Callable[..., str], refuses: Callable[..., None], models: dict[str, Path]
) -> None:
    run("compile", "--task", "negative", "--pairs", 1, "--out", "p", "--model", models["causal"])
    whole = (desk / "p").read_bytes()
    (desk / "half").write_bytes(whole[: len(whole) // 2])
    (desk / "bent").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (desk / "new").write_bytes(whole.replace(b'"version":"1"', b'"version":"9"', 1))

    def check(*words: str, prompt: str = "p", mode: str = "causal", options: Any = ()) -> None:
        fixed = ["--prompt", prompt, "--query", "a.png", "--out", "out", "--model", models[mode]]
        refuses(["apply", *fixed, *options], *words)

    check("context_attention: causal, this one has prefix", mode="prefix")
    check("context_attention: joint", mode="joint")
    check("--precision float32", options=("--precision", "bfloat16"))
    (desk / "nothing").touch()
    check("cannot read the prompt half: it is cut short; compile it again with `lavindit compile`", prompt="half")
    check("cannot read the prompt nothing: it is empty; compile it again", prompt="nothing")
    check("clip is a folder, no prompt", prompt="clip")
    check("the prompt bent is damaged", prompt="bent")
    check("new is a prompt of version 9", prompt="new")
    check("cannot read the prompt a.png: it is no safetensors file; compile it again", prompt="a.png")
    check("no such prompt: gone", prompt="gone")
    check("compiled with pairs 1; compile another one for pairs 2", options=("--pairs", 2))
    check("compiled with resolution 32", options=("--resolution", 64))
    check("pairs are chosen already", options=("--context", "all"))
    check("guidance must be a finite number", options=("--guidance", "nan"))
    check("no plugin's; leave --plugin out", options=("--plugin", "mine.py"))
    check("not allowed with argument", options=("--task", "negative"))
    asked = ["--query", "a.png", "--out", "out", "--model", models["causal"]]
    refuses(["apply", *asked], "--task --prompt is required")
    refuses(["apply", "--task", "p", *asked], "p is a file, but no plugin", "a compiled prompt is asked with --prompt")
    save_model(
        ModelBundle(make_tiny_vae(), make_tiny_jdit(replace(TINY_JDIT, context_attention="causal", depth=1))), "m"
    )
    check("compiled by another model", options=("--model", "m"))

    def add(*words: str, shown: str = "a.png", mode: str = "causal", out: str = "q") -> None:
        fixed = ["--prompt", "p", "--input", shown, "--target", "b.png", "--model", models[mode]]
        refuses(["append", *fixed, "--out", out], *words)

    add("takes one picture, clip is a clip of 5 frames", shown="clip")
    add("gone.png", shown="gone.png")
    add("p exists; choose another --out or add --overwrite", out="p")
    add("context_attention: causal", mode="prefix")


def test_a_note_comes_after_what_went_well_and_never_before_a_refusal(
    desk: Path, run_cli: Cli, refuses: Callable[..., None], engines: dict[str, Engine]
) -> None:
    engine = engines["causal"]
    save_model(ModelBundle(engine.vae, engine.jdit, engine.info | {"tasks": ["colorization"]}), "m")
    compiling = ["compile", "--task", "negative", "--out", "p", "--model", "m"]
    applying = ["apply", "--task", "negative", "--out", "out", "--model", "m", "--query"]
    refuses([*compiling, "--pairs", 50], "can show 4 pairs", "50 were asked for")
    refuses([*applying, "a.png", "--pairs", 50], "can show 4 pairs")
    refuses([*applying, "gone.png"], "gone.png")
    for command in ([*compiling, "--pairs", 2], [*applying, "a.png", "--pairs", 2]):
        ran = run_cli(command)
        assert (ran.code, ran.stderr.count("\n")) == (0, 1)
        assert ran.stderr.startswith("lavindit: note: this model was not trained on negative")


def test_a_prefix_model_appends_nothing(
    desk: Path, run: Callable[..., str], refuses: Callable[..., None], models: dict[str, Path]
) -> None:
    model = ["--model", models["prefix"]]
    run("compile", "--task", "negative", "--pairs", 1, "--out", "p", *model)
    more = ["--input", "a.png", "--target", "b.png", "--out", "q"]
    refuses(["append", "--prompt", "p", *more, *model], "appended to a causal model's prompt alone")
