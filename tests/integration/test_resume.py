"""A run that is killed and started again ends as if nothing had happened."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lavindit.models import STVAE, ModelBundle, STVAEConfig, save_model

STEPS = 24
TINY_JDIT = ["--model.init_args.network.width=64", "--model.init_args.network.depth=2"]
TINY_JDIT += ["--model.init_args.network.heads=2", "--model.init_args.network.queries_per_kv=1"]
TINY_JDIT += ["--data.min_pairs=1", "--data.max_pairs=3"]
TINY_VAE = ["--model.init_args.network.widths=[16,16,16]", "--model.init_args.network.norm_groups=8"]


def command(experiment: str, run: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "lavindit",
        "fit",
        "--config",
        f"experiment/{experiment}.yaml",
        f"--trainer.default_root_dir={run}",
        f"--trainer.max_steps={STEPS}",
        "--trainer.log_every_n_steps=1",
        "--budget.minutes=null",
        "--checkpoint_every=5",
        "--data.batch_size=4",
        "--data.source.scenes=64",
        "--data.source.test_scenes=64",
        "--threads=1",
        *options,
    ]


def losses(run: Path) -> dict[int, float]:
    """Training loss by step, over all sittings; where sittings overlap they must agree."""
    found: dict[int, float] = {}
    for path in sorted((run / "csv").glob("version_*/metrics.csv")):
        for row in csv.DictReader(path.open()):
            if row.get("train_loss"):
                step, value = int(row["step"]), float(row["train_loss"])
                assert found.setdefault(step, value) == value
    return found


def wait_for_checkpoint(process: subprocess.Popen, run: Path) -> None:
    """Until one lies there."""
    deadline = time.monotonic() + 240
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_and_end(arguments: list[str], run: Path, how: signal.Signals) -> str:
    """Start a run and send it a signal once a checkpoint lies there; what it said."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so in what a shell started in the background, and below it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(process, run)
    os.kill(process.pid, how)
    return process.communicate(timeout=120)[1]


@pytest.fixture
def tiny_vae_dir(tmp_path) -> Path:
    torch.manual_seed(0)
    save_model(ModelBundle(STVAE(STVAEConfig(widths=(16, 16, 16), norm_groups=8))), tmp_path / "vae")
    return tmp_path / "vae"


def final_weights(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


ACCUMULATED = [*TINY_JDIT, "--trainer.accumulate_grad_batches=2", "--data.workers=1"]


@pytest.mark.parametrize(
    ("experiment", "tiny", "how"),
    [
        ("demo_jdit", TINY_JDIT, signal.SIGKILL),
        ("demo_vae", TINY_VAE, signal.SIGINT),
        ("demo_jdit", ACCUMULATED, signal.SIGTERM),
    ],
)
def test_a_run_that_was_ended_resumes_to_the_same_losses_and_weights(experiment, tiny, how, tmp_path, tiny_vae_dir):
    options = [*tiny] + ([f"--model.init_args.vae={tiny_vae_dir}"] if experiment == "demo_jdit" else [])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(experiment, whole, *options), check=True, capture_output=True)
    arguments = command(experiment, broken, *options)
    said = run_and_end(arguments, broken, how)
    killed_at = final_weights(broken)["global_step"]
    assert 0 < killed_at < STEPS
    if how != signal.SIGKILL:
        assert f"interrupted at step {killed_at};" in said  # the step that it was in is not lost
        assert max(losses(broken)) == killed_at - 1
    again = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert "going on from" in again.stderr
    undisturbed, resumed = losses(whole), losses(broken)
    assert len(undisturbed) == STEPS
    for step in range(killed_at, STEPS):
        assert resumed[step] == undisturbed[step]
    a, b = final_weights(whole), final_weights(broken)
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name
    assert any(name.startswith("average.") for name in a["state_dict"])
    assert a["lavindit_average_updates"] == b["lavindit_average_updates"] == STEPS


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_ends_when_all_its_processes_are_told_to(devices, tmp_path, tiny_vae_dir):
    parallel = ["--trainer.strategy=ddp", "--trainer.devices=2"] if devices == 2 else []
    vae = f"--model.init_args.vae={tiny_vae_dir}"
    arguments = command("demo_jdit", tmp_path / "run", *TINY_JDIT, vae, *parallel, "--trainer.max_steps=100000")
    # A group of its own, so that the signal reaches every process of the run and no other.
    run = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for_checkpoint(run, tmp_path / "run")
        os.killpg(run.pid, signal.SIGTERM)
        said = run.communicate(timeout=120)[1]  # ends when no process holds that stream any more
        assert run.returncode == 130
        assert "last.ckpt is kept; the same command goes on from it" in said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
