"""A training step from pictures beside one from stored latents, at nano size, and the room that an episode takes.

    python benchmarks/cached_latents.py --vae runs/demo_vae/model --out benchmarks/results/cached_latents.json

Both ways take the demo's J-DiT and tasks, batches of one size and the same network; steps alternate, so that both meet
the same machine. Scenes are rendered before the clock starts, as in the later part of a long training. float32.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lavindit.data import EpisodeData, SourceConfig
from lavindit.data.latents import LatentStore, LatentWriter, latents_config, share_out
from lavindit.models import JDiTConfig, load_model
from lavindit.report import file_benchmark
from lavindit.training import DiTModule
from lavindit.training.optimizers import MuonAdamW

PARTS = ("data", "encode", "model")
TASKS = ["colorization", "depth_estimation", "edge_detection", "inpainting", "motion_deblurring", "normal_estimation"]
DATA: dict[str, Any] = {"tasks": TASKS, "batch_size": 16, "min_pairs": 4, "max_pairs": 4}
SOURCE = SourceConfig(scenes=256, test_scenes=64, photo_share=0.3)
WARM_UP = 3


def encode(vae_folder: str, folder: Path, episodes: int) -> dict[str, float]:
    """Write a set of latents; how fast, how large, and how far float16 is from float32."""
    data, vae = EpisodeData(**DATA, source=SOURCE), load_model(vae_folder).vae
    counts = share_out(episodes, data.training_weights())
    stores = {}
    seconds: dict[str, float] = {}
    for dtype in ("float32", "float16"):  # the first renders the scenes, too
        config = latents_config(data.trained_tasks, SOURCE, 4, 0, vae.config, Path(vae_folder), dtype=dtype)
        start = time.perf_counter()
        LatentWriter(vae, config, data.training_makers(), folder / dtype, counts).run()
        seconds[dtype] = time.perf_counter() - start
        stores[dtype] = LatentStore(folder / dtype)
    errors, squares = [], []
    for task, count in counts.items():
        for number in range(count):
            half, full = (stores[dtype].read(task, number).latents["targets"] for dtype in ("float16", "float32"))
            errors.append((half.float() - full).square().mean())
            squares.append(full.square().mean())
    size = sum(stores["float16"].description.shards.values())
    return {
        "encode_episodes_per_s": episodes / seconds["float16"],
        "float16_bytes_per_episode": size / episodes,
        "float16_relative_rms_error": float((torch.stack(errors).mean() / torch.stack(squares).mean()).sqrt()),
    }


def time_steps(vae_folder: str, latents: Path, steps: int) -> dict[str, dict[str, float]]:
    """Median seconds of each part of a step, from pictures and from latents."""
    module = DiTModule(vae_folder, JDiTConfig(context_attention="causal"), targets="every_pair", noisy_copies=2)
    network = module.build_network().train()
    optimizer = MuonAdamW(network.parameters(), lr=1e-2)
    streams = {
        "pictures": iter(EpisodeData(**DATA, source=SOURCE).train_dataloader()),
        "latents": iter(EpisodeData(**DATA, source=SOURCE, latents=str(latents)).train_dataloader()),
    }
    found: dict[str, list[list[float]]] = {name: [] for name in streams}
    for step in range(WARM_UP + steps):
        for name, stream in streams.items():
            marks = [time.perf_counter()]
            batch = next(stream)
            marks.append(time.perf_counter())
            latent = module._encode(batch, step)
            marks.append(time.perf_counter())
            module.losses(network, latent, batch.numbers).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            marks.append(time.perf_counter())
            found[name].append([end - start for start, end in itertools.pairwise(marks)])
    return {
        name: dict(zip(PARTS, map(statistics.median, zip(*rows[WARM_UP:], strict=True)), strict=True))
        for name, rows in found.items()
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", default="runs/demo_vae/model")
    parser.add_argument("--episodes", type=int, default=240)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stored = encode(chosen.vae, Path(folder), chosen.episodes)
        seconds = time_steps(chosen.vae, Path(folder) / "float16", chosen.steps)
    steps = {name: sum(parts.values()) for name, parts in seconds.items()}
    fields = {
        "threads": torch.get_num_threads(),
        "n": chosen.steps,
        "episodes": chosen.episodes,
        "figures": {
            "step_s": steps,
            "parts_s": seconds,
            "pictures_over_latents": steps["pictures"] / steps["latents"],
            **stored,
        },
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
