"""What pays in a training of minutes: optimizer and size at equal time, on the same latents.

    python benchmarks/short_training.py --seconds 90 --out benchmarks/results/short_training.json

Encodes batches of the demo's mixture once, then trains each variant from scratch for the same time (its own steps only,
data excluded) and measures the loss of the query's target, given all pairs, on held-out batches with fixed noise.
One seed: a lead, not a proof. All variants are causal and train a target for every pair; `attention_modes.py` compares
context attention. The filed result is older and has variants of that, too.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from lavindit.data import EpisodeData, SourceConfig
from lavindit.flow import seed_from
from lavindit.inference import encode_batch
from lavindit.models import JDiTConfig, load_model
from lavindit.report import file_benchmark
from lavindit.training import DiTModule
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import trapezoid
from lavindit.training.targets import NoisyTargets
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


class Variant(NamedTuple):
    """What is compared."""

    name: str
    optimizer: Callable
    network: dict


VARIANTS = (
    Variant("Muon 1e-2, 128x6", muon(1e-2), SMALL),
    Variant("AdamW 1e-3", adamw(1e-3), SMALL),
    Variant("AdamW 3e-3", adamw(3e-3), SMALL),
    Variant("192x8", muon(1e-2), LARGE),
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
    module = DiTModule(vae, JDiTConfig(context_attention="causal", **variant.network), targets="every_pair")
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
    network.eval()
    losses = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for i, latent in enumerate(latents[-HELD_OUT:]):
            seeds = [seed_from("held out", i, place) for place in range(len(latent.inputs))]
            losses.append(float(NoisyTargets("query").losses(network, latent, seeds).mean()))
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
