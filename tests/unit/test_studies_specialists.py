"""Specialists: sizes that match, clips as pairs of frames, a training that goes on, and what is filed of a test."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lavindit.data import SourceConfig
from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.errors import LavinditError
from lavindit.report.schema import read_result, write_result
from lavindit.task import get_task
from lavindit.training.benchmark import Benchmark
from lavindit.training.protocols import Protocol

ROOT = Path(__file__).parents[2]
SMALL = SourceConfig(resolution=32, scenes=8, test_scenes=4, clips=2, test_clips=2)
FEW = 200_000


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def setup_of(specialist, minutes: float = 1.0, **changes):
    made = specialist.Setup(FEW, SMALL, minutes, 4e-3, 0, torch.device("cpu"))
    return replace(made, **changes)


@pytest.mark.parametrize("wanted", [500_000, 6_478_336, 12_141_472])
def test_a_unet_has_as_many_parameters_as_were_asked_for(bench, wanted: int) -> None:
    unet = bench("unet")
    for inputs in (3, 6):
        config = unet.match_parameters(wanted, inputs)
        with torch.device("meta"):
            assert unet.count_parameters(unet.UNet(config)) == pytest.approx(wanted, rel=0.03)
        assert config.inputs == inputs
    with pytest.raises(LavinditError, match="ask for so many"):
        unet.match_parameters(100)


def test_a_unet_starts_at_gray_or_at_its_input_and_learns(bench) -> None:
    unet = bench("unet")
    torch.manual_seed(0)
    picture = torch.rand(2, 6, 32, 64)
    network = unet.UNet(unet.UNetConfig((8, 12, 16, 20), 6))
    assert torch.equal(network(picture), torch.full((2, 3, 32, 64), 0.5))
    residual = unet.UNet(unet.UNetConfig((8, 12, 16, 20), 6, residual=True))
    assert torch.equal(residual(picture), picture[:, :3])
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=3e-3), []
    for _ in range(12):
        losses.append((network(picture) - picture[:, 3:].flip(1)).square().mean())
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.9 * losses[0]
    assert all(bool(weight.any()) for weight in network.parameters())


def test_a_clip_is_asked_two_frames_at_a_time(bench) -> None:
    specialist = bench("specialist")
    clip = torch.arange(2 * 3 * 4.0).view(2, 3, 4, 1, 1).expand(2, 3, 4, 16, 16)
    frames = specialist.frames_of(clip)
    assert frames.shape == (8, 6, 16, 16)
    assert torch.equal(frames[4, :3], clip[1, :, 0])  # clip 1, frame 0, and the frame after it
    assert torch.equal(frames[4, 3:], clip[1, :, 1])
    assert torch.equal(frames[3, :3], frames[3, 3:])  # nothing follows the last one
    assert torch.equal(specialist.clip_of(frames[:, :3], 4), clip)
    image = torch.rand(2, 3, 1, 16, 16)
    assert torch.equal(specialist.clip_of(specialist.frames_of(image), 1), image)


def test_pixels_without_a_truth_do_not_count(bench) -> None:
    specialist = bench("specialist")
    maker = EpisodeMaker(get_task("depth_estimation"), "train", SMALL)
    batch = collate([maker.episode(maker.next_accepted(n), 0, 0) for n in range(4)])
    valid = torch.stack([episode.query.valid for episode in batch.episodes])
    assert not valid.all()
    error = (0.5 - batch.targets[:, -1])[valid.expand(-1, 3, -1, -1, -1)]
    network = specialist.UNet(specialist.UNetConfig((8, 12, 16, 20)))  # answers gray
    found = specialist.loss_of(network, batch, torch.device("cpu"))
    assert float(found.detach()) == pytest.approx(float(error.abs().mean() + error.square().mean()), rel=1e-2)


class StoppedError(Exception):
    """The training was interrupted."""


def test_a_training_goes_on_as_if_it_had_not_been_interrupted(bench, tmp_path: Path, monkeypatch) -> None:
    module = bench("specialist")
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(module, "BATCH", 2)
    clock = iter(range(10**6))  # a second a look: two looks a step
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    setup = setup_of(module, minutes=4 / 60)
    task = get_task("edge_detection")
    whole = module.Specialist(task, setup, tmp_path / "whole.pt")
    assert whole.train()["steps"] == 4
    parts, save = module.Specialist(task, setup, tmp_path / "parts.pt"), module.Specialist._save

    def save_and_stop(self) -> None:
        save(self)
        if self.counts["steps"] == 2:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(module.Specialist, "_save", save_and_stop)
        with pytest.raises(StoppedError):
            parts.train()
    again = module.Specialist(task, setup, tmp_path / "parts.pt")
    assert again.counts["steps"] == 2
    assert again.train()["steps"] == 4
    for one, other in zip(whole.average.parameters(), again.average.parameters(), strict=True):
        assert torch.equal(one, other)
    assert module.Specialist(task, setup, tmp_path / "parts.pt").train()["steps"] == 4  # nothing left to do
    with pytest.raises(LavinditError, match=r"trained with lr 0.004, asked is 1: name another --run"):
        module.Specialist(task, replace(setup, lr=1), tmp_path / "parts.pt")
    (tmp_path / "parts.pt").write_bytes(b"no state")
    odd = replace(setup, source=replace(SMALL, resolution=48))
    with pytest.raises(LavinditError, match="multiples of 32 px, not 48: try --fold 2"):
        module.Specialist(task, odd, tmp_path / "odd.pt")
    module.Specialist(task, replace(odd, fold=2), tmp_path / "odd.pt")
    with pytest.raises(LavinditError, match="remove it to train anew"):
        module.Specialist(task, setup, tmp_path / "parts.pt")


def test_specialists_stand_beside_the_model_on_the_same_queries(
    bench, tiny_model_dir: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, module, out = bench("specialists"), bench("specialist"), tmp_path / "specialists.json"
    monkeypatch.setattr(module, "BATCH", 2)
    tasks = ["depth_estimation"]
    options = ["--tasks", *tasks, "--run", str(tmp_path / "run"), "--minutes", "0.005", "--parameters", str(FEW),
        "--scenes", "8", "--clips", "2", "--device", "cpu", "--out", str(out)]  # fmt: skip
    study.main(options)
    assert "with --result" in capsys.readouterr().out
    assert not out.exists()
    protocol = Protocol("tiny", images=2, clips=1, draws=2, scenes=8, scene_clips=2, pairs=1)
    benchmark = Benchmark(
        tiny_model_dir, "tiny", lambda info: protocol, tasks, tmp_path / "ours", torch.device("cpu")
    )  # fmt: skip
    ours = benchmark.measure()
    trained = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    study.main([*options, "--result", str(tmp_path / "ours")])
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == trained
    filed = json.loads(out.read_text())
    assert set(filed["figures"]) == set(tasks)
    for result in ours.tasks:
        row = filed["figures"][result.task]
        assert row["ours"]["answer"] == result.headline.answer
        assert row["metric"] == result.headline.metric
        assert row["n"] == result.n
        assert row["gap"] == pytest.approx(result.headline.answer - row["answer"])  # both are errors
        assert row["steps"] >= 1
        assert row["parameters"] == pytest.approx(FEW, rel=0.03)
        # With one pair the baselines of a draw say which queries and contexts were asked.
        assert all(math.isfinite(value) for value in row["baselines"].values())
    assert filed["ours"]["name"] == "tiny"
    old = replace(read_result(tmp_path / "ours" / "result.json"), data=ours.data | {"world_version": -1})
    write_result(old, tmp_path / "old.json")
    with pytest.raises(LavinditError, match="of the embedded world, this is"):
        study.main([*options, "--result", str(tmp_path / "old.json")])
    with pytest.raises(LavinditError, match="has no task deraining"):
        study.main([*options, "--result", str(tmp_path / "ours"), "--tasks", "deraining"])
