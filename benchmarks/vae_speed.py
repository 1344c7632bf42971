"""Speed of a VAE's training: the nano layout beside the plain one, where a step's time goes, and the loader.

    python benchmarks/vae_speed.py --out benchmarks/results/vae_speed.json

The plain layout is that of the paper made narrow: no pixel-unshuffle, 3-D convolutions, no linear shortcut, the same
blocks a level, its width chosen so that it has as many parameters. Both take turns on the same pictures in one run with
the same optimizer (AdamW); medians. Then one step of the nano VAE in parts with the optimizer its experiment uses, and
the time to make a batch, on scenes that are rendered already and on new ones.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
import yaml
from torch import nn

from lavindit.cli.tools import use_threads
from lavindit.data import EpisodeData, SourceConfig
from lavindit.losses import reconstruction_loss
from lavindit.models import STVAE, STVAEConfig
from lavindit.report import file_benchmark
from lavindit.training.ema import EMA
from lavindit.training.optimizers import MuonAdamW

ROOT = Path(__file__).resolve().parents[1]
KL_WEIGHT = 1e-6


def nano_config() -> STVAEConfig:
    """The network of configs/model/stvae_nano.yaml."""
    options = yaml.safe_load((ROOT / "configs/model/stvae_nano.yaml").read_text())["model"]["init_args"]["network"]
    return STVAEConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})


def count(config: STVAEConfig) -> int:
    """Parameters."""
    with torch.device("meta"):
        return sum(p.numel() for p in STVAE(config).parameters())


def plain_config(parameters: int) -> STVAEConfig:
    """The paper's layout, as wide as brings it nearest to a number of parameters."""
    widths = [(w, 2 * w, 2 * w, 4 * w) for w in range(8, 129, 4)]
    found = [STVAEConfig(widths=w, patch=1, norm_groups=4) for w in widths]
    return min(found, key=lambda config: abs(count(config) - parameters))


class Step:
    """One training step, in parts."""

    def __init__(self, config: STVAEConfig, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        torch.manual_seed(0)
        self.vae, self.average = STVAE(config), STVAE(config)
        self.optimizer = optimizer(self.vae.parameters())
        self.ema = EMA(self.vae, self.average, 0.99)
        self.parts: dict[str, list[float]] = {}

    def __call__(self, pixels: torch.Tensor) -> float:
        """Take a step; seconds."""
        start = last = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal last
            now = time.perf_counter()
            self.parts.setdefault(name, []).append(now - last)
            last = now

        posterior = self.vae.encode(pixels)
        lap("encode")
        output = self.vae.decode(posterior.sample())
        lap("decode")
        loss = (reconstruction_loss(output, pixels) + KL_WEIGHT * posterior.kl()).mean()
        loss.backward()
        lap("backward")
        nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        lap("clip and optimizer")
        self.ema.update()
        lap("average")
        return time.perf_counter() - start


def adamw(parameters) -> torch.optim.Optimizer:
    """For both layouts."""
    return torch.optim.AdamW(parameters, lr=1e-3)


def muon(parameters) -> torch.optim.Optimizer:
    """As experiment/nano_vae.yaml."""
    return MuonAdamW(parameters, lr=1e-3)


def compare(steps: dict[str, Step], pixels: torch.Tensor, rounds: int) -> dict[str, float]:
    """Median seconds of a step of each, taking turns; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            seconds = step(pixels)
            if turn:
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}


def loader_times(resolution: int, batches: int) -> dict[str, float]:
    """Seconds to make a batch of 8 episodes: while scenes are still rendered, and after."""
    source = SourceConfig(resolution=resolution, scenes=512, photo_share=0.3)
    images = ["colorization", "depth_estimation", "edge_detection", "inpainting", "instance_segmentation",
        "motion_deblurring", "normal_estimation", "panoptic_segmentation", "pose_estimation"]  # fmt: skip
    data = EpisodeData(images, source=source, batch_size=8, min_pairs=0, max_pairs=0)
    dataset = data.train_dataloader().dataset
    start = time.perf_counter()
    for index in range(2 * batches):
        dataset[index]
    first = (time.perf_counter() - start) / (2 * batches)
    times = []
    for index in range(2 * batches, 3 * batches):
        start = time.perf_counter()
        dataset[index]
        times.append(time.perf_counter() - start)
    return {"while_rendering_s": first, "rendered_s": median(times)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=16, help="pictures a step")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    use_threads(chosen.threads)
    torch.manual_seed(0)
    pixels = torch.rand(chosen.pictures, 3, 1, chosen.resolution, chosen.resolution) * 2 - 1
    nano = nano_config()
    plain = plain_config(count(nano))
    seconds = compare({"nano": Step(nano, adamw), "plain": Step(plain, adamw)}, pixels, chosen.rounds)
    with_muon = Step(nano, muon)
    step_s = compare({"nano": with_muon}, pixels, chosen.rounds)["nano"]
    profile = {name: median(values[1:]) for name, values in with_muon.parts.items()}
    loader = loader_times(chosen.resolution, 24)
    fields = {
        "threads": torch.get_num_threads(),
        "n": chosen.rounds,
        "networks": {name: asdict(config) | {"parameters": count(config)} for name, config in
            (("nano", nano), ("plain", plain))},
        "figures": {
            "images_per_second": {name: chosen.pictures / value for name, value in seconds.items()},
            "nano_over_plain": seconds["plain"] / seconds["nano"],
            "nano_with_its_own_optimizer": {"step_s": step_s, "images_per_second": chosen.pictures / step_s},
            "profile_s": profile,
            "loader": loader | {"share": loader["rendered_s"] / (loader["rendered_s"] + step_s)},
        },
    }  # fmt: skip
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
