"""Whole runs of the VAE: two stages, its data, statistics, processes, and what goes wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_distributed import logged
from torch import nn
from vae_runs import MIXED, SOURCE, Course, fit, make_data, make_module, sgd

from lavindit.data import EpisodeData
from lavindit.data.mixture import EpisodeMixture
from lavindit.errors import LavinditError
from lavindit.models import load_model
from lavindit.training.adversary_watch import AdversaryWatch
from lavindit.training.callbacks import MODEL, FinalState
from lavindit.training.checkpoints import last_checkpoint, read_checkpoint
from lavindit.training.vae_losses import PerceptualConfig

OPTIONS = """
data:
  tasks: [colorization, depth_estimation]
  batch_size: 4
  min_pairs: 0
  max_pairs: 1
  source: {resolution: 32, scenes: 8, test_scenes: 8, photo_share: 0}
trainer: {precision: 32-true, max_steps: 8, log_every_n_steps: 1}
budget: {minutes: null}
checkpoint_every: 4
threads: 1
"""
TINY = {
    "vae": ["widths=[16,16,16]", "decoder_blocks=1", "norm_groups=8"],
    "jdit": ["width=64", "depth=2", "heads=2", "queries_per_kv=1"],
}


def command(kind: str, folder: Path, *options: object) -> list[object]:
    path = folder / "options.yaml"
    if not path.exists():
        path.write_text(OPTIONS)
    config = ["--config", f"experiment/demo_{kind}.yaml", "--config", path]
    network = [f"--model.init_args.network.{option}" for option in TINY[kind]]
    return ["fit", *config, f"--trainer.default_root_dir={folder / 'run'}", *network, *options]


@pytest.mark.parametrize("kind", ["vae", "jdit"])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_state(
    kind: str, tmp_path: Path, run_cli: Callable, tiny_vae_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command(kind, tmp_path, *([f"--model.init_args.vae={tiny_vae_dir}"] if kind == "jdit" else []))
    kept, seen = last_checkpoint(tmp_path / "run"), {}
    whole = EpisodeMixture.__getitem__

    def broken(mixture: EpisodeMixture, step: int) -> Any:
        batch = whole(mixture, step)
        if step == 6:
            batch.inputs[1, 0, 0] = float("nan")
            seen.update(batch=batch, checkpoint=kept.read_bytes())
        return batch

    with monkeypatch.context() as trap:
        trap.setattr(EpisodeMixture, "__getitem__", broken)
        ran = run_cli(arguments)
    assert ran.code == 2
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("lavindit:")]
    path = tmp_path / "run" / "not_finite" / "step_6_process_0.safetensors"
    for words in ("of step 6 is not finite", str(path), f"{kept} is kept", "learning rate"):
        assert words in line
    with safe_open(path, "pt") as file:
        names = file.metadata()
        saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    assert json.loads(names["sample_ids"]) == seen["batch"].sample_ids
    assert json.loads(names["tasks"]) == seen["batch"].tasks
    torch.testing.assert_close(saved["inputs"], seen["batch"].inputs, atol=0, rtol=0, equal_nan=True)
    torch.testing.assert_close(saved["targets"], seen["batch"].targets, atol=0, rtol=0)
    assert kept.read_bytes() == seen["checkpoint"]
    assert not (tmp_path / "run" / MODEL).exists()
    again = run_cli(arguments)
    assert again.code == 0, again.stderr
    assert "going on from" in again.stderr
    assert "trained to step 8" in again.stdout


def test_a_loss_that_is_not_finite_at_the_first_step_leaves_its_batch(tmp_path: Path) -> None:
    def explode(parameters: Any) -> torch.optim.Optimizer:
        parameters = list(parameters)
        with torch.no_grad():
            parameters[0].fill_(float("inf"))
        return sgd(parameters)

    with pytest.raises(LavinditError, match="the loss of step 0 is not finite") as stopped:
        fit(make_module(optimizer=explode), make_data(), 2, tmp_path)
    assert "is kept" not in str(stopped.value)
    assert [path.name for path in (tmp_path / "not_finite").iterdir()] == ["step_0_process_0.safetensors"]


class Early(Callback):
    """Asks for a checkpoint of bad weights before there is a batch."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        nn.init.constant_(next(pl_module.parameters()), float("nan"))
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "early.ckpt")


def test_weights_that_are_not_finite_before_the_first_step_have_no_batch_to_leave(tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match=r"^the sum of the weights of step 0 is not finite; lower the learning"):
        fit(make_module(), make_data(), 1, tmp_path, [Early()])
    assert list(tmp_path.iterdir()) == []


def test_stage_two_starts_from_stage_one(tmp_path: Path) -> None:
    fit(make_module(), make_data(), 2, tmp_path, [FinalState()])
    start, course = tmp_path / MODEL, Course()
    module = make_module(init_from=str(start))
    fit(module, make_data(MIXED, clip_share=1.0), 1, tmp_path / "two", [course], seed=1)
    assert course.frames == [13]
    weights = load_model(start).vae.state_dict()
    for name, value in course.weights[0].items():
        assert torch.equal(value, weights[name.partition(".")[2]]), name
    for change in ({"widths": (16, 16, 32)}, {"conv": "3d"}, {"latent_channels": 8}, {"linear_shortcut": False}):
        (option,) = change
        with pytest.raises(LavinditError, match=f"has {option} .*network.{option}") as refused:
            make_module(network=change, init_from=str(start)).build_network()
        assert "\n" not in str(refused.value)
    make_module(network={"norm": "clip"}, init_from=str(start)).build_network()


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 70, 130), (0.2, 15, 65), (1.0, 200, 200)])
def test_clips_get_their_share_of_the_steps(share: float, least: int, most: int) -> None:
    """By 200 plans; the bounds lie four standard deviations off."""
    mixture = make_data([*MIXED, "frame_prediction"], clip_share=share).train_dataloader().dataset
    assert isinstance(mixture, EpisodeMixture)
    plans = [mixture.plan(step)[1] for step in range(200)]
    assert least <= sum(bucket.clips for bucket in plans) <= most
    as_weighted = EpisodeData(
        [*MIXED, "frame_prediction"], source=SOURCE, batch_size=4, clip_batch_size=2, max_pairs=1
    ).train_dataloader().dataset.buckets  # fmt: skip
    rates = {clips: [bucket.rate for bucket in as_weighted if bucket.clips == clips] for clips in (False, True)}
    own = [bucket.rate for bucket in mixture.buckets if bucket.clips]
    assert len(rates[True]) == 2
    if share:  # clips of several shapes keep their proportions
        assert own == pytest.approx([share * rate / sum(rates[True]) for rate in rates[True]])


def test_a_share_of_clips_says_nothing_without_clips() -> None:
    mixture = make_data(clip_share=0.5).train_dataloader().dataset
    assert not any(mixture.plan(step)[1].clips for step in range(20))
    for share in (-0.1, 1.1):
        with pytest.raises(LavinditError, match=f"clip_share {share}"):
            make_data(MIXED, clip_share=share)


def test_the_perceptual_network_is_no_part_of_the_module(test_data: Path, tmp_path: Path) -> None:
    weights = test_data / "weights" / "vgg16_hed_features.safetensors"
    course, module = Course(), make_module(perceptual=PerceptualConfig(0.5, str(weights), stages=2))
    trainer = fit(module, make_data(), 1, tmp_path, [course])
    (metrics,) = course.metrics
    assert metrics["train_term/lpips_proxy"] > 0
    parts = metrics["train_term/pixel"] + 0.5 * metrics["train_term/lpips_proxy"] + metrics["train_term/kl"]
    assert metrics["train_loss"] == pytest.approx(parts, rel=1e-5)
    plain = make_module()
    plain.configure_model()
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert read_checkpoint(tmp_path / "last.ckpt")["state_dict"].keys() == plain.state_dict().keys()
    assert len(list(module.modules())) == len(list(plain.modules()))


def test_perceptual_weights_of_another_network_are_refused_before_there_is_a_run(
    tmp_path: Path, run_cli: Callable
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 5, 5), "features.0.bias": torch.zeros(64)}, path)
    ran = run_cli(command("vae", tmp_path, "--model.init_args.perceptual.weight=1",
                          f"--model.init_args.perceptual.weights={path}"))  # fmt: skip
    assert ran.code == 2
    (line,) = ran.stderr.splitlines()
    assert str(path) in line
    assert not (tmp_path / "run").exists()


class Numb(Callback):
    """A discriminator that says the same of everything."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        for parameter in pl_module.discriminator.parameters():
            nn.init.zeros_(parameter)


def test_a_discriminator_that_knows_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = make_module({"start": 0}, adversary_optimizer=partial(torch.optim.SGD, lr=0.0))
    module.watch = AdversaryWatch(window=3)
    fit(module, make_data(), 4, tmp_path, [Numb()])
    assert module.watch.state == "blind"
    (record,) = [record for record in caplog.records if "discriminator" in record.message]
    assert "no longer tells real" in record.message


def test_the_latents_statistics_are_those_of_the_averaged_weights(tmp_path: Path) -> None:
    module = make_module(statistics_batches=3, optimizer=sgd)
    data = {"tasks": MIXED, "clip_share": 0.5}
    fit(module, make_data(**data), 2, tmp_path, [FinalState()])
    vae = load_model(tmp_path / MODEL).vae
    stream = make_data(**data).train_dataloader().dataset
    with torch.no_grad():
        found = [
            vae.encode(pictures.flatten(0, 1) * 2 - 1).mean.transpose(0, 1).flatten(1).double()
            for step in (2, 3, 4)  # where training stopped
            for pictures in (stream[step].inputs, stream[step].targets)
        ]
    values = torch.cat(found, 1)
    torch.testing.assert_close(vae.latent_shift.double(), values.mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vae.latent_scale.double(), 1 / values.std(1, correction=0), atol=1e-5, rtol=1e-5)
    weights = dict(vae.named_parameters())
    averaged, live = dict(module.average.named_parameters()), dict(module.network.named_parameters())
    assert all(torch.equal(value, averaged[name]) for name, value in weights.items())
    assert not all(torch.equal(value, live[name]) for name, value in weights.items())


DISTRIBUTED = """
model:
  init_args:
    network: {widths: [16, 16, 16], decoder_blocks: 1, norm_groups: 8}
    adversarial: {weight: 0.1, start: 2, adaptive: false, discriminator: {width: 8, layers: 1}}
    statistics_batches: 2
    decay_share: 0.0
data:
  tasks: [colorization, depth_estimation, video_depth_estimation]
  batch_size: 4
  clip_batch_size: 2
  clip_share: 0.4
  source: {resolution: 32, scenes: 8, test_scenes: 8, clips: 2, test_clips: 2, photo_share: 0}
trainer: {precision: 32-true, log_every_n_steps: 1, max_steps: 6}
budget: {minutes: null}
threads: 1
"""


def distributed(run: Path) -> list[str]:
    (run.parent / "options.yaml").write_text(DISTRIBUTED)
    start = ["fit", "--config", "experiment/demo_vae.yaml", "--config", str(run.parent / "options.yaml")]
    return [*start, f"--trainer.default_root_dir={run}"]


def run_in_two(run: Path, strategy: str) -> subprocess.CompletedProcess[str]:
    """The command in processes of its own, as Lightning starts the others by it."""
    started = [sys.executable, "-m", "lavindit", *distributed(run)]
    started += ["--trainer.devices=2", f"--trainer.strategy={strategy}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(started, capture_output=True, text=True, env=environment, timeout=600)


def test_two_processes_train_as_one_does(tmp_path: Path, run_cli: Callable) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ran = run_cli(distributed(one))
    assert ran.code == 0, ran.stderr
    done = run_in_two(two, "ddp_find_unused_parameters_true")
    assert done.returncode == 0, done.stderr
    for column, values in (("train_loss", 6), ("adversary/loss", 4), ("adversary/real", 4)):
        own, other = logged(two, column), logged(one, column)
        assert len(own) == len(other) == values
        assert own == pytest.approx(other, abs=1e-4)
    own, other = (load_file(run / MODEL / "stvae.safetensors") for run in (two, one))
    assert own.keys() == other.keys()
    for name, value in own.items():  # of the latents' statistics, too
        torch.testing.assert_close(value, other[name], atol=1e-4, rtol=1e-4, msg=name)


def test_a_strategy_that_waits_for_every_gradient_is_refused_in_one_line(tmp_path: Path) -> None:
    done = run_in_two(tmp_path / "run", "ddp")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("lavindit:")]
    told = ("trainer.strategy: ddp_find_unused_parameters_true", "another process of this run has stopped")
    assert any(told[0] in line for line in lines)
    assert all(any(words in line for words in told) for line in lines)  # one may end while the other still waits for it
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
