"""`lavindit import-official` and `export-official`: released files to a model directory and back."""

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lavindit
from lavindit.interop import dit_to_state_dict, vae_to_state_dict
from lavindit.interop.options import LATENT_SCALE, LATENT_SHIFT
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig, load_model

Cli = Callable[[list[object]], Any]
Refuses = Callable[..., None]
DIT = JDiTConfig(width=48, depth=2, heads=4, queries_per_kv=2, full_last_block=True)
VAE = STVAEConfig(
    widths=(32, 32, 32, 64), encoder_blocks=1, decoder_blocks=2, mid_blocks=2, patch=1, norm_groups=32, norm="clip"
)
IMPORT = ["import-official", "--vae", "vae.safetensors", "--dit", "dit.safetensors", "--out", "out"]
CONFIG = ["--dit-config", "num_heads=4"]


@pytest.fixture(scope="session")
def released() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """State dicts of a tiny transformer and a tiny VAE in the released layout."""
    torch.manual_seed(0)
    vae = STVAE(VAE)
    vae.latent_shift.fill_(LATENT_SHIFT)
    vae.latent_scale.fill_(LATENT_SCALE)
    dit = JDiT(DIT)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return dit_to_state_dict(dit), vae_to_state_dict(vae)


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: tuple[dict, dict]) -> Path:
    """The working folder of a person with released files."""
    monkeypatch.chdir(tmp_path)
    save_file(released[0], "dit.safetensors")
    save_file(released[1], "vae.safetensors")
    torch.save({"state_dict": released[1], "epoch": 3}, "stvae.pt")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.fixture
def refuses(desk: Path, run_cli: Cli) -> Refuses:
    """Asserts exit code 2, one line that holds the words, and a folder that is left as it was."""

    def check(arguments: list[object], *words: str) -> None:
        before = everything(desk)
        ran = run_cli(arguments)
        assert (ran.code, ran.stdout) == (2, "")
        assert re.fullmatch(r"lavindit: error: [^\n]+\n", ran.stderr)
        for word in words:
            assert word in ran.stderr
        assert everything(desk) == before

    return check


def importing(**files: object) -> list[object]:
    chosen = {"vae": "vae.safetensors", "dit": "dit.safetensors", "out": "out"} | files
    return ["import-official", *(item for key, value in chosen.items() for item in (f"--{key}", value)), *CONFIG]


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    if found.keys() != wanted.keys():
        return False
    return all(found[k].dtype == wanted[k].dtype and torch.equal(found[k], wanted[k]) for k in wanted)


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_exact(self, desk: Path, run_cli: Cli, released: tuple[dict, dict], dtype: torch.dtype) -> None:
        dit, vae = ({key: value.to(dtype) for key, value in part.items()} for part in released)
        save_file(dit, "dit.safetensors", {"config": json.dumps({"num_heads": 4, "drop_path": 0.1})})
        save_file(vae, "vae.safetensors")
        ran = run_cli(IMPORT)
        assert (ran.code, ran.stderr) == (0, "")
        assert "wrote out/jdit.safetensors" in ran.stdout
        ran = run_cli(["export-official", "--model", "out", "--dit", "new/dit2", "--vae", "new/vae2"])
        assert (ran.code, ran.stderr) == (0, "")
        assert same(load_file("new/dit2"), dit)
        assert same(load_file("new/vae2"), vae)
        assert sorted(path.name for path in (desk / "new").iterdir()) == ["dit2", "vae2"]
        # An exported file says what its tensors do not show.
        assert run_cli(["import-official", "--vae", "new/vae2", "--dit", "new/dit2", "--out", "again"]).code == 0
        assert load_model("again").jdit.config == load_model("out").jdit.config  # pyright: ignore
        for name in ("jdit.safetensors", "stvae.safetensors"):
            assert (desk / "again" / name).read_bytes() == (desk / "out" / name).read_bytes()

    def test_of_a_torch_file(self, run_cli: Cli, released: tuple[dict, dict]) -> None:
        assert run_cli(importing(vae="stvae.pt")).code == 0
        assert run_cli(["export-official", "--model", "out", "--vae", "back"]).code == 0
        assert same(load_file("back"), released[1])

    def test_that_reopens_a_torch_file(
        self, run_cli: Cli, released: tuple[dict, dict], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lavindit.interop.sources.REOPEN_BYTES", 200_000)
        self.test_of_a_torch_file(run_cli, released)

    def test_of_tensors_that_share_and_stride(self, run_cli: Cli, released: tuple[dict, dict]) -> None:
        key = "encoder.mid_block.resnets.0.conv1.conv.weight"
        odd = released[1] | {key: released[1][key].transpose(0, 1).contiguous().transpose(0, 1)}
        assert not odd[key].is_contiguous()
        torch.save({"state_dict": odd}, "stvae.pt")
        self.test_of_a_torch_file(run_cli, released)

    def test_of_a_model_without_the_unread_half(self, desk: Path, run_cli: Cli, released: tuple[dict, dict]) -> None:
        assert run_cli(importing()).code == 0
        config = json.loads((desk / "out" / "config.json").read_text())
        config["jdit"]["full_last_block"] = False
        (desk / "out" / "config.json").write_text(json.dumps(config))
        weights = load_file("out/jdit.safetensors")
        cut = {k: v for k, v in weights.items() if not re.match(r"blocks\.1\.context\.(out|mlp)", k)}
        save_file(cut, "out/jdit.safetensors")
        assert run_cli(["export-official", "--model", "out", "--dit", "back"]).code == 0
        back = load_file("back")
        unread = {key for key in back if re.match(r"blocks\.1\.(cond_mlp|joint_attn\.cond_proj)", key)}
        assert len(unread) == 4
        assert same(
            {k: v for k, v in back.items() if k not in unread}, {k: released[0][k] for k in back if k not in unread}
        )


class TestModelDirectory:
    def test_answers(self, run_cli: Cli) -> None:
        run_cli(importing())
        engine = lavindit.load("out")
        assert engine.info == {"preset": "official", "resolution": 512, "source": "dit.safetensors, vae.safetensors"}
        engine = type(engine)(engine.vae, engine.jdit, {"resolution": 16, "sampling": {"steps": 1}})
        query = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        answer = engine.apply("colorization", query, pairs=1)
        assert answer.image.shape == query.shape  # pyright: ignore
        assert answer.image.isfinite().all()  # pyright: ignore

    def test_of_the_vae_alone(self, run_cli: Cli) -> None:
        assert run_cli(["import-official", "--vae", "stvae.pt", "--out", "out"]).code == 0
        bundle = load_model("out")
        assert bundle.jdit is None
        assert (bundle.vae.latent_scale == torch.tensor(LATENT_SCALE)).all()

    def test_loads_in_another_type(self, run_cli: Cli, released: tuple[dict, dict]) -> None:
        run_cli(importing())
        state = torch.get_rng_state()
        bundle = load_model("out", dtype=torch.bfloat16)
        assert torch.equal(torch.get_rng_state(), state)
        parameters = [*bundle.vae.parameters(), *bundle.jdit.parameters()]  # pyright: ignore
        assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
        assert torch.equal(bundle.jdit.target_vector, released[0]["answer_embed"][0].bfloat16())  # pyright: ignore
        assert bundle.vae.latent_scale.dtype == torch.float32
        assert not bundle.vae.training

    def test_dropped_keys_are_told(self, run_cli: Cli, released: tuple[dict, dict]) -> None:
        torch.save({"state_dict": released[1] | {"loss.a": torch.zeros(2), "loss.b": torch.zeros(2)}}, "stvae.pt")
        ran = run_cli([*importing(vae="stvae.pt"), "--ignore", "loss.*"])
        assert ran.code == 0
        assert ran.stdout.startswith("dropped loss.a of stvae.pt\ndropped loss.b of stvae.pt\nwrote ")

    def test_is_replaced_when_asked(self, desk: Path, refuses: Refuses, run_cli: Cli) -> None:
        assert run_cli(importing()).code == 0
        refuses(importing(), "out exists", "--overwrite")
        refuses([*importing(vae="none"), "--overwrite"], "no such file: none")
        (desk / "out" / "jdit.safetensors").write_bytes(b"")
        assert run_cli([*importing(), "--overwrite"]).code == 0
        assert load_model("out").jdit is not None
        (desk / "out" / "notes.txt").write_text("precious")
        refuses([*importing(), "--overwrite"], "out holds other things than a model")
        refuses([*importing(out="dit.safetensors"), "--overwrite"], "choose another --out")


class TestBadFiles:
    @pytest.mark.parametrize("part", ["dit", "vae"])
    def test_damaged(self, desk: Path, refuses: Refuses, part: str) -> None:
        content = (desk / f"{part}.safetensors").read_bytes()
        for damaged in (b"", b"junk" * 9, content[:2000], content[:-4]):
            (desk / "bad").write_bytes(damaged)
            refuses(importing(**{part: "bad"}), "cannot read the weights bad", "copy the file again")
        content = (desk / "stvae.pt").read_bytes()
        (desk / "bad").write_bytes(content[: len(content) // 2])
        refuses(importing(**{part: "bad"}), "cannot read bad", "copy the file again")
        refuses(importing(**{part: "none"}), "no such file: none")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_that_carry_code(self, desk: Path, refuses: Refuses, zipped: bool) -> None:
        content = {"state_dict": {}, "code": Code(desk / "it-ran")}
        if zipped:
            torch.save(content, "code.pt")
        else:
            (desk / "code.pt").write_bytes(pickle.dumps(content))
        for part in ("dit", "vae"):
            refuses(importing(**{part: "code.pt"}), "code.pt", "run code")
        assert not (desk / "it-ran").exists()
        pickle.loads(pickle.dumps(Code(desk / "it-ran")))  # the trap does work
        assert (desk / "it-ran").exists()

    def test_torch_files_of_another_layout(self, refuses: Refuses) -> None:
        for content, words in (
            ({"weights": {"a": torch.zeros(2)}}, "has no entry 'state_dict'"),
            ([torch.zeros(2)], "has no entry 'state_dict'"),
            ({"state_dict": {"a": 3}}, "no tensor under 'a'"),
        ):
            torch.save(content, "other.pt")
            refuses(importing(vae="other.pt"), "other.pt", words)

    def test_keys(self, refuses: Refuses, released: tuple[dict, dict]) -> None:
        dit = released[0]
        save_file(dit | {"ema.decay": torch.zeros(1)}, "bad")
        refuses(importing(dit="bad"), "bad: ema.decay is unknown", "--ignore PATTERN")
        save_file({key: value for key, value in dit.items() if key != "prompt_embed"}, "bad")
        refuses([*importing(dit="bad"), "--ignore", "*"], "bad: prompt_embed is missing")
        save_file({f"module.{key}": value for key, value in dit.items()}, "bad")
        refuses(importing(dit="bad"), "start with 'module.'")
        refuses(importing(dit="vae.safetensors"), "vae.safetensors: ", "more are missing")

    def test_types(self, refuses: Refuses, released: tuple[dict, dict]) -> None:
        key = "blocks.0.joint_attn.x_k.weight"
        save_file(released[0] | {key: released[0][key].half()}, "bad")
        refuses(importing(dit="bad"), key, "F16, F32")
        save_file(released[0] | {"prompt_embed": torch.zeros(1, 48, dtype=torch.int32)}, "bad")
        refuses(importing(dit="bad"), "prompt_embed", "I32")

    def test_sizes(self, refuses: Refuses, released: tuple[dict, dict]) -> None:
        refuses([*importing(), "hidden_size=96"], "prompt_embed has shape [1, 48]", "[1, 96]")
        save_file(released[0], "bad", {"config": json.dumps({"num_heads": 4, "hidden_size": 96})})
        refuses(importing(dit="bad"), "bad: prompt_embed has shape [1, 48]", "[1, 96]")
        torch.manual_seed(0)
        save_file(dit_to_state_dict(JDiT(JDiTConfig(width=48, depth=1, heads=4, latent_channels=8))), "eight")
        refuses(importing(dit="eight"), "vae.safetensors has 16 latent channels, eight takes 8")

    def test_configs(self, refuses: Refuses, released: tuple[dict, dict]) -> None:
        refuses(IMPORT, "dit.safetensors", "give num_heads")
        refuses([*IMPORT, "--dit-config", "num_heads"], "key=value", "'num_heads'")
        refuses([*IMPORT, "--dit-config", "num_heads=four"], "'four'")
        refuses([*IMPORT, "--dit-config", '{"hats": 4}'], "unknown config entry hats")
        refuses([*IMPORT, "--dit-config", "{"], "--dit-config")
        refuses([*IMPORT, *CONFIG, "--vae-config", "temporal_compression_ratio=8"], "must be 4")
        refuses(["import-official", "--vae", "stvae.pt", "--out", "out", *CONFIG], "without --dit")
        save_file(released[0], "bad", {"config": "[4]"})
        refuses(importing(dit="bad"), "no JSON object")

    def test_arguments(self, refuses: Refuses) -> None:
        refuses(["import-official"], "--vae", "--out", "lavindit import-official --help")
        refuses(importing(surprise=1), "--surprise")
        refuses(importing(out="stvae.pt/out"), "cannot write the model to stvae.pt/out")


class TestBadModels:
    @pytest.fixture(autouse=True)
    def _model(self, desk: Path, run_cli: Cli) -> None:
        assert run_cli(importing(out="model")).code == 0

    def test_of_a_newer_version(self, desk: Path, refuses: Refuses) -> None:
        path = desk / "model" / "config.json"
        path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
        refuses(["export-official", "--model", "model", "--vae", "back"], "model/config.json", "update lavindit")

    def test_of_no_model(self, refuses: Refuses) -> None:
        refuses(["export-official", "--model", "none", "--vae", "back"], "no model in none")
        refuses(["export-official", "--model", "model"], "--dit, --vae or both")

    def test_of_damaged_weights(self, desk: Path, refuses: Refuses) -> None:
        path = desk / "model" / "jdit.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
        refuses(["export-official", "--model", "model", "--vae", "v", "--dit", "d"], "model/jdit.safetensors")

    def test_that_the_release_cannot_express(self, desk: Path, refuses: Refuses) -> None:
        path = desk / "model" / "config.json"
        path.write_text(path.read_text().replace('"joint"', '"causal"'))
        refuses(["export-official", "--model", "model", "--vae", "v", "--dit", "d"], "no context_attention causal")

    def test_with_a_vae_alone(self, refuses: Refuses, run_cli: Cli) -> None:
        run_cli(["import-official", "--vae", "stvae.pt", "--out", "alone"])
        refuses(["export-official", "--model", "alone", "--vae", "v", "--dit", "d"], "alone holds a VAE alone")

    def test_files_that_exist(self, desk: Path, refuses: Refuses, run_cli: Cli) -> None:
        export = ["export-official", "--model", "model", "--vae", "v", "--dit"]
        (desk / "d").write_text("precious")
        refuses([*export, "d"], "d exists", "--overwrite")
        refuses([*export, "model/jdit.safetensors", "--overwrite"], "model/jdit.safetensors exists; choose another")
        refuses([*export, "v"], "the same file")
        refuses([*export, "stvae.pt/d"], "cannot write", "stvae.pt/d")
        assert run_cli([*export, "d", "--overwrite"]).code == 0
        assert (desk / "d").stat().st_size > 100_000

    def test_a_full_disk_leaves_nothing(self, desk: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lavindit.interop.convert.write_weights", fill_the_disk)
        refuses(importing(), "cannot write the model to out", "No space left")
        refuses(["export-official", "--model", "model", "--vae", "v"], "cannot write v", "No space left")


def fill_the_disk(path: Path, *_: object) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


MEASURE = """
import resource, sys
from pathlib import Path
from lavindit.interop import export_official, import_official
from lavindit.interop.official import released_dit_pieces
from lavindit.models import JDiTConfig
from lavindit.models.weights import DTYPES, TensorSpec, write_weights
import torch

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

pieces = released_dit_pieces(JDiTConfig(width=384, depth=6, heads=8, full_last_block=True))
specs = {key: TensorSpec("F32", piece.shape) for key, piece in pieces.items()}
write_weights(Path("big"), specs, lambda key: torch.zeros(specs[key].shape))
before = peak()
import_official(Path("vae.safetensors"), Path("big"), Path("out"), dit_config={"num_heads": 8})
export_official(Path("out"), dit=Path("back"))
largest = max(spec.nbytes for spec in specs.values())
print((peak() - before) / largest, sum(spec.nbytes for spec in specs.values()) / largest)
"""


def test_no_more_than_a_few_tensors_are_in_memory(desk: Path) -> None:
    command = [sys.executable, "-c", MEASURE]
    ran = subprocess.run(command, cwd=desk, capture_output=True, text=True, check=True)
    extra, whole = map(float, ran.stdout.split())
    assert whole > 30
    assert extra < 8
