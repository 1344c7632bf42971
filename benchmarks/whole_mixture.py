"""All 22 trained tasks at once: how far a short training lowers each task's loss on held-out episodes.

    lavindit fit --config experiment/all_tasks_vae.yaml
    python benchmarks/whole_mixture.py --vae runs/all_tasks_vae/model --out benchmarks/results/whole_mixture.json

Trains the network of `experiment/all_tasks_jdit.yaml` for 200 steps on the whole mixture, images and clips, and
validates before and after: the same episodes, noise and times. Also the share of episodes and the seconds of a step
by shape, and the share of making the batches. One seed.
"""

import argparse
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
from lightning import Callback, Trainer

from lavindit.data import EpisodeData, SourceConfig
from lavindit.models import JDiTConfig, load_model
from lavindit.report import file_benchmark
from lavindit.training import DiTModule
from lavindit.training.optimizers import MuonAdamW

NETWORK = JDiTConfig(width=128, depth=6, heads=2, queries_per_kv=2, sandwich=True, context_attention="causal")


class Clock(Callback):
    """Seconds of each step by shape, and episodes by task."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = defaultdict(list)
        self.episodes: Counter[str] = Counter()
        self._start = 0.0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Stop."""
        shape = f"{len(batch)} episodes of {batch.inputs.shape[3]} to {batch.targets.shape[3]} frames"
        self.steps[shape].append(time.perf_counter() - self._start)
        self.episodes.update(batch.tasks)


def losses(trainer: Trainer, module: DiTModule, data: EpisodeData) -> dict[str, float]:
    """Validation loss by task, and their mean under "all"."""
    found = trainer.validate(module, data, verbose=False)[0]
    return {name.removeprefix("val_loss").removeprefix("/") or "all": value for name, value in found.items()}


def main() -> None:
    """Train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", required=True, help="model directory of a VAE")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.manual_seed(chosen.seed)
    source = SourceConfig(resolution=64, scenes=2048, clips=256)
    sizes = {"batch_size": 16, "clip_batch_size": 4, "min_pairs": 4, "max_pairs": 4, "val_samples": 8}
    data = EpisodeData(source=source, seed=chosen.seed, **sizes)
    module = DiTModule(
        chosen.vae,
        NETWORK,
        optimizer=lambda parameters: MuonAdamW(parameters, lr=1e-2, weight_decay=0.01),
        targets="every_pair",
        noisy_copies=2,
        time_shift=3.0,
        warmup_steps=20,
        ema_decay=0.98,
        seed=chosen.seed,
    )
    clock = Clock()
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_steps=chosen.steps, gradient_clip_val=1.0, num_sanity_val_steps=0, limit_val_batches=1.0,
        val_check_interval=10**9, check_val_every_n_epoch=None, callbacks=[clock], enable_model_summary=False,
        enable_progress_bar=False, use_distributed_sampler=False, **options,
    )  # fmt: skip
    before = losses(trainer, module, data)
    start = time.perf_counter()
    trainer.fit(module, data)
    wall = time.perf_counter() - start
    after = losses(trainer, module, data)
    tasks = {name: {"before": before[name], "after": after[name], "fell": after[name] < before[name]} for name in after}
    fields = {
        "vae": {"steps": load_model(chosen.vae).info.get("steps")},
        "figures": {
            "loss": tasks,
            "tasks_whose_loss_fell": sum(row["fell"] for name, row in tasks.items() if name != "all"),
            "tasks": len(tasks) - 1,
            "episodes": dict(sorted(clock.episodes.items())),
            "median_step_s": {shape: median(times) for shape, times in sorted(clock.steps.items())},
            "steps": {shape: len(times) for shape, times in sorted(clock.steps.items())},
            "wall_s": wall,
            "data_share": 1 - sum(map(sum, clock.steps.values())) / wall,
        },
        "n": sizes["val_samples"],
    }
    file_benchmark(chosen.out, chosen.seed, fields)


if __name__ == "__main__":
    main()
