"""What pays in a training of minutes: optimizer, size and context attention at equal time, on the same latents.

    python benchmarks/short_training.py --seconds 90 --out benchmarks/results/short_training.json

Encodes batches of the demo's mixture once, then trains each variant from scratch for the same time (its own steps only,
data excluded) and measures the loss of the query's target, given all pairs, on held-out batches with fixed noise.
One seed: a lead, not a proof.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lavindit.data import EpisodeData, SourceConfig
from lavindit.flow import seed_from
from lavindit.inference import encode_batch
from lavindit.models import JDiTConfig, load_model
from lavindit.report import file_benchmark
from lavindit.training import DiTModule
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import trapezoid
from lavindit.types import LatentEpisode

HELD_OUT = 8
SMALL = {"width": 128, "depth": 6, "heads": 2, "queries_per_kv": 2}
LARGE = {"width": 192, "depth": 8, "heads": 4, "queries_per_kv": 2}


def adamw(lr: float) -> Callable:
    """AdamW at a rate."""
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=0.01)


def muon(lr: float) -> Callable:
    """Muon on matrices, AdamW on the rest."""
    return lambda parameters: MuonAdamW(parameters, lr=lr)


@dataclass(frozen=True)
class Variant:
    """What is compared."""

    name: str
    optimizer: Callable
    network: dict
    mode: str = "causal"
    targets: str = "every_pair"
    noisy_copies: int = 1


VARIANTS = (
    Variant("Muon 1e-2, 128x6, causal, a target for every pair", muon(1e-2), SMALL),
    Variant("two noisy copies of each target (the demo)", muon(1e-2), SMALL, noisy_copies=2),
    Variant("AdamW 1e-3", adamw(1e-3), SMALL),
    Variant("AdamW 3e-3", adamw(3e-3), SMALL),
    Variant("192x8", muon(1e-2), LARGE),
    Variant("causal, the query's target alone", muon(1e-2), SMALL, "causal", "query"),
    Variant("joint, the query's target alone", muon(1e-2), SMALL, "joint", "query"),
)


def encode(vae: str, batches: int) -> list[LatentEpisode]:
    """Latents of `batches` batches of the demo's mixture."""
    source = SourceConfig(scenes=2048, test_scenes=64, photo_share=0.3)
    data = EpisodeData(source=source, batch_size=16, min_pairs=4, max_pairs=4)
    network, found = load_model(vae).vae, []
    for batch, _ in zip(data.train_dataloader(), range(batches), strict=False):
        with torch.no_grad():
            found.append(encode_batch(network, batch))
    return found


def train(variant: Variant, vae: str, latents: list[LatentEpisode], seconds: float) -> tuple[int, float]:
    """Steps made in the time, and the held-out loss."""
    torch.manual_seed(0)
    config = JDiTConfig(context_attention=variant.mode, **variant.network)  # pyright: ignore[reportArgumentType]
    module = DiTModule(vae, config, targets=variant.targets, noisy_copies=variant.noisy_copies)  # pyright: ignore[reportArgumentType]
    network = module.build_network().train()
    optimizer = variant.optimizer(network.parameters())
    rates = [group["lr"] for group in optimizer.param_groups]
    start, step = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * trapezoid(spent / seconds, step, 20, 0.4)
        with torch.autocast("cpu", torch.bfloat16):
            latent = latents[step % (len(latents) - HELD_OUT)]
            seeds = range(step * len(latent.inputs), (step + 1) * len(latent.inputs))
            loss = module.losses(network, latent, seeds).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
    module.targets = "query"
    network.eval()
    losses = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for i, latent in enumerate(latents[-HELD_OUT:]):
            seeds = [seed_from("held out", i, place) for place in range(len(latent.inputs))]
            losses.append(float(module.losses(network, latent, seeds).mean()))
    return step, sum(losses) / len(losses)


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", default="runs/demo_vae/model")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    latents, rows = encode(chosen.vae, chosen.batches), []
    for variant in VARIANTS:
        steps, loss = train(variant, chosen.vae, latents, chosen.seconds)
        rows.append({"variant": variant.name, "steps": steps, "held_out_loss": round(loss, 4)})
        print(rows[-1], flush=True)
    fields = {
        "seconds_a_variant": chosen.seconds,
        "n_held_out_episodes": HELD_OUT * 16,
        "rows": rows,
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
