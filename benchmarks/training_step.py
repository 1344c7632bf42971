"""Training steps of the J-DiT: seconds, MFU and memory, with and without compiled blocks and recomputed ones.

    python benchmarks/training_step.py --out benchmarks/results/training_step.json

On a GPU it takes the 0.1B and 1.0B models at 256 px; without one, sizes that a CPU can do, and the result says so.
Latents are random: data and VAE are not part of the step. AdamW, gradient clipping, the average of the weights and, on
a GPU, bf16 autocast are; a CPU computes in float32.
"""

import argparse
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import torch

from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import query_layout
from lavindit.models.jdit.cost import forward_cost, training_flops
from lavindit.report import file_benchmark
from lavindit.training.ema import EMA, averaged_copy
from lavindit.training.throughput import peak_of

NANO = JDiTConfig(width=128, depth=6, heads=2, queries_per_kv=2)
SMALL = JDiTConfig(width=256, depth=8, heads=4, queries_per_kv=1)
BASE = JDiTConfig(width=512, depth=12, heads=8, queries_per_kv=1, sandwich=False)
LARGE = JDiTConfig(width=1024, depth=28, heads=16, queries_per_kv=1, drop_path=0.1)
# name, network, episodes, latent side, pairs, recomputed blocks
ON_GPU = (
    ("0.1b", BASE, 16, 32, 4, False),
    ("0.1b", BASE, 16, 32, 4, True),
    ("1.0b", LARGE, 8, 32, 4, False),
    ("1.0b", LARGE, 8, 32, 4, True),
)
ON_CPU = (("nano", NANO, 16, 8, 4, False), ("256x8", SMALL, 4, 16, 4, False), ("256x8", SMALL, 4, 16, 4, True))


def time_steps(
    config: JDiTConfig, batch: int, side: int, pairs: int, recomputed: bool, compiled: bool, steps: int
) -> dict[str, float]:
    """Median seconds of a step, seconds of the first one, and peak memory on a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    with device:
        model = JDiT(config).train()
    model.checkpointing = recomputed
    ema = EMA(model, averaged_copy(model, lambda: JDiT(config), lambda network: None), 0.9999)
    if compiled:
        for block in model.blocks:
            block.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.01)
    noisy, target = torch.randn(2, batch, 16, 1, side, side, device=device).unbind(0)
    context, t = (
        torch.randn(batch, 16, 2 * pairs + 1, side, side, device=device),
        torch.rand(batch, device=device),
    )
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = (model(noisy, t, context).float() - target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    figures = {"first_step_s": seconds[0], "step_s": statistics.median(seconds[1:])}
    if device.type == "cuda":
        figures["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
    return figures


def matmul_tflops(side: int = 2048) -> float:
    """What one product of square matrices reaches on this machine (bf16 on a GPU, else float32), median of 9."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds[1:]) / 1e12


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    peak, rows = peak_of(torch.cuda.get_device_name()) if on_gpu else None, []
    reached = matmul_tflops()
    for name, config, batch, side, pairs, recomputed in ON_GPU if on_gpu else ON_CPU:
        cost = forward_cost(config, query_layout("joint", 2 * pairs + 1, 1), (side // 2) ** 2, batch)
        model_flops, hardware_flops = training_flops(cost, recomputed)
        for compiled in (False, True):
            figures = time_steps(config, batch, side, pairs, recomputed, compiled, chosen.steps)
            tflops = model_flops / figures["step_s"] / 1e12
            row = {"size": name, "resolution": 8 * side, "batch": batch, "pairs": pairs, "n": chosen.steps}
            row |= {"recomputed_blocks": recomputed, "compiled_blocks": compiled, "network": asdict(config)}
            row |= figures | {"step_tflop": model_flops / 1e12, "hardware_tflop": hardware_flops / 1e12}
            row |= {"tflop_per_s": tflops, "mfu": tflops / peak if peak else None, "share_of_matmul": tflops / reached}
            rows.append(row)
            print({key: value for key, value in row.items() if key != "network"}, flush=True)
    fields = {
        "note": "GPU sizes"
        if on_gpu
        else "no GPU at hand: sizes that a CPU can do; no MFU, since a CPU's peak is unknown",
        "threads": torch.get_num_threads(),
        "peak_tflops": peak,
        "measured_matmul_tflops": reached,
        "figures": rows,
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
