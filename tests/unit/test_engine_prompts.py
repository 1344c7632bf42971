"""Compiled prompts in memory: answers, appended pairs, the store, what may be chosen anew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import make_tiny_engine
from lavindit.errors import LavinditError
from lavindit.flow import seeded_noise
from lavindit.inference import Engine, Prompt, PromptStore, SamplingConfig, load_prompt, resettle, save_prompt
from lavindit.inference.prompt import in_units
from lavindit.inference.sampler import read_pairs, sample_queries
from lavindit.models.jdit import query_layout
from lavindit.pictures import save_picture
from lavindit.task import all_tasks
from tiny_prompts import MODES, image, in_bfloat16, picture

TOLERANCE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Pairs of clips of five frames: two latent frames a half."""
    for number in range(3):
        for frame in range(5):
            shown = picture(10 * number + frame)
            for half, content in (("input", shown), ("target", 1 - shown)):
                save_picture(content, tmp_path / "moving" / f"{number}_{half}" / f"{frame}.png")
    (tmp_path / "moving" / "task.yaml").write_text("frames: 5\n")
    return tmp_path / "moving"


def test_a_folder_of_few_pairs_is_shown_whole(negatives: Path, clips: Path) -> None:
    engine = make_tiny_engine(info={"resolution": 32, "max_pairs": 8, "sampling": {"steps": 2}})
    assert [len(engine.compile(folder).pairs) for folder in (negatives, clips)] == [4, 3]
    with pytest.raises(LavinditError, match="can show 3 pairs"):
        engine.compile(clips, pairs=4)


class TestAnswers:
    @pytest.mark.parametrize("guidance", [1.0, 3.0])
    @pytest.mark.parametrize("mode", MODES)
    def test_are_those_of_the_task(
        self, engines: dict[str, Engine], negatives: Path, tmp_path: Path, mode: str, guidance: float
    ) -> None:
        engine, path = engines[mode], tmp_path / "new" / "negative.prompt"
        prompt = engine.compile(negatives, pairs=3, seed=4)
        save_prompt(engine, prompt, path)
        again = load_prompt(engine, path)
        assert again.settings == prompt.settings
        assert again.bytes == prompt.bytes
        wanted = engine.apply(negatives, picture(9), pairs=3, seed=4, guidance=guidance)
        for one in (prompt, again):
            torch.testing.assert_close(
                image(engine.apply(one, picture(9), guidance=guidance)), image(wanted), **TOLERANCE
            )
        other = engine.apply(again, picture(9), seed=5, guidance=guidance)
        assert float((image(other) - image(wanted)).abs().max()) > 1e-3

    @pytest.mark.parametrize("frames", [1, 2])
    @pytest.mark.parametrize("mode", MODES)
    def test_are_those_of_whole_passes(self, engines: dict[str, Engine], mode: str, frames: int) -> None:
        """Euler with guidance by hand: in every step the context anew, with pairs and without."""
        model, config = engines[mode].jdit, SamplingConfig(steps=2, guidance=3.0, seed=5)
        generator = torch.Generator().manual_seed(0)
        pairs = torch.randn(1, 16, 4 * frames, 4, 4, generator=generator)
        query, ids = torch.randn(3, 16, frames, 4, 4, generator=generator), ["a", "b", "c"]
        whole = torch.cat([pairs.expand(3, -1, -1, -1, -1), query], 2)
        null = torch.cat([torch.zeros(3, 16, 1, 4, 4), query], 2) if mode == "prefix" else query
        x = seeded_noise(ids, (16, frames, 4, 4), 5)
        for t in (0.0, 0.5):
            shown, alone = (
                model(x, torch.full((3,), t), context, query_layout(mode, context.shape[2], frames, frames))
                for context in (whole, null)
            )
            x = x + (alone + 3 * (shown - alone)) / 2
        found = sample_queries(model, read_pairs(model, pairs), query, frames, ids, config)
        torch.testing.assert_close(found, x, **TOLERANCE)

    def test_the_branch_without_pairs_begins_with_zeros(self, engines: dict[str, Engine], negatives: Path) -> None:
        read = engines["prefix"].compile(negatives, pairs=2).read
        assert read.null is not None
        zeros = engines["prefix"].jdit.read(torch.zeros(1, 16, 1, 4, 4))
        torch.testing.assert_close(read.null.keys, zeros.keys, **TOLERANCE)
        assert read.null.frames == 1
        assert read.bytes == pytest.approx(read.pairs.bytes * 5 / 4)
        assert engines["causal"].compile(negatives, pairs=2).read.null is None

    @pytest.mark.parametrize("mode", MODES)
    def test_clips(self, engines: dict[str, Engine], clips: Path, tmp_path: Path, mode: str) -> None:
        engine = engines[mode]
        query = torch.cat([picture(50 + i) for i in range(7)], 1)  # two windows
        save_prompt(engine, engine.compile(clips, pairs=2), tmp_path / "p")
        again = load_prompt(engine, tmp_path / "p")
        found = image(engine.apply(again, query, guidance=2.0))
        assert found.shape == (3, 7, 40, 40)
        torch.testing.assert_close(found, image(engine.apply(clips, query, pairs=2, guidance=2.0)), **TOLERANCE)
        with pytest.raises(LavinditError, match="asks about clips"):
            engine.apply(again, picture(1))

    @pytest.mark.parametrize("mode", MODES)
    def test_many_queries_share_a_prompt(self, engines: dict[str, Engine], negatives: Path, mode: str) -> None:
        engine = engines[mode]
        prompt, queries = engine.compile(negatives, pairs=2), [picture(20 + i, 40, 60 - i) for i in range(3)]
        together = engine.apply(prompt, queries, guidance=2.0)
        assert isinstance(together, list)
        assert prompt.read.pairs.keys.shape[1] == 1
        for query, one in zip(queries, together, strict=True):
            torch.testing.assert_close(image(one), image(engine.apply(prompt, query, guidance=2.0)), **TOLERANCE)
        assert float((together[0].image[..., :40] - together[1].image[..., :40]).abs().max()) > 1e-3

    def test_bfloat16(self, negatives: Path, tmp_path: Path) -> None:
        engine = in_bfloat16(make_tiny_engine("causal"))
        prompt = engine.compile(negatives, pairs=2)
        save_prompt(engine, prompt, tmp_path / "p")
        again = load_prompt(engine, tmp_path / "p")
        assert again.read.pairs.keys.dtype == torch.bfloat16
        assert torch.equal(again.read.pairs.values, prompt.read.pairs.values)
        assert torch.equal(image(engine.apply(again, picture(1))), image(engine.apply(prompt, picture(1))))


class TestAnotherModel:
    """Each would answer, and wrongly, if it were not refused."""

    def check(self, engine: Engine, prompt: Prompt, path: Path, words: str) -> None:
        ways = (
            lambda: engine.apply(prompt, picture(1)),
            lambda: engine.append(prompt, picture(1), picture(2)),
            lambda: save_prompt(engine, prompt, path),
        )
        for ask in ways:
            with pytest.raises(LavinditError, match=words) as error:
                ask()
            assert "\n" not in str(error.value)
        assert not path.exists()

    def test_is_refused(self, engines: dict[str, Engine], negatives: Path, tmp_path: Path) -> None:
        prompt = engines["causal"].compile(negatives, pairs=1)
        for network in ("vae", "jdit"):
            other = make_tiny_engine("causal")
            with torch.no_grad():
                for parameter in getattr(other, network).parameters():
                    parameter *= 1.001
            self.check(other, prompt, tmp_path / "p", "compiled by another model: ask that one")
        with pytest.raises(LavinditError, match="compiled by another model"):
            engines["prefix"].apply(prompt, picture(1))

    def test_another_type_or_place(self, engines: dict[str, Engine], negatives: Path, tmp_path: Path) -> None:
        engine = engines["causal"]
        prompt = engine.compile(negatives, pairs=1)
        half = in_bfloat16(make_tiny_engine("causal"))
        self.check(half, prompt, tmp_path / "p", r"compiled in float32, .* loaded in bfloat16: .* dtype=torch\.float32")
        elsewhere = replace(prompt, read=replace(prompt.read, pairs=prompt.read.pairs.to("meta")))
        self.check(engine, elsewhere, tmp_path / "p", "lies on meta, this model on cpu: compile it there")

    def test_the_same_one_loaded_again_is_none(self, engines: dict[str, Engine], negatives: Path) -> None:
        prompt = engines["causal"].compile(negatives, pairs=1)
        answers = [image(one.apply(prompt, picture(1))) for one in (engines["causal"], make_tiny_engine("causal"))]
        assert torch.equal(*answers)


def test_what_is_shown_of_prompts_and_answers(engines: dict[str, Engine], negatives: Path) -> None:
    """A line, whatever they hold."""
    prompt = engines["causal"].compile(negatives, pairs=2)
    answer = engines["causal"].apply(prompt, picture(1, 40, 50))
    size = in_units(prompt.bytes)
    assert repr(prompt) == f"Prompt(task='negative', pairs=2, resolution=32, codec='identity', {size} of float32)"
    assert "image=[3, 1, 40, 50], native=[3, 1, 40, 50]" in repr(answer)
    assert "tensor" not in repr(answer)
    assert len(repr(answer)) < 200


def test_no_batch_is_refused(engines: dict[str, Engine], negatives: Path) -> None:
    with pytest.raises(LavinditError, match="batch_size must be at least 1, got 0"):
        engines["causal"].apply(negatives, picture(1), pairs=1, batch_size=0)


class TestAppend:
    @pytest.mark.parametrize("posterior", ["mean", "sample"])
    def test_equals_compiled_whole(
        self, engines: dict[str, Engine], negatives: Path, tmp_path: Path, posterior: Any
    ) -> None:
        engine = engines["causal"]
        whole = engine.compile(negatives, context="fixed:0,1,2", posterior=posterior)
        part = engine.compile(negatives, context="fixed:0,1", posterior=posterior)
        assert (part.settings.pairs, whole.settings.pairs) == (2, 3)
        save_prompt(engine, part, tmp_path / "p")
        for start in (part, load_prompt(engine, tmp_path / "p")):
            added = engine.append(start, negatives / "2_input.png", negatives / "2_target.png")
            assert (len(start.pairs), len(added.pairs), added.settings.pairs) == (2, 3, 3)
            torch.testing.assert_close(added.read.pairs.keys, whole.read.pairs.keys, **TOLERANCE)
            torch.testing.assert_close(added.read.pairs.values, whole.read.pairs.values, **TOLERANCE)
            answers = [image(engine.apply(one, picture(9), guidance=2.0)) for one in (added, whole)]
            torch.testing.assert_close(*answers, **TOLERANCE)

    def test_what_cannot_be_appended(
        self, engines: dict[str, Engine], negatives: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prompt = engines["causal"].compile(negatives, pairs=1)
        clip = clips / "0_input"
        with pytest.raises(LavinditError, match=r"one picture, .*0_input is a clip of 5 frames"):
            engines["causal"].append(prompt, picture(1), clip)
        moving = engines["causal"].compile(clips, pairs=1)
        with pytest.raises(LavinditError, match="clips of 5 frames, the given one has 1"):
            engines["causal"].append(moving, clip, picture(1))
        with pytest.raises(LavinditError, match="causal model's prompt alone"):
            engines["prefix"].append(engines["prefix"].compile(negatives, pairs=1), picture(1), picture(2))
        monkeypatch.setattr("lavindit.inference.prompt.free_bytes", lambda device: prompt.bytes)
        with pytest.raises(LavinditError, match="fewer --pairs"):  # the two pairs, not the new one alone
            engines["causal"].append(prompt, picture(1), picture(2))

    def test_the_task_prepares_the_input(self, engines: dict[str, Engine], negatives: Path) -> None:
        """As it does with a query: colours would tell what the pair is to show."""
        colorization = all_tasks()["colorization"]
        prompt = replace(engines["causal"].compile(negatives, pairs=1), task=colorization)
        (_, added) = engines["causal"].append(prompt, picture(1), picture(1)).pairs
        assert torch.equal(added.input[0], added.input[2])
        assert not torch.equal(added.target[0], added.target[2])


class TestStore:
    @pytest.fixture
    def prompt(self, engines: dict[str, Engine], negatives: Path) -> Prompt:
        return engines["causal"].compile(negatives, pairs=1)

    def test_the_least_recently_used_goes(self, prompt: Prompt) -> None:
        store = PromptStore(2 * prompt.bytes)
        assert store.add("a", prompt) == store.add("b", prompt) == []
        assert store["a"] is prompt
        assert store.add("c", prompt) == ["b"]
        assert ("a" in store, "b" in store, len(store), store.bytes) == (True, False, 2, 2 * prompt.bytes)
        assert store.add("a", prompt) == []  # in its own place
        assert store.add("d", prompt) == ["c"]

    def test_the_too_large_is_refused(self, prompt: Prompt) -> None:
        store = PromptStore(prompt.bytes)
        store.add("a", prompt)
        double = replace(prompt, read=replace(prompt.read, null=prompt.read.pairs))
        with pytest.raises(LavinditError, match=r"'b' takes .* the store holds"):
            store.add("b", double)
        assert store["a"] is prompt

    def test_what_is_not_there_is_named(self, prompt: Prompt) -> None:
        store = PromptStore(2 * prompt.bytes)
        with pytest.raises(LavinditError, match="no prompt 'a' in the store, which holds nothing"):
            store["a"]
        for name in "abc":
            store.add(name, prompt)
        size = in_units(2 * prompt.bytes)
        with pytest.raises(LavinditError, match=rf"no prompt 'a' .* holds 'b', 'c': add it again; .* {size}"):
            store["a"]

    def test_sizes_are_told_in_units_that_show_them(self) -> None:
        sizes = (12, 1024, 3 * 2**19, 5 * 2**30, 2**41)
        told = ["12 bytes", "1.00 KiB", "1.50 MiB", "5.00 GiB", "2,048.00 GiB"]
        assert [in_units(size) for size in sizes] == told


class TestResettle:
    @pytest.fixture
    def prompt(self, engines: dict[str, Engine], negatives: Path) -> Prompt:
        return engines["causal"].compile(negatives, pairs=2, seed=3)

    def test_sampling_is_chosen_anew(self, prompt: Prompt) -> None:
        assert resettle(prompt.settings) == prompt.settings
        found = resettle(prompt.settings, "official", 7, guidance=2.0, pairs=2, resolution=32)
        assert found.sampling == SamplingConfig(steps=19, guidance=2.0, grid="official", seed=7, detail=False)
        assert replace(found, sampling=prompt.settings.sampling) == prompt.settings

    @pytest.mark.parametrize("option", [{"pairs": 3}, {"resolution": 64}, {"fit": "stretch"}, {"posterior": "sample"}])
    def test_the_rest_is_fixed(self, engines: dict[str, Engine], prompt: Prompt, option: dict[str, Any]) -> None:
        (name,) = option
        with pytest.raises(LavinditError, match=f"compiled with {name} "):
            engines["causal"].apply(prompt, picture(1), **option)

    def test_halves_of_another_shape_are_refused(self, engines: dict[str, Engine], prompt: Prompt) -> None:
        with pytest.raises(LavinditError, match="40x40 and 50x40; give both the same aspect ratio"):
            engines["causal"].append(prompt, picture(1), picture(2, 40, 50))

    def test_the_pairs_are_chosen(self, engines: dict[str, Engine], prompt: Prompt) -> None:
        with pytest.raises(LavinditError, match="chosen already: leave context out"):
            engines["causal"].apply(prompt, picture(1), context="all")

    def test_no_such_option(self, prompt: Prompt) -> None:
        slip: Any = {"step": 3}
        with pytest.raises(LavinditError, match="no option 'step'"):
            resettle(prompt.settings, **slip)
