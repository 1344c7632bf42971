"""`lavindit pack`: 16-bit weights whose hashes are verified, and a model card."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import TINY_JDIT, make_tiny_jdit, make_tiny_vae
from lavindit.errors import LavinditError
from lavindit.inference import Engine, PromptFile, load, save_prompt
from lavindit.models import ModelBundle, load_model, save_model
from lavindit.models.pack import pack_model

Cli = Callable[[list[object]], Any]
INFO = {"resolution": 64, "sampling": {"steps": 2}, "tasks": ["colorization", "deraining"], "steps": 700}
# Unit roundoff: half a step of the last bit, relative; and half a step of float16's smallest numbers.
ROUNDOFF = {"float16": (2**-11, 2**-25), "bfloat16": (2**-8, 0.0)}
FILES = ("stvae.safetensors", "jdit.safetensors")


def make_bundle() -> ModelBundle:
    """A causal model whose latent statistics no 16-bit number holds."""
    vae = make_tiny_vae()
    vae.latent_shift.copy_(torch.linspace(-0.7, 0.3, len(vae.latent_shift)))
    vae.latent_scale.copy_(torch.linspace(0.5, 1.3, len(vae.latent_scale)))
    return ModelBundle(vae, make_tiny_jdit(replace(TINY_JDIT, context_attention="causal")), INFO)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(make_bundle(), folder)
    return folder


@pytest.fixture(scope="module")
def packed(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float16; do not write to it."""
    return pack_model(original.parent, tmp_path_factory.mktemp("packed") / "nano")


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """A packed model to be damaged."""
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def query(seed: int = 0) -> Tensor:
    coarse = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (80, 100))


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def flip_a_bit(path: Path) -> None:
    """Of the last weight: the file stays a good one."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(LavinditError) as error:
        load(folder)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


class TestWeights:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_are_within_rounding_and_load_as_float32(self, original: Path, tmp_path: Path, dtype: str) -> None:
        relative, smallest = ROUNDOFF[dtype]
        before, after = load_model(original), load_model(pack_model(original, tmp_path / "out", dtype))
        assert before.jdit is not None
        assert after.jdit is not None
        differ = 0
        for one, other in ((before.vae, after.vae), (before.jdit, after.jdit)):
            rounded = dict(other.named_parameters())
            for key, value in one.named_parameters():
                assert rounded[key].dtype == torch.float32
                gap = (rounded[key] - value).abs()
                assert bool((gap <= value.abs() * relative + smallest).all()), key
                differ += int((gap > 0).sum())
        assert differ > 10_000

    def test_files_hold_halves_and_exact_statistics(self, original: Path, packed: Path) -> None:
        for name in FILES:
            before, after = load_file(original / name), load_file(packed / name)
            assert before.keys() == after.keys()
            for key, value in after.items():
                is_statistic = key in ("latent_shift", "latent_scale")
                assert value.dtype == (torch.float32 if is_statistic else torch.float16), key
                if is_statistic:
                    assert torch.equal(value, before[key])
            assert (packed / name).stat().st_size < 0.6 * (original / name).stat().st_size

    @pytest.mark.parametrize(("dtype", "most"), [("float16", 2e-3), ("bfloat16", 2e-2)])
    def test_answers_are_those_of_the_original_within_rounding(
        self, original: Path, tmp_path: Path, dtype: str, most: float
    ) -> None:
        engines = [load(original), load(pack_model(original, tmp_path / "out", dtype))]
        first, second = (engine.apply_all("colorization", [query()], pairs=2)[0].square for engine in engines)
        other = engines[0].apply_all("colorization", [query(1)], pairs=2)[0].square
        assert 0 < float((first - second).abs().mean()) < most < float((first - other).abs().mean())

    def test_float32_changes_nothing(self, original: Path, tmp_path: Path) -> None:
        engines = [load(original), load(pack_model(original, tmp_path / "out", "float32"))]
        first, second = (engine.apply_all("colorization", [query()], pairs=2)[0].square for engine in engines)
        assert torch.equal(first, second)

    def test_packed_twice_is_packed_once(self, packed: Path, tmp_path: Path) -> None:
        again = pack_model(packed, tmp_path / "again")
        assert config_of(again)["sha256"] == config_of(packed)["sha256"]

    def test_what_the_type_cannot_hold(self, tmp_path: Path) -> None:
        bundle = make_bundle()
        weight = next(bundle.vae.parameters())
        for value, words in ((1e5, "too large for the type; take another --dtype"), (float("nan"), "not finite")):
            weight.data.view(-1)[0] = value
            save_model(bundle, tmp_path / "model")
            with pytest.raises(LavinditError, match=words):
                pack_model(tmp_path / "model", tmp_path / "out")
            assert [path.name for path in tmp_path.iterdir()] == ["model"]
        weight.data.view(-1)[0] = 1e5
        save_model(bundle, tmp_path / "model")
        pack_model(tmp_path / "model", tmp_path / "out", "bfloat16")

    def test_of_a_vae_alone(self, tiny_vae_dir: Path, tmp_path: Path) -> None:
        out = pack_model(tiny_vae_dir, tmp_path / "out")
        assert load_model(out).jdit is None
        assert list(config_of(out)["sha256"]) == ["stvae.safetensors"]


class TestHashes:
    @pytest.mark.parametrize("name", FILES)
    def test_another_file_is_refused_whatever_opens_it(self, copy: Path, tmp_path: Path, name: str) -> None:
        load(copy)
        flip_a_bit(copy / name)
        refused(copy, str(copy / name), "is not the file that its config.json records", "copy the model again")
        with pytest.raises(LavinditError, match="is not the file"):
            pack_model(copy, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_without_hashes_it_loads_as_before(self, original: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(original, tmp_path / "model"))
        assert "sha256" not in config_of(folder)
        flip_a_bit(folder / "jdit.safetensors")
        load(folder)

    def test_missing_and_cut_files(self, copy: Path) -> None:
        path = copy / "jdit.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
        refused(copy, str(path), "copy the model again")
        path.unlink()
        refused(copy, f"cannot read the weights {path}: No such file", "copy the model again")

    @pytest.mark.parametrize("recorded", [{"stvae.safetensors": "0"}, "none", None, {FILES[0]: None, FILES[1]: None}])
    def test_records_that_do_not_tell_are_refused(self, copy: Path, recorded: Any) -> None:
        (copy / "config.json").write_text(json.dumps(config_of(copy) | {"sha256": recorded}))
        refused(copy, str(copy))


class TestPrompts:
    def test_belong_to_the_weights_as_they_are_loaded(self, original: Path, packed: Path, tmp_path: Path) -> None:
        engine = load(packed)
        save_prompt(engine, engine.compile("colorization", pairs=2), tmp_path / "prompt")
        asked = PromptFile(tmp_path / "prompt").load(load(packed))
        once, again = (engine.apply_all(shown, [query()], pairs=2)[0].square for shown in ("colorization", asked))
        torch.testing.assert_close(once, again, rtol=0, atol=1e-4)
        with pytest.raises(LavinditError, match="compiled by another model"):
            PromptFile(tmp_path / "prompt").load(load(original))


class TestCard:
    def test_is_made_of_what_the_model_says(self, packed: Path) -> None:
        text = (packed / "MODEL_CARD.md").read_text()
        engine = load(packed)
        assert text.startswith("# Model card: nano\n")
        for network in (engine.vae, engine.jdit):
            assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in text
        for row in (
            "| Weights | float16; latent statistics float32 |",
            "| Resolution | 64 px |",
            "| Tasks | 2: colorization, deraining |",
            "| Steps | 700 |",
            "| Settings of an answer | steps 2 |",
            "| Licence | not stated |",
        ):
            assert row in text

    def test_may_be_given(self, original: Path, tmp_path: Path) -> None:
        (tmp_path / "card.md").write_text("# Mine\n\nWeiß alles.\n", encoding="utf-8")
        out = pack_model(original, tmp_path / "out", card=tmp_path / "card.md")
        assert (out / "MODEL_CARD.md").read_bytes() == (tmp_path / "card.md").read_bytes()


class TestCommand:
    def test_says_what_it_wrote(self, original: Path, tmp_path: Path, run_cli: Cli) -> None:
        arguments = ["pack", "--model", original.parent, "--out", tmp_path / "out", "--dtype", "bfloat16"]
        ran = run_cli(arguments)
        assert (ran.code, ran.stderr) == (0, "")
        names = ["MODEL_CARD.md", "config.json", "jdit.safetensors", "stvae.safetensors"]
        lines = ran.stdout.splitlines()
        assert [line.split(" (")[0] for line in lines[:-1]] == [f"wrote {tmp_path / 'out' / name}" for name in names]
        assert config_of(tmp_path / "out")["info"] == INFO | {"dtype": "bfloat16"}
        assert run_cli([*arguments, "--overwrite"]).code == 0

    def test_bad_input(self, original: Path, tmp_path: Path, run_cli: Cli) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "diary.txt").write_text("dear")
        (tmp_path / "card.md").write_bytes(b"\xff\xfe\x00")
        good = {"model": original, "out": tmp_path / "out"}
        for wrong, words in (
            ({"model": tmp_path / "none"}, "no model in"),
            ({"out": tmp_path / "mine"}, "exists; choose another --out"),
            ({"card": tmp_path / "none.md"}, "cannot read the card"),
            ({"card": tmp_path / "card.md"}, "it is no UTF-8 text"),
            ({"dtype": "int8"}, "invalid choice: 'int8'"),
        ):
            before = sorted(tmp_path.rglob("*"))
            ran = run_cli(["pack", *(item for key, value in (good | wrong).items() for item in (f"--{key}", value))])
            assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
            assert words in ran.stderr
            assert sorted(tmp_path.rglob("*")) == before
        ran = run_cli(["pack", "--model", original, "--out", tmp_path / "mine", "--overwrite"])
        assert "holds other things than a model" in ran.stderr
        assert (tmp_path / "mine" / "diary.txt").is_file()


def test_engine_keeps_float32(packed: Path) -> None:
    engine = load(packed)
    assert isinstance(engine, Engine)
    assert {parameter.dtype for net in (engine.vae, engine.jdit) for parameter in net.parameters()} == {torch.float32}
    in_half = load(packed, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in in_half.jdit.parameters()} == {torch.bfloat16}
    assert in_half.vae.latent_shift.dtype == torch.float32
