"""Models that come with the package are found by name, wherever a model is named."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

import lavindit
from conftest import TINY_JDIT, TINY_VAE, make_tiny_jdit, make_tiny_vae
from lavindit.cli.tools import find_model
from lavindit.data.latents import vae_hash
from lavindit.errors import LavinditError
from lavindit.models import ModelBundle, load_model, model_folder, released_models, save_model
from lavindit.models.pack import pack_model
from lavindit.models.released import released_folder
from lavindit.pictures import save_picture
from lavindit.training import DiTModule, VAEModule

Cli = Callable[[list[object]], Any]
CAUSAL = replace(TINY_JDIT, context_attention="causal")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(
        ModelBundle(make_tiny_vae(), make_tiny_jdit(CAUSAL), {"resolution": 32, "sampling": {"steps": 1}}), folder
    )
    return folder


@pytest.fixture(scope="module")
def shelf(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where released models lie: `nano` alone."""
    folder = tmp_path_factory.mktemp("released")
    pack_model(model, folder / "nano")
    (folder / "unfinished").mkdir()
    return folder


@pytest.fixture
def desk(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and one released model."""
    monkeypatch.setattr("lavindit.models.released.RELEASED", shelf)
    monkeypatch.delenv("LAVINDIT_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    save_picture(torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(0)), tmp_path / "photo.png")
    return tmp_path


@pytest.mark.usefixtures("desk")
class TestNames:
    def test_stand_for_folders_of_the_package(self, shelf: Path) -> None:
        assert released_models() == ("nano",)
        assert model_folder("nano") == model_folder(Path("nano")) == released_folder("nano") == shelf / "nano"
        assert model_folder("./nano") == Path("nano")
        assert model_folder("unfinished") == Path("unfinished")

    def test_what_lies_in_the_working_folder_comes_first(self, model: Path, desk: Path, shelf: Path) -> None:
        save_model(load_model(model), desk / "nano" / "model")
        assert model_folder("nano") == Path("nano/model")
        assert "dtype" not in lavindit.load("nano").info
        assert find_model(None) == released_folder("nano") == shelf / "nano"

    def test_a_folder_without_a_model_is_not_passed_over(self, desk: Path) -> None:
        (desk / "nano").mkdir()
        with pytest.raises(LavinditError, match=r"no model in nano .*hides the released model.*rename it"):
            lavindit.load("nano")

    def test_unknown_ones(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with pytest.raises(LavinditError) as error:
            lavindit.load("nono")
        said = str(error.value)
        assert "no model in nono" in said
        assert "released are: nano" in said
        assert "RUN/model" in said
        with pytest.raises(LavinditError, match=r"^no model in a/nano \(config.json is missing\)"):
            lavindit.load("a/nano")
        with pytest.raises(LavinditError, match="no released model 'nono'; released are: nano"):
            released_folder("nono")
        monkeypatch.setattr("lavindit.models.released.RELEASED", tmp_path / "none")
        with pytest.raises(LavinditError, match="no model comes with this installation"):
            lavindit.load("nano")

    def test_are_verified(self, shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("lavindit.models.released.RELEASED", tmp_path / "shelf")
        pack_model(shelf / "nano", tmp_path / "shelf" / "nano")
        path = tmp_path / "shelf" / "nano" / "jdit.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
        with pytest.raises(LavinditError, match="install lavindit again if the model came with it"):
            lavindit.load("nano")


@pytest.mark.usefixtures("desk")
class TestOrder:
    def test_of_the_default(self, shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("LAVINDIT_MODEL", "mine")
        assert find_model(Path("named")) == Path("named")
        assert find_model(None) == Path("mine")
        monkeypatch.delenv("LAVINDIT_MODEL")
        assert find_model(None) == shelf / "nano"
        monkeypatch.setattr("lavindit.models.released.RELEASED", tmp_path / "none")
        with pytest.raises(LavinditError, match="no released model 'nano'; no model comes with this installation"):
            find_model(None)


@pytest.mark.usefixtures("desk")
class TestEverywhere:
    def test_apply_and_compile(self, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = ["apply", "--task", "colorization", "--query", "photo.png", "--pairs", 2]
        answers = []
        for out, options in (("named", ["--model", "nano"]), ("default", [])):
            ran = run_cli([*asked, "--out", out, *options])
            assert (ran.code, ran.stderr) == (0, "")
            answers.append(Path(out, "photo_colorization.png").read_bytes())
        monkeypatch.setenv("LAVINDIT_MODEL", "nano")
        assert run_cli([*asked, "--out", "variable"]).code == 0
        answers.append(Path("variable/photo_colorization.png").read_bytes())
        assert len(set(answers)) == 1
        ran = run_cli(["compile", "--task", "colorization", "--pairs", 2, "--out", "prompt", "--model", "nano"])
        assert (ran.code, ran.stderr) == (0, "")
        ran = run_cli(["apply", "--prompt", "prompt", "--query", "photo.png", "--out", "out"])
        assert (ran.code, ran.stderr) == (0, "")

    def test_budget(self, run_cli: Cli, shelf: Path) -> None:
        base = ["tasks", "colorization", "--budget", "--samples", 1]
        default, named = (run_cli([*base, *options]) for options in ([], ["--model", "nano"]))
        assert (default.code, named.code) == (0, 0)
        assert f"VAE: {shelf / 'nano'}" in default.stdout
        assert "at 32 px" in default.stdout
        assert default.stdout.split("VAE: ")[0] == named.stdout.split("VAE: ")[0]

    def test_training(self, shelf: Path) -> None:
        module = DiTModule(vae="nano", init_from="nano", network=CAUSAL)
        found = load_model("nano")
        assert found.jdit is not None
        for one, other in ((module.build_network(), found.jdit), (module.frozen_vae(), found.vae)):
            assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
        started = VAEModule(init_from="nano", network=TINY_VAE).build_network().state_dict()
        assert all(torch.equal(value, started[key]) for key, value in found.vae.state_dict().items())
        assert vae_hash("nano") == sha256((shelf / "nano" / "stvae.safetensors").read_bytes()).hexdigest()

    def test_a_run_folder_is_a_vae_and_a_start_too(self, model: Path) -> None:
        module = DiTModule(vae=str(model.parent), init_from=str(model.parent), network=CAUSAL)
        weights = load_model(model).jdit.state_dict()  # pyright: ignore
        assert all(torch.equal(value, weights[key]) for key, value in module.build_network().state_dict().items())

    def test_pack(self, run_cli: Cli, desk: Path) -> None:
        assert run_cli(["pack", "--model", "nano", "--out", "copy"]).code == 0
        assert (desk / "copy" / "jdit.safetensors").is_file()
