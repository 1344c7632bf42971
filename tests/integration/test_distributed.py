"""Several processes train what one process trains, and go on from each other's checkpoints."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from conftest import run_in_process
from lavindit.models import STVAE, JDiT, JDiTConfig, ModelBundle, STVAEConfig, save_model
from lavindit.training.parallel import shard

STEPS, HALF = 20, 10
OPTIONS = """
model:
  init_args:
    network: {width: 64, depth: 2, heads: 2, queries_per_kv: 1, context_attention: joint}
    targets: query
    noisy_copies: 1
    sampling: {steps: 2, guidance: 1.5}
    drop_pairs: 0.3
    decay_share: 0.0
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 3.0e-3, weight_decay: 0.01}}
data:
  tasks: [depth_estimation, colorization]
  batch_size: 4
  min_pairs: 1
  max_pairs: 2
  source: {resolution: 32, scenes: 16, test_scenes: 16}
  test_samples: 10
  eval_batch_size: 2
trainer: {precision: 32-true, log_every_n_steps: 1, val_check_interval: 10}
budget: {minutes: null}
checkpoint_every: 10
threads: 1
"""


def run_command(run: Path, steps: int, strategy: str, command_name: str = "fit") -> str:
    """In this process; under DDP in two that Lightning starts, under FSDP2 in two that a launcher starts."""
    arguments = [command_name, "--config", "experiment/demo_jdit.yaml"]
    arguments += ["--config", str(run.parent / "options.yaml"), f"--model.init_args.vae={run.parent / 'vae'}"]
    arguments += [f"--trainer.default_root_dir={run}", f"--trainer.max_steps={steps}"]
    if strategy == "one":
        ran = run_in_process(arguments)
        assert ran.code == 0, ran.stderr
        return ran.stderr
    command = [sys.executable, "-m", "lavindit", *arguments, "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    places: list[dict[str, str]] = [{}]
    if strategy == "fsdp2":
        together = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        together |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
        places = [together | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    started = [
        subprocess.Popen(command, env=environment | place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for place in places
    ]
    said = [process.communicate(timeout=300)[1] for process in started]
    assert not any(process.returncode for process in started), said
    return said[0]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def logged(run: Path, column: str) -> list[float]:
    """Values in the order of their steps, over all sittings."""
    files = sorted((run / "csv").glob("version_*/metrics.csv"))
    return [float(row[column]) for path in files for row in csv.DictReader(path.open()) if row.get(column)]


def same_course(run: Path, reference: Path) -> None:
    """Losses and the exported average agree with a run of one process."""
    for column, values in (("train_loss", STEPS), ("val_loss", STEPS // 10)):
        own, other = logged(run, column), logged(reference, column)
        assert len(own) == len(other) == values
        assert own == pytest.approx(other, abs=1e-4)
    own, other = load_file(run / "model" / "jdit.safetensors"), load_file(reference / "model" / "jdit.safetensors")
    assert own.keys() == other.keys()
    for name in own:
        torch.testing.assert_close(own[name], other[name], atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` at 20 steps with its state at 10 in `one_half`; `fsdp2_half`, written by two processes at 10."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "options.yaml").write_text(OPTIONS)
    torch.manual_seed(0)
    save_model(ModelBundle(STVAE(STVAEConfig(widths=(16, 16, 16), norm_groups=8))), folder / "vae")
    run_command(folder / "one", HALF, "one")
    shutil.copytree(folder / "one", folder / "one_half")
    run_command(folder / "one", STEPS, "one")
    run_command(folder / "fsdp2_half", HALF, "fsdp2")
    return folder


def test_ddp_trains_as_one_process_does(runs: Path) -> None:
    run_command(runs / "ddp", STEPS, "ddp")
    same_course(runs / "ddp", runs / "one")


@pytest.mark.parametrize(("written", "resumed"), [("fsdp2", "one"), ("fsdp2", "fsdp2"), ("one", "fsdp2")])
def test_any_number_of_processes_goes_on(runs: Path, written: str, resumed: str) -> None:
    run = runs / f"{written}_to_{resumed}"
    shutil.copytree(runs / f"{written}_half", run)
    again = run_command(run, STEPS, resumed)
    assert "going on from" in again
    same_course(run, runs / "one")


def tiny_jdit() -> JDiT:
    """Its zero-initialised layers are random, too, or most gradients would be zero."""
    torch.manual_seed(0)
    model = JDiT(JDiTConfig(width=64, depth=2, heads=2, full_last_block=True))
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def test_two_processes_test_what_one_tests(runs: Path) -> None:
    """Five batches, so that one of them comes twice."""
    figures = {}
    for strategy in ("one", "fsdp2"):
        run_command(runs / "fsdp2_half", HALF, strategy, "test")
        result = json.loads((runs / "fsdp2_half" / "result.json").read_text())
        figures[strategy] = {
            (task["task"], figure["metric"]): figure["answer"] for task in result["tasks"] for figure in task["figures"]
        }
        assert [task["n"] for task in result["tasks"]] == [10, 10]
    assert figures["fsdp2"] == pytest.approx(figures["one"], abs=1e-4)


def loss_of(model: nn.Module, rows: slice) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy, context = (torch.randn(4, 16, frames, 4, 4, generator=generator) for frames in (1, 3))
    t = torch.rand(4, generator=generator)
    return model(noisy[rows], t[rows], context[rows]).square().mean()


def gradients(rank: int, port: str, folder: Path) -> None:
    """One of two processes: gradients of half a batch under FSDP2 and DDP, whole as rank 0 writes them."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        rows = slice(2 * rank, 2 * rank + 2)
        for name in ("fsdp2", "ddp"):
            model = tiny_jdit()
            if name == "fsdp2":
                shard(model, init_device_mesh("cpu", (2,)), mixed=False)
                loss_of(model, rows).backward()
            else:
                wrapped = nn.parallel.DistributedDataParallel(model)  # its hooks live as long as it does
                loss_of(wrapped, rows).backward()
            found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
            whole = {key: g.full_tensor() if isinstance(g, DTensor) else g for key, g in found.items()}
            if rank == 0:
                torch.save(whole, folder / f"{name}.pt")
    finally:
        dist.destroy_process_group()


def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    mp.spawn(gradients, (free_port(), tmp_path), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    model = tiny_jdit()
    loss_of(model, slice(0, 4)).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    unread = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert unread == {n for n, _ in model.named_parameters() if n.startswith("blocks.1.context.")} & unread
    assert expected.keys() | unread == dict(model.named_parameters()).keys()
    for name in ("fsdp2", "ddp"):
        found = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for key, gradient in found.items():
            torch.testing.assert_close(gradient, expected[key], atol=1e-6, rtol=1e-4)
