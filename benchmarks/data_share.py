"""What share of a training step is data preparation, at nano size.

    python benchmarks/data_share.py --vae runs/demo_vae/model --out benchmarks/results/data_share.json

Times the demo's training step with its own data (scenes rendered once and kept), as medians over the steps of one
run, and rendering apart: its whole cost is spread over the steps of the demo.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from lavindit.data import EpisodeData, SourceConfig
from lavindit.data.world import WorldSource
from lavindit.inference import encode_batch
from lavindit.models import JDiTConfig
from lavindit.report import file_benchmark
from lavindit.training import DiTModule
from lavindit.training.optimizers import MuonAdamW

DEMO_SCENES, DEMO_STEPS = 8192, 1500


def time_steps(vae: str, steps: int, warmup: int = 5) -> dict[str, float]:
    """Median seconds of each part of a step: data, encode, model (forward, backward, optimizer)."""
    source = SourceConfig(scenes=256, test_scenes=64, photo_share=0.3)
    data = EpisodeData(source=source, batch_size=16, min_pairs=4, max_pairs=4)
    module = DiTModule(vae, JDiTConfig(context_attention="causal"), targets="every_pair", noisy_copies=2)
    network = module.build_network().train()
    optimizer = MuonAdamW(network.parameters(), lr=1e-2)
    batches = iter(data.train_dataloader())
    for maker in batches._dataset_fetcher.dataset.makers:  # pyright: ignore - render before the clock starts
        for index in range(0, len(maker.context), 64):
            maker.context[index]
    parts: dict[str, list[float]] = {"data": [], "encode": [], "model": []}
    for _ in range(warmup + steps):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            latent = encode_batch(module.frozen_vae(), batch)
        encoded = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.losses(network, latent, range(len(batch))).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        end = time.perf_counter()
        for name, seconds in zip(parts, (ready - start, encoded - ready, end - encoded), strict=True):
            parts[name].append(seconds)
    return {name: statistics.median(values[warmup:]) for name, values in parts.items()}


def render_rate(scenes: int) -> float:
    """Scenes a second."""
    source = WorldSource("val", 64, scenes)
    start = time.perf_counter()
    source.preload()
    return scenes / (time.perf_counter() - start)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", default="runs/demo_vae/model")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    parts, rate = time_steps(chosen.vae, chosen.steps), render_rate(512)
    rendering = DEMO_SCENES / rate / DEMO_STEPS
    step = sum(parts.values()) + rendering
    fields = {
        "steps_measured": chosen.steps,
        "median_seconds": {**parts, "rendering_spread_over_1500_steps": rendering},
        "scenes_per_second": rate,
        "data_share": (parts["data"] + rendering) / step,
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
