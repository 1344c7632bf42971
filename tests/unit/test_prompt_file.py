"""Prompts on disk: they come back as they were, and to no other model."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import make_tiny_engine
from lavindit.codecs import DepthCodec
from lavindit.errors import LavinditError
from lavindit.inference import Engine, PromptFile, load_prompt, save_prompt
from lavindit.inference.prompt_file import digest, fingerprint
from lavindit.models.weights import WeightsFile, write_weights
from lavindit.task import FolderTask, all_tasks, get_task
from tiny_prompts import image, in_bfloat16, picture

PLUGIN = """from lavindit_tasks.colorization import Colorization


class Mine(Colorization):
    name = "mine"
"""


class TestFile:
    @pytest.fixture
    def saved(self, engines: dict[str, Engine], negatives: Path, tmp_path: Path) -> Path:
        save_prompt(engines["causal"], engines["causal"].compile(negatives, pairs=2), tmp_path / "p")
        return tmp_path / "p"

    @pytest.fixture
    def refuses(self, engines: dict[str, Engine], saved: Path) -> Callable[..., None]:
        def check(*words: str, engine: Engine | None = None) -> None:
            with pytest.raises(LavinditError) as error:
                load_prompt(engine or engines["causal"], saved)
            assert "\n" not in str(error.value)
            for word in words:
                assert word in str(error.value)

        return check

    def rewrite(self, path: Path, change: Callable[[dict[str, str], dict[str, Tensor]], None]) -> None:
        file = WeightsFile(path)
        metadata, tensors = dict(file.metadata), {key: file.read(key) for key in file.specs}
        change(metadata, tensors)
        write_weights(path, file.specs, tensors.__getitem__, metadata)

    def test_says_what_it_is(self, saved: Path, negatives: Path) -> None:
        file = WeightsFile(saved)
        assert (file.metadata["format"], file.metadata["version"]) == ("lavindit-prompt", "1")
        said = json.loads(file.metadata["prompt"])
        assert said["task"] | {"named": ""} == {
            "kind": "folder",
            "named": "",
            "name": "negative",
            "version": 1,
            "context": "random",
            "input_frames": 1,
            "target_frames": 1,
        }
        assert (said["codec"]["name"], said["dtype"], said["frames"]) == ("identity", "float32", {"pairs": 4})
        assert (said["context_attention"], said["settings"]["resolution"]) == ("causal", 32)
        assert file.specs["pictures.input"].shape == (2, 3, 1, 32, 32)

    def test_pictures_of_the_pairs_are_kept_in_8_bits(self, engines: dict[str, Engine], saved: Path) -> None:
        for pair in load_prompt(engines["causal"], saved).pairs:
            assert float((pair.input - (1 - pair.target)).abs().max()) <= 1.01 / 255

    def test_a_folder_that_is_gone_is_not_missed(
        self, engines: dict[str, Engine], saved: Path, negatives: Path, tmp_path: Path
    ) -> None:
        engine = engines["causal"]
        here = load_prompt(engine, saved)
        assert isinstance(here.task, FolderTask)
        shutil.rmtree(negatives)
        gone = load_prompt(engine, saved)
        assert torch.equal(image(engine.apply(gone, picture(9))), image(engine.apply(here, picture(9))))
        with pytest.raises(LavinditError, match=r"are compiled, and .* is gone"):
            engine.compile(gone.task, pairs=1)
        with pytest.raises(LavinditError, match="needs target"):
            engine.apply_all(gone, [picture(1)], corrupt=True)
        save_prompt(engine, engine.append(gone, picture(1), picture(2)), tmp_path / "more")  # and is stored again
        assert len(load_prompt(engine, tmp_path / "more").pairs) == 3

    def test_a_folder_that_has_changed_is_told(
        self, saved: Path, negatives: Path, refuses: Callable[..., None]
    ) -> None:
        (negatives / "task.yaml").write_text("version: 2\n")
        refuses("version 1 of the task negative", "here is version 2", "compile it again")

    def test_a_plugin_file(self, engines: dict[str, Engine], negatives: Path, tmp_path: Path) -> None:
        engine, path = engines["causal"], tmp_path / "mine.py"
        path.write_text(PLUGIN)
        named = replace(engine.compile(negatives, pairs=1), task=get_task(path), named=str(path))
        save_prompt(engine, named, tmp_path / "p")
        again = load_prompt(engine, tmp_path / "p", path)
        assert (again.task.name, again.named) == ("mine", str(path))
        with pytest.raises(LavinditError, match="cannot say where the task mine is found"):
            save_prompt(engine, replace(named, named=None), tmp_path / "q")
        with pytest.raises(LavinditError, match=r"plugin file .*mine\.py; name it with --plugin"):
            load_prompt(engine, tmp_path / "p")  # a file does not choose what code is run
        other = tmp_path / "other.py"
        other.write_text(PLUGIN.replace("mine", "other"))
        with pytest.raises(LavinditError, match=r"of the task mine, .*other\.py holds other"):
            load_prompt(engine, tmp_path / "p", other)
        assert not (tmp_path / "q").exists()

    def test_a_registered_task(
        self, engines: dict[str, Engine], negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine, task = engines["causal"], all_tasks()["colorization"]
        prompt = replace(engine.compile(negatives, pairs=1), task=task)
        save_prompt(engine, prompt, tmp_path / "p")
        assert load_prompt(engine, tmp_path / "p").task is task
        with monkeypatch.context() as patched:
            patched.setattr(type(task), "version", task.version + 1)
            with pytest.raises(LavinditError, match=f"here is version {task.version}"):
                load_prompt(engine, tmp_path / "p")
        monkeypatch.setattr("lavindit.inference.prompt_task.all_tasks", dict)
        with pytest.raises(LavinditError, match="'colorization', which is not registered here"):
            load_prompt(engine, tmp_path / "p")

    def test_a_codec_of_ones_own_stays_in_memory(
        self, engines: dict[str, Engine], negatives: Path, tmp_path: Path
    ) -> None:
        class Own(DepthCodec):
            pass

        engine = engines["causal"]
        prompt = replace(engine.compile(negatives, pairs=1), codec=Own())
        assert image(engine.apply(prompt, picture(1))).shape == (3, 1, 40, 40)
        with pytest.raises(LavinditError, match="keep its prompt in memory"):
            save_prompt(engine, prompt, tmp_path / "p")
        assert not (tmp_path / "p").exists()

    def test_another_model(self, engines: dict[str, Engine], refuses: Callable[..., None]) -> None:
        refuses("context_attention: causal, this one has prefix", engine=engines["prefix"])
        refuses("context_attention: joint", "nothing of them can be kept", engine=engines["joint"])
        other = make_tiny_engine("causal")
        with torch.no_grad():
            other.jdit.blocks[0].context.out.weight[3, 5] += 1e-6
        refuses("compiled by another model", engine=other)
        half = in_bfloat16(make_tiny_engine("causal"))
        refuses("compiled in float32, this model is loaded in bfloat16", "--precision float32", engine=half)

    def test_no_prompt(self, saved: Path, refuses: Callable[..., None]) -> None:
        whole = saved.read_bytes()
        header = int.from_bytes(whole[:8], "little")
        for content, fault in (
            (b"", "it is empty"),
            (b"none", "it is no safetensors file"),
            (b"This is no prompt.\n" * 9, "it is no safetensors file"),
            (b'{"a prompt": "of JSON"}', "it is no safetensors file"),
            (whole[:100], "it is cut short"),
            (whole[: 8 + header], "it is cut short"),
            (whole[:-1], "it is cut short"),
            (whole + b"1", "more follows than it says that it holds"),
            (whole[:9] + b"," + whole[10:], "its header is damaged"),
        ):
            saved.write_bytes(content)
            refuses("cannot read the prompt", f": {fault}; ", "compile it again")
        write_weights(saved, {}, {}.__getitem__, {"format": "pt"})
        refuses("is no prompt; `lavindit compile` writes one")
        saved.unlink()
        refuses("no such prompt", "`lavindit compile` writes one")
        saved.mkdir()
        refuses("is a folder, no prompt", "--task")

    def test_another_version(self, saved: Path, refuses: Callable[..., None]) -> None:
        self.rewrite(saved, lambda said, _: said.update(version="2"))
        refuses("prompt of version 2, this lavindit reads version 1")

    def test_every_byte_is_looked_at(self, saved: Path, refuses: Callable[..., None]) -> None:
        whole = saved.read_bytes()
        length = int.from_bytes(whole[:8], "little")
        for place in (length + 8, length + 1000, len(whole) - 1):  # of the tensors
            saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            refuses("is damaged: its tensors are not what was written")
        place = whole.index(b"negative")  # of the description
        saved.write_bytes(whole[:place] + b"m" + whole[place + 1 :])
        refuses("is damaged: its description is not what was written")

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("task", {}),
            ("settings", {"sampling": {"steps": 0}}),
            ("codec", {"name": "mask"}),
            ("settings", {"sampling": {}, "resolution": "32"}),
            ("frames", {"pairs": 3.5, "x": 1}),
            ("frames", [4]),
        ],
    )
    def test_what_no_version_writes(self, saved: Path, refuses: Callable[..., None], part: str, value: Any) -> None:
        def change(said: dict[str, str], _: dict[str, Tensor]) -> None:
            said["prompt"] = json.dumps(json.loads(said["prompt"]) | {part: value})
            said["sha256"] = sha256(said["prompt"].encode()).hexdigest()

        self.rewrite(saved, change)
        refuses("is damaged", "compile it again")

    def test_nothing_is_replaced_unasked(self, engines: dict[str, Engine], saved: Path, negatives: Path) -> None:
        engine, before = engines["causal"], saved.read_bytes()
        prompt = engine.compile(negatives, pairs=1)
        with pytest.raises(LavinditError, match="exists; choose another --out or add --overwrite"):
            save_prompt(engine, prompt, saved)
        assert saved.read_bytes() == before
        save_prompt(engine, prompt, saved, overwrite=True)
        assert len(load_prompt(engine, saved).pairs) == 1
        with pytest.raises(LavinditError, match="is a folder"):
            save_prompt(engine, prompt, negatives, overwrite=True)

    def test_an_interrupted_write_leaves_nothing(
        self, engines: dict[str, Engine], saved: Path, negatives: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prompt, before = engines["causal"].compile(negatives, pairs=1), saved.read_bytes()

        def full(path: Path, *rest: object) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("lavindit.inference.prompt_file.write_weights", full)
        with pytest.raises(LavinditError, match=r"cannot write .*: No space left"):
            save_prompt(engines["causal"], prompt, saved, overwrite=True)
        assert saved.read_bytes() == before
        assert sorted(path.name for path in saved.parent.iterdir()) == ["negative", "p"]

    def test_memory(self, saved: Path, refuses: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lavindit.inference.prompt.free_bytes", lambda device: 1000)
        refuses("as keys and values", "fewer --pairs")

    def test_what_it_says_is_known_before_it_is_loaded(self, saved: Path) -> None:
        file = PromptFile(saved)
        assert (file.task().name, file.description.settings.pairs) == ("negative", 2)


class TestFingerprint:
    def test_is_of_the_model_alone(self) -> None:
        ours = fingerprint(make_tiny_engine("causal"))
        assert ours == fingerprint(make_tiny_engine("causal", {"resolution": 64}))
        assert ours != fingerprint(make_tiny_engine("prefix"))
        shifted = make_tiny_engine("causal")
        shifted.vae.latent_shift += 1e-6
        assert ours != fingerprint(shifted)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.bool])
    @pytest.mark.parametrize("size", [0, 1, 1024, 5000])
    def test_every_value_counts(self, dtype: torch.dtype, size: int) -> None:
        whole = torch.rand(size, generator=torch.Generator().manual_seed(0)).mul(200).to(dtype)
        first = digest({"a": whole})
        assert first == digest({"a": whole.clone()})
        assert first != digest({"b": whole})
        assert first != digest({"a": whole[None]})
        for place in {0, size // 2, size - 1} if size else ():
            other = whole.clone()
            other[place] = ~other[place] if dtype == torch.bool else other[place] + 1
            assert digest({"a": other}) != first

    def test_order_counts(self) -> None:
        a, b = torch.arange(5000.0), torch.arange(5000.0).flip(0)
        assert digest({"a": a}) != digest({"a": b})
        rows = torch.arange(4096.0).view(4, 1024)
        assert digest({"a": rows}) != digest({"a": rows.flip(0)})
        assert digest({"a": a, "b": b}) == digest({"b": b, "a": a}) != digest({"a": b, "b": a})
