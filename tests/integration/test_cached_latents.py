"""Training on latents that `lavindit encode` has written is training on the pictures they are of."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from lavindit.data import EpisodeData, SourceConfig, collate
from lavindit.data.latents import stored_episode
from lavindit.flow import seed_from
from lavindit.models import JDiTConfig, ModelBundle, load_model, save_model
from lavindit.training import DiTModule
from lavindit.types import Episode, LatentBatch

SOURCE = SourceConfig(resolution=32, scenes=16, test_scenes=16, clips=4, test_clips=4)
TASKS = ["depth_estimation", "frame_prediction"]
DATA = {"tasks": TASKS, "source": SOURCE, "batch_size": 4, "clip_batch_size": 2, "min_pairs": 1, "max_pairs": 2}
CONFIG = """
model:
  class_path: lavindit.training.DiTModule
  init_args: {network: {width: 64, depth: 2, heads: 2, queries_per_kv: 1}, drop_pairs: 0.3, decay_share: 0.0}
data:
  tasks: [depth_estimation, frame_prediction]
  source: {resolution: 32, scenes: 16, test_scenes: 16, clips: 4, test_clips: 4}
  batch_size: 4
  clip_batch_size: 2
  min_pairs: 1
  max_pairs: 2
  val_samples: 1
trainer: {accelerator: cpu, precision: 32-true, log_every_n_steps: 1, max_epochs: -1, num_sanity_val_steps: 0}
threads: 1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def latents(run_cli, config: Path, tmp_path: Path, tiny_vae_dir: Path):
    """Encodes eight episodes; gives the folder."""

    def encode(*options: object) -> Path:
        base = ["encode", "--config", config, "--vae", tiny_vae_dir, "--out", tmp_path / "latents", "--episodes", 8]
        ran = run_cli([*base, "--threads=1", *options])
        assert (ran.code, ran.stderr) == (0, "")
        assert "8 episodes of 2 tasks" in ran.stdout
        return tmp_path / "latents"

    return encode


@pytest.mark.parametrize(
    ("posterior", "targets", "attention"), [("mean", "every_pair", "causal"), ("sample", "query", "joint")]
)
def test_the_loss_is_that_of_the_pictures(latents, tiny_vae_dir, tiny_jdit, posterior, targets, attention):
    folder = latents("--dtype=float32", f"--posterior={posterior}")
    network = JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1, context_attention=attention)
    module = DiTModule(str(tiny_vae_dir), network, targets=targets, posterior=posterior)
    stream = EpisodeData(**DATA, latents=str(folder)).train_dataloader().dataset
    pictures = EpisodeData(**DATA).train_dataloader().dataset
    tiny_jdit.config = network
    shapes = set()
    for step in range(6):
        batch, plain = stream[step], pictures[step]
        assert (batch.tasks, batch.numbers) == (plain.tasks, plain.numbers)
        pairs, bucket = pictures.plan(step)
        episodes = []
        for number in batch.numbers:
            task, stored, places = stream.choose(bucket, number, pairs)
            maker = next(maker for maker in bucket.makers if maker.task.name == task)
            found = next(e for e in (stored_episode(maker, 2, 0, n) for n in range(8)) if _is(e, stored))
            both = (*found.pairs, found.query)
            shown = tuple(both[place] for place in places[:-1])
            episodes.append(Episode(task, found.sample_id, shown, both[places[-1]], found.codec, number))
        made = collate(episodes)
        seeds = [seed_from("train", 0, number) for number in batch.numbers]
        with torch.no_grad():
            losses = [module.losses(tiny_jdit, module._encode(b, seed=step), seeds) for b in (batch, made)]
        torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
        assert module.step_cost(batch) == module.step_cost(plain)
        shapes.add((batch.tasks[0], batch.mean.inputs.shape[1]))
    assert len(shapes) > 2  # images and clips, one pair and two


def _is(episode, stored) -> bool:
    scenes = tuple(pair.meta["scene_id"] for pair in (*episode.pairs, episode.query))
    return (episode.sample_id, scenes) == (stored.sample_id, stored.scenes)


def test_two_processes_share_what_one_sees(latents):
    data = EpisodeData(**DATA, latents=str(latents()))
    whole = data.train_dataloader().dataset
    parts = []
    for rank in range(2):
        data._place = lambda rank=rank: (rank, 2)
        parts.append(data.train_dataloader().dataset)
    for step in range(4):
        batch, halves = whole[step], [part[step] for part in parts]
        assert [n for half in halves for n in half.numbers] == batch.numbers
        joined = torch.cat([half.mean.inputs for half in halves])
        assert torch.equal(joined, batch.mean.inputs)
        assert torch.equal(torch.cat([half.mean.targets for half in halves]), batch.mean.targets)


def fit(run_cli, config: Path, run: Path, *options: object):
    return run_cli(["fit", "--config", config, f"--trainer.default_root_dir={run}", *options])


def losses(run: Path) -> list[float]:
    files = sorted((run / "csv").glob("version_*/metrics.csv"))
    return [float(row["train_loss"]) for f in files for row in csv.DictReader(f.open()) if row.get("train_loss")]


def test_a_training_on_latents_resumes_to_the_same_losses(latents, run_cli, config, tmp_path, tiny_vae_dir):
    options = [f"--data.latents={latents()}", f"--model.init_args.vae={tiny_vae_dir}", "--trainer.val_check_interval=2"]
    ran = fit(run_cli, config, tmp_path / "whole", *options, "--trainer.max_steps=4")
    assert ran.code == 0, ran.stderr
    for steps in (2, 4):
        ran = fit(run_cli, config, tmp_path / "two", *options, f"--trainer.max_steps={steps}")
        assert ran.code == 0, ran.stderr
    assert len(losses(tmp_path / "whole")) == 4
    assert losses(tmp_path / "two") == losses(tmp_path / "whole")
    assert "val_loss" in (tmp_path / "whole" / "csv" / "version_0" / "metrics.csv").read_text()


def test_latents_that_do_not_fit_are_refused_in_one_line(latents, run_cli, config, tmp_path, tiny_vae_dir):
    folder = latents()
    other = load_model(tiny_vae_dir).vae
    other.latent_shift = other.latent_shift + 1
    save_model(ModelBundle(other), tmp_path / "other_vae")
    own = f"--model.init_args.vae={tiny_vae_dir}"
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    for path in damaged.glob("*.tar"):
        content = bytearray(path.read_bytes())
        content[512 + 128 + 40] ^= 255  # of the first array
        path.write_bytes(content)
    cases = [
        ([f"--model.init_args.vae={tmp_path / 'other_vae'}"], "not of the VAE in"),
        ([own, "--data.source.scenes=15"], "data.source.scenes 16, this config has 15"),
        ([own, "--data.max_pairs=3"], "set data.max_pairs 2"),
        ([own, "--data.tasks=[edge_detection]"], "have no task edge_detection"),
        ([own, "--model.init_args.posterior=sample"], "no standard deviations"),
        ([own, f"--data.latents={tmp_path / 'nowhere'}"], "no latents in"),
        ([own, f"--data.latents={damaged}"], "are damaged: the checksum"),
    ]
    for options, told in cases:
        run = tmp_path / "refused"
        ran = fit(run_cli, config, run, f"--data.latents={folder}", "--trainer.max_steps=8", *options)
        assert ran.code == 2, (options, ran)
        (line,) = [line for line in ran.stderr.splitlines() if "error" in line]
        assert told in line
        assert not (run / "checkpoints").exists()


def test_a_vae_trains_on_pictures(latents, run_cli, tmp_path):
    options = ["--data.tasks=[depth_estimation]", "--data.min_pairs=0", "--data.max_pairs=0"]
    options += [f"--data.source.{text}" for text in ("resolution=32", "scenes=16", "clips=4", "photo_share=0")]
    options += [f"--data.latents={latents()}", f"--trainer.default_root_dir={tmp_path / 'run'}"]
    ran = run_cli(["fit", "--config", "experiment/demo_vae.yaml", *options])
    assert ran.code == 2
    assert "data.latents is for the training of a J-DiT" in ran.stderr


def test_mistakes_in_encode_are_told_in_one_line(run_cli, config, tmp_path, tiny_vae_dir):
    base = ["encode", "--config", config, "--out", tmp_path / "latents"]
    vae = ["--vae", tiny_vae_dir]
    cases = [
        ([*base, "--episodes", 8], "no VAE: name its model directory"),
        ([*base, "--episodes", 8, "--vae", tmp_path], "no model in"),
        ([*base, "--episodes", 1, *vae], "1 episodes are too few for 2 tasks"),
        ([*base, "--episodes", 0, *vae], "--episodes must be at least 1"),
        ([*base, *vae], "episodes"),
        ([*base, "--episodes", 8, *vae, "--dtype=int8"], "dtype"),
        ([*base, "--episodes", 8, *vae, "--pairs=99"], "--pairs"),
        ([*base, "--episodes", 8, *vae, "--data.max_pair=3"], "max_pair"),
    ]
    for arguments, told in cases:
        ran = run_cli(arguments)
        assert ran.code == 2, (arguments, ran)
        assert told in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
        assert not (tmp_path / "latents" / "latents.json").exists()


def test_encode_goes_on_with_what_is_missing(latents, config, run_cli, tmp_path, tiny_vae_dir):
    folder = latents()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "depth_estimation-00000000.tar").unlink()
    assert latents() == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    text = json.dumps(json.loads(before["latents.json"]))
    assert str(tmp_path) not in text


def test_a_batch_moves_whole(latents):
    batch = EpisodeData(**DATA, latents=str(latents("--posterior=sample"))).train_dataloader().dataset[0]
    assert isinstance(batch, LatentBatch)
    moved = batch.to("meta")
    assert moved.mean.inputs.is_meta
    assert moved.std.targets.is_meta
    assert (moved.tasks, len(moved)) == (batch.tasks, len(batch))
