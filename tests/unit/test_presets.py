"""Presets: which choice counts, and that "official" is the released inference, computed here by hand."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from lavindit.data import SourceConfig, source_for
from lavindit.data.episodes import collate
from lavindit.errors import LavinditError
from lavindit.flow import seeded_noise
from lavindit.inference import PRESETS, Engine, SamplingConfig, Settings, encode_batch, resettle, settle
from lavindit.inference.sampler import posterior_noise, sample_latents
from lavindit.models import STVAE, JDiT, JDiTConfig
from lavindit.pictures import load_picture, save_picture, truncate
from lavindit.task import FolderTask
from lavindit.task.context import RandomContext, choose_scenes
from lavindit.types import Episode, EpisodeBatch, LatentEpisode, Prediction

SIZE = 64
WITH_REPLACEMENT = RandomContext(replacement=True)
SHIFT, SCALE = 0.032470703125, 1.08936170213
TABLE = torch.tensor(
    [
        *(0, 0.0056, 0.0111, 0.0167, 0.0222, 0.0278, 0.0333, 0.0389, 0.0444, 0.05),
        *(0.0524, 0.0730, 0.1148, 0.1777, 0.2618, 0.3671, 0.4936, 0.6412, 0.81, 1),
    ]
)


def write_image(path: Path, width: int, height: int, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pairs of other shapes than the model's square, and of other shapes than each other."""
    for number, (width, height) in enumerate([(90, 70), (40, 100), (64, 64)]):
        write_image(tmp_path / "shown" / f"{number}_input.png", width, height, 2 * number)
        write_image(tmp_path / "shown" / f"{number}_target.png", height, width, 2 * number + 1)
    write_image(tmp_path / "query.png", 120, 50, 9)
    return tmp_path / "shown"


@pytest.fixture
def engine(tiny_vae: STVAE, tiny_jdit: JDiT) -> Engine:
    tiny_vae.latent_shift.fill_(SHIFT)
    tiny_vae.latent_scale.fill_(SCALE)
    return Engine(tiny_vae, tiny_jdit, {"preset": "official", "resolution": SIZE})


def released_square(path: Path) -> Tensor:
    """uint8 [3, SIZE, SIZE], as the released inference reads its pictures."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    bicubic = v2.InterpolationMode.BICUBIC
    return v2.functional.resize(pixels, [SIZE, SIZE], interpolation=bicubic, antialias=True)


class TestSettle:
    def test_nothing_said(self) -> None:
        assert settle({}) == Settings(SamplingConfig())
        assert settle({"resolution": 32, "sampling": {"steps": 3, "seed": 7}}, seed=2) == Settings(
            SamplingConfig(steps=3, seed=2), resolution=32
        )

    def test_as_many_pairs_as_a_model_is_used_to(self) -> None:
        used_to_many = {"max_pairs": 16}
        assert [settle(info).pairs for info in ({}, {"max_pairs": 6}, used_to_many)] == [4, 4, 8]
        assert settle(used_to_many, most_pairs=3).pairs == 3
        assert settle(used_to_many, most_pairs=20).pairs == 8
        assert settle(used_to_many, most_pairs=3, pairs=5).pairs == 5
        assert settle(used_to_many, "official", most_pairs=3).pairs == 4

    def test_the_official_one(self) -> None:
        assert settle({}, "official") == Settings(
            SamplingConfig(steps=19, solver="euler", guidance=1.5, grid="official", posterior="sample", detail=False),
            preset="official",
            pairs=4,
            replacement=True,
            resolution=512,
            fit="stretch",
            rounding="truncate",
        )

    def test_options_before_preset_before_model_before_defaults(self) -> None:
        info = {"resolution": 32, "sampling": {"steps": 3, "guidance": 2.5, "solver": "heun"}}
        paper = settle(info, "paper")
        assert (paper.resolution, paper.sampling) == (32, SamplingConfig(steps=20, guidance=2.5, detail=False))
        chosen = settle(info, "official", steps=5, resolution=64, posterior="mean", pairs=None, replacement=False)
        assert chosen.sampling == SamplingConfig(steps=5, guidance=1.5, grid="official", detail=False)
        assert (chosen.pairs, chosen.resolution, chosen.replacement, chosen.fit) == (4, 64, False, "stretch")

    def test_a_model_names_its_own_preset_and_says_what_differs(self) -> None:
        info = {"preset": "official", "resolution": 256, "sampling": {"guidance": 3.0}}
        own = settle(info)
        assert (own.preset, own.resolution, own.fit) == ("official", 256, "stretch")
        assert own.sampling == SamplingConfig(steps=19, guidance=3.0, grid="official", posterior="sample", detail=False)
        other = settle(info, "default")
        assert (other.preset, other.fit, other.sampling) == ("default", "pad", SamplingConfig(guidance=3.0))

    def test_a_task_has_a_sampling_of_its_own(self) -> None:
        info = {
            "sampling": {"steps": 8, "guidance": 2.5, "grid": "uniform", "shift": 1.0, "times": None},
            "task_sampling": {"depth": {"steps": 2, "solver": "heun"}, "edges": {"times": [0, 0.2, 0.5, 1]}},
        }
        assert settle(info).sampling == settle(info, task="other").sampling == SamplingConfig(steps=8, guidance=2.5)
        assert settle(info, task="depth").sampling == SamplingConfig(steps=2, guidance=2.5, solver="heun")
        edges = settle(info, task="edges").sampling
        assert (edges.steps, edges.times, edges.guidance) == (3, (0, 0.2, 0.5, 1), 2.5)
        assert torch.equal(edges.points, torch.tensor([0, 0.2, 0.5, 1]))
        assert settle(info, "paper", task="depth").sampling == SamplingConfig(guidance=2.5, detail=False)
        assert settle(info, task="depth", steps=5).sampling == SamplingConfig(steps=5, guidance=2.5, solver="heun")

    def test_times_stand_in_place_of_steps_grid_and_shift(self) -> None:
        info = {"sampling": {"steps": 2, "times": [0, 0.25, 1]}}
        assert settle(info, solver="midpoint").sampling.times == (0, 0.25, 1)
        options: list[dict[str, Any]] = [{"steps": 3}, {"grid": "official"}, {"shift": 2.0}]
        for option in options:
            assert settle(info, **option).sampling.times is None
        assert settle(info, "official").sampling.times is None
        told = settle(info, times=[0, 0.1, 0.3, 1])
        assert (told.sampling.steps, told.sampling.times) == (3, (0, 0.1, 0.3, 1))
        assert resettle(told, guidance=2.0).sampling.times == told.sampling.times
        assert resettle(told, steps=3).sampling.times is None
        assert resettle(told, times=(0, 1)).sampling.points.tolist() == [0, 1]
        with pytest.raises(LavinditError, match="3 times are 2 steps, not 4"):
            settle({}, steps=4, times=(0, 0.5, 1))
        with pytest.raises(LavinditError, match=r"config\.json .* times must rise from 0 to 1, got 0, 2"):
            settle({"sampling": {"times": [0, 2]}})
        with pytest.raises(LavinditError, match=r"config\.json .* unknown solver 'magic'"):
            settle({"task_sampling": {"depth": {"solver": "magic"}}}, task="depth")
        with pytest.raises(LavinditError, match=r"config\.json"):
            settle({"task_sampling": ["depth"]}, task="depth")

    def test_a_start_of_zeros(self) -> None:
        info = {"sampling": {"steps": 1, "start": "zeros"}}
        assert settle(info).sampling == SamplingConfig(steps=1, start="zeros")
        assert settle(info, "paper").sampling == SamplingConfig(detail=False)

    def test_unknown_names(self) -> None:
        with pytest.raises(LavinditError, match="unknown preset 'newest'; there are default, paper, official"):
            settle({}, "newest")
        with pytest.raises(LavinditError, match=r"config\.json .* unknown preset 'none'"):
            settle({"preset": "none"})
        for name in ("fit", "rounding", "grid", "posterior", "start"):
            wrong: dict[str, Any] = {name: "other"}
            with pytest.raises(LavinditError, match=f"unknown {name} 'other'; there are "):
                settle({}, **wrong)
        with pytest.raises(LavinditError, match=r"no option 'surprise'; there are pairs, .*guidance"):
            settle({}, surprise=1)  # pyright: ignore[reportCallIssue]

    def test_every_preset_settles(self) -> None:
        assert all(settle({}, name).preset == name for name in PRESETS)


class TestReleasedInference:
    @torch.no_grad()
    def test_step_by_step(self, engine: Engine, folder: Path) -> None:
        query = folder.parent / "query.png"
        (answer,) = engine.apply_all(folder, [query], seed=5, rounding="nearest")

        shown = [(released_square(path), released_square(target)) for path, target in FolderTask(folder).pairs]
        frames = []
        for pair in answer.episode.pairs:
            seen = [(pair.input[:, 0] * 255).round().byte(), (pair.target[:, 0] * 255).round().byte()]
            drawn = [all(map(torch.equal, seen, files)) for files in shown]
            assert drawn.count(True) == 1  # bit for bit one of the files
            frames += shown[drawn.index(True)]
        assert len(frames) == 8
        pixels = (torch.stack([*frames, released_square(query)]) / 255 - 0.5) * 2

        posterior = engine.vae.encode(pixels[:, :, None])
        name, size = "shown/query", (16, 1, SIZE // 8, SIZE // 8)
        of_inputs, of_targets = (posterior_noise([name], part, 5, size, seed=5)[0] for part in ("input", "target"))
        noise = torch.stack([of_inputs, of_targets], dim=1).flatten(0, 1)[:-1]  # input, target, ..., query
        latent = (posterior.mean + (0.5 * posterior.logvar).exp() * noise - SHIFT) * SCALE
        context = latent[:, :, 0].transpose(0, 1)[None]
        null = torch.cat([torch.zeros_like(context[:, :, :1]), context[:, :, -1:]], dim=2)

        x = seeded_noise([name], size, seed=5)
        for t, t_next in itertools.pairwise(TABLE):
            conditional, without = (engine.jdit(x, t[None], clean) for clean in (context, null))
            x = x + (t_next - t) * (without + 1.5 * (conditional - without))
        decoded = (engine.vae.decode(x / SCALE + SHIFT) / 2 + 0.5).clamp(0, 1)[0]
        torch.testing.assert_close(answer.prediction.image, decoded, rtol=0, atol=1e-5)
        assert float(decoded.std()) > 0.01

        as_released = engine.apply(folder, query, seed=5)
        assert isinstance(as_released, Prediction)
        assert as_released.image.shape == (3, 1, SIZE, SIZE)
        eight_bit = (answer.prediction.image * 255.0).to(torch.uint8)
        assert torch.equal((as_released.image * 255).round().to(torch.uint8), eight_bit)
        assert torch.equal(as_released.image, eight_bit.float() / 255)
        assert torch.equal(as_released.native, as_released.image)
        as_released.save(folder.parent / "answer.png")
        with Image.open(folder.parent / "answer.png") as image:
            assert np.array_equal(np.array(image), eight_bit[:, 0].permute(1, 2, 0).numpy())

    def test_an_answer_does_not_depend_on_its_company(self, engine: Engine, folder: Path) -> None:
        queries = [folder.parent / "query.png", folder / "0_input.png", folder / "1_target.png"]
        together = engine.apply(folder, queries, steps=2, rounding="nearest")
        alone = engine.apply(folder, queries[1], steps=2, rounding="nearest")
        assert isinstance(together, list)
        assert isinstance(alone, Prediction)
        torch.testing.assert_close(together[1].image, alone.image, rtol=0, atol=1e-5)

    def test_truncation_after_the_letterbox_too(self, engine: Engine, folder: Path) -> None:
        """`fit` and `rounding` are choices of their own."""
        options = {"seed": 1, "steps": 1, "fit": "pad"}
        pairs = folder.parent / "same"  # a letterbox goes with centred squares, which need one aspect ratio
        for part in ("input", "target"):
            write_image(pairs / f"a_{part}.png", 30, 20, 0)
        full, cut = (
            engine.apply(pairs, folder.parent / "query.png", rounding=how, **options).image  # pyright: ignore
            for how in ("nearest", "truncate")
        )
        assert cut.shape == (3, 1, 50, 120)
        assert torch.equal(cut, truncate(full))
        assert 0 < float((full - cut).max()) < 1 / 255


class TestPosterior:
    @staticmethod
    def episodes(folder: Path) -> list[Episode]:
        task = FolderTask(folder)
        generator = torch.Generator().manual_seed(0)
        codec = task.make_codec([], generator)
        source = source_for(task, "train", SourceConfig(resolution=SIZE, fit="stretch"))
        scenes = choose_scenes(RandomContext(), task, source, 3, generator)
        pairs = tuple(task.make_pair(scene, codec, generator) for scene in scenes)
        return [Episode("shown", name, pairs[:2], pairs[2], codec) for name in "ab"]

    @torch.no_grad()
    def test_a_sample_belongs_to_its_episode_and_place(self, tiny_vae: STVAE, folder: Path) -> None:
        vae, (first, second) = tiny_vae, self.episodes(folder)
        together = encode_batch(vae, collate([first, second]), "sample", seed=3, chunk=5)
        alone = encode_batch(vae, collate([second]), "sample", seed=3)
        torch.testing.assert_close(together.inputs[1], alone.inputs[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.targets[1], alone.targets[0], rtol=0, atol=1e-5)
        other_seed = encode_batch(vae, collate([second]), "sample", seed=4)
        mean = encode_batch(vae, collate([first, second]))
        for changed in (alone.targets[0], other_seed.inputs[0], mean.inputs[1], together.inputs[0]):
            assert float((changed - together.inputs[1]).abs().mean()) > 1e-3
        draws = torch.cat([together.inputs - mean.inputs, together.targets - mean.targets], 1).flatten(0, 1)
        assert all(not torch.allclose(a, b) for a, b in itertools.combinations(draws, 2))

    @torch.no_grad()
    def test_without_variance_a_sample_is_the_mean(self, tiny_vae: STVAE, folder: Path) -> None:
        vae, batch = tiny_vae, collate(self.episodes(folder))
        assert vae.encoder.head.bias is not None
        vae.encoder.head.weight[16:] = 0
        vae.encoder.head.bias[16:] = -30
        sample, mean = encode_batch(vae, batch, "sample"), encode_batch(vae, batch)
        torch.testing.assert_close(sample.inputs, mean.inputs, rtol=0, atol=1e-5)
        torch.testing.assert_close(sample.targets, mean.targets, rtol=0, atol=1e-5)

    @torch.no_grad()
    def test_clips_as_targets_of_images(self, tiny_vae: STVAE, folder: Path) -> None:
        clips = torch.rand(2, 3, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
        batch = EpisodeBatch(clips[:, :, :, :1], clips, tuple(self.episodes(folder)))
        sample, mean = encode_batch(tiny_vae, batch, "sample"), encode_batch(tiny_vae, batch)
        assert sample.targets.shape == mean.targets.shape == (2, 3, 16, 2, 2, 2)
        assert float((sample.targets - mean.targets).abs().mean()) > 1e-3
        assert float((sample.inputs - mean.inputs).abs().mean()) > 1e-3


class Recorder(nn.Module):
    """Stands for a J-DiT with bfloat16 weights."""

    config = JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
        self.seen: list[torch.dtype] = []

    def forward(self, noisy: Tensor, t: Tensor, context: Tensor, layout: object) -> Tensor:
        self.seen += [noisy.dtype, context.dtype]
        assert t.dtype == torch.float32
        return noisy * self.weight


def test_the_network_is_asked_in_its_own_type_and_the_state_stays_float32() -> None:
    model, latent = Recorder(), LatentEpisode(torch.randn(1, 2, 16, 1, 4, 4), torch.randn(1, 2, 16, 1, 4, 4))
    config = SamplingConfig(steps=3, guidance=1.5)
    answer = sample_latents(model, latent, ["a"], config)  # pyright: ignore[reportArgumentType]
    assert set(model.seen) == {torch.bfloat16}
    assert answer.dtype == torch.float32
    x = seeded_noise(["a"], (16, 1, 4, 4))
    torch.testing.assert_close(answer, x * (1 + 1 / 3) ** 3, rtol=0.02, atol=0)
    assert not torch.equal(answer, answer.bfloat16().float())


def test_zeros_start_where_they_are_asked_for_and_times_are_stepped_through() -> None:
    model, latent = Recorder(), LatentEpisode(torch.randn(1, 2, 16, 1, 4, 4), torch.randn(1, 2, 16, 1, 4, 4))
    assert not sample_latents(model, latent, ["a"], SamplingConfig(steps=2, start="zeros")).any()  # pyright: ignore
    config = SamplingConfig(steps=2, times=(0, 0.25, 1))
    answer = sample_latents(model, latent, ["a"], config)  # pyright: ignore[reportArgumentType]
    expected = seeded_noise(["a"], (16, 1, 4, 4)) * (1 + 0.25) * (1 + 0.75)
    torch.testing.assert_close(answer, expected, rtol=0.02, atol=0)


class TestFolders:
    def test_draws_with_replacement(self, folder: Path) -> None:
        task = FolderTask(folder)
        source = source_for(task, "train", SourceConfig(resolution=SIZE, fit="stretch"))
        scenes = [source[index].rgb for index in range(3)]

        def draw(seed: int, pairs: int, **options: object) -> list[int]:
            generator = torch.Generator().manual_seed(seed)
            found = choose_scenes(WITH_REPLACEMENT, task, source, pairs, generator, **options)  # pyright: ignore
            return [next(i for i, rgb in enumerate(scenes) if torch.equal(scene.rgb, rgb)) for scene in found]

        draws = [draw(seed, 4) for seed in range(30)]
        assert draws[0] == draw(0, 4)
        assert all(len(drawn) == 4 for drawn in draws)  # of three pairs
        counts = torch.bincount(torch.tensor(draws).flatten(), minlength=3)
        assert (counts > 20).all()  # of 120, 40 each
        assert {i for seed in range(10) for i in draw(seed, 6, exclude="1")} == {0, 2}

    def test_replacement_never_draws_the_query_itself(self, tmp_path: Path) -> None:
        for part in ("input", "target"):
            write_image(tmp_path / f"only_{part}.png", 8, 8, 0)
        task, generator = FolderTask(tmp_path), torch.Generator()
        source = task.make_source("train", 16)
        assert len(choose_scenes(WITH_REPLACEMENT, task, source, 5, generator)) == 5
        with pytest.raises(LavinditError, match="can show 0 pairs"):
            choose_scenes(WITH_REPLACEMENT, task, source, 5, generator, exclude="only")

    def test_sizes(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a_input.png", 200, 100, 0)
        write_image(tmp_path / "a_target.png", 149, 75, 0)
        scene = FolderTask(tmp_path).make_source("train", 32)[0]
        assert scene.target is not None
        assert scene.rgb.shape == scene.target.shape == (3, 1, 32, 32)
        assert float((scene.rgb - scene.target).abs().mean()) < 0.02
        write_image(tmp_path / "a_target.png", 100, 52, 0)
        with pytest.raises(LavinditError, match=r"differ in size \(200x100 and 100x52\); give both the same aspect"):
            FolderTask(tmp_path).make_source("train", 32)[0]
        assert FolderTask(tmp_path).make_source("train", 32, "stretch")[0].rgb.shape == (3, 1, 32, 32)

    def test_names(self, tmp_path: Path) -> None:
        names = {
            "v1.2 b": (".PNG", ".png"),
            "a_b__c": (".jpg", ".Png"),
            "x_input": (".jpeg", ".JPG"),
            "": (".png",) * 2,
        }
        for name, (one, other) in names.items():
            write_image(tmp_path / f"{name}_input{one}", 16, 16, 0)
            write_image(tmp_path / f"{name}_target{other}", 16, 16, 1)
        (tmp_path / "._a_b__c_input.png").write_bytes(b"what an archive of another system leaves behind")
        (tmp_path / "notes_input.txt").write_text("no picture")
        task = FolderTask(tmp_path)
        source = task.make_source("train", 16)
        assert sorted(source[index].scene_id for index in range(len(source))) == sorted(names)
        generator = torch.Generator()
        assert len(choose_scenes(RandomContext(), task, source, 4, generator)) == 4

    def test_two_files_of_one_half(self, tmp_path: Path) -> None:
        for name in ("a_input.png", "a_input.jpg", "a_target.png"):
            write_image(tmp_path / name, 8, 8, 0)
        with pytest.raises(LavinditError, match=r"a_input\.jpg and a_input\.png are one half of the same pair"):
            FolderTask(tmp_path)


def test_a_stretched_query_of_a_picture_in_memory(engine: Engine, folder: Path) -> None:
    """A file and its picture are asked alike."""
    query = folder.parent / "query.png"
    (of_file,), (of_picture,) = (engine.apply_all(folder, [q], steps=1) for q in (query, load_picture(query)))
    assert torch.equal(of_file.episode.query.input, of_picture.episode.query.input)
    save_picture(of_file.square, folder.parent / "again.png")
    assert torch.equal(load_picture(folder.parent / "again.png"), of_file.square)
