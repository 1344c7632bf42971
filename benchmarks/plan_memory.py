"""How well `lavindit plan` foresees the memory of a training step, against real steps on the CPU.

    python benchmarks/plan_memory.py --out benchmarks/results/plan_memory.json

Each row trains a network for two steps in the trainer's order: encode, forward, let old gradients go, backward, clip,
AdamW, average; in the second one, gradients, moments and average exist from the start. torch's profiler watches from
before the networks are built (it misses releases of older memory): it records every allocation and release of torch's
CPU allocator, also inside operators, where the plan cannot look.
Resident memory would count the interpreter, freed pages and the threads' arenas as well, more than a small network.
The plan asks for CPU kernels here (`kernels="cpu"`), since those are what is measured.
"""

import argparse
import copy
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lavindit.losses import flow_matching_loss
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig
from lavindit.report import file_benchmark
from lavindit.training.plan import VAE_FACTOR, TrainingSetup, plan_training

SEED = 0
SMALL = JDiTConfig(width=512, depth=12, heads=8, queries_per_kv=1, sandwich=False)
CAUSAL = JDiTConfig(context_attention="causal")
FOUR_BLOCKS = JDiTConfig(width=256, depth=4, heads=4, queries_per_kv=1, drop_path=0.1)
ROWS = {
    "nano, 64 px, every pair": (CAUSAL, {"resolution": 64, "pairs": 4, "batch_per_device": 4, "targets": "every_pair"}),
    "256 wide, 4 blocks, 128 px": (FOUR_BLOCKS, {"resolution": 128, "pairs": 4, "batch_per_device": 2}),
    "0.1B, 64 px": (SMALL, {"resolution": 64, "pairs": 4}),
    "0.1B, 128 px": (SMALL, {"resolution": 128, "pairs": 8, "batch_per_device": 2}),
}


def measure(config: JDiTConfig, vae_config: STVAEConfig, setup: TrainingSetup, checkpointing: bool) -> int:
    """Peak bytes of a training."""
    torch.manual_seed(SEED)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        _train(config, vae_config, setup, checkpointing)
    records: Any = profile.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]")
    return max(accumulate(change for _, change in changes))


def _train(config: JDiTConfig, vae_config: STVAEConfig, setup: TrainingSetup, checkpointing: bool) -> None:
    network, vae = JDiT(config).train(), STVAE(vae_config).eval().requires_grad_(False)
    network.checkpointing = checkpointing
    average = copy.deepcopy(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    pictures = torch.rand(setup.pictures, 3, 1, setup.resolution, setup.resolution)
    for _ in range(2):
        _backward(network, vae, optimizer, pictures, setup)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 0.01)


def _backward(
    network: JDiT, vae: STVAE, optimizer: torch.optim.Optimizer, pictures: torch.Tensor, setup: TrainingSetup
) -> None:
    config = network.config
    layout, batch, side = setup.layout(config), setup.batch_per_device, setup.resolution // VAE_FACTOR
    frames = len(layout.target)
    with torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bf16-mixed"):
        with torch.no_grad():
            vae.to_latent(pictures)
        context = torch.randn(batch, config.latent_channels, len(layout.context), side, side)
        noisy, wanted = torch.randn(2, batch, config.latent_channels, frames, side, side)
        t = torch.rand(batch, frames) if setup.targets == "every_pair" else torch.rand(batch)
        loss = flow_matching_loss(network(noisy, t, context, layout)[:, None], wanted[:, None]).mean()
    optimizer.zero_grad()
    loss.backward()


def compare(config: JDiTConfig, setup: TrainingSetup) -> list[dict]:
    """Estimate and measurement, without and with activation checkpointing."""
    vae = STVAEConfig()
    plan, rows = plan_training(config, vae, setup), []
    for checkpointing, memory in ((False, plan.memory), (True, plan.memory_checkpointed)):
        measured = measure(config, vae, setup, checkpointing)
        rows.append(
            {
                "precision": setup.precision,
                "checkpointing": checkpointing,
                "measured_mib": round(measured / 2**20, 1),
                "estimate_mib": round(memory.total / 2**20, 1),
                "estimate_over_measured": round(memory.total / measured, 3),
                "phase_of_the_peak": max(memory.phases, key=memory.phases.__getitem__),
            }
        )
    return rows


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rows = []
    for name in chosen.rows:
        config, options = ROWS[name]
        for precision in ("32-true", "bf16-mixed"):
            setup = TrainingSetup(**options, precision=precision, kernels="cpu")
            for row in compare(config, setup):
                rows.append({"network": name, **row})
                print(rows[-1], flush=True)
    fields = {
        "n": 1,
        "networks": {name: asdict(config) | options for name, (config, options) in ROWS.items()},
        "figures": rows,
    }
    file_benchmark(chosen.out, SEED, fields)


if __name__ == "__main__":
    main()
