"""A sampling step beside the released way of computing it, each saving apart, and a roofline.

    python benchmarks/released_step.py --out benchmarks/results/released_step.json

The released way: two forward passes even at guidance 1, and the last block's context half computed though nothing reads
it. Everything else is the same module: plain scaled dot-product attention, tables of rotations made once. All variants
are timed in turn, round after round, in one process; their outputs are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from lavindit.flow import guide
from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import query_layout
from lavindit.models.jdit.cost import forward_bytes, forward_cost
from lavindit.report import file_benchmark

SIZES = {
    "0.1b": JDiTConfig(width=512, depth=12, heads=8, queries_per_kv=1, sandwich=False, full_last_block=True),
    "nano": JDiTConfig(width=128, depth=6, heads=2, queries_per_kv=2, full_last_block=True),
}


def make_model(config: JDiTConfig) -> JDiT:
    """A model whose zero-initialised layers are random, too."""
    torch.manual_seed(0)
    model = JDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model


def steps(model: JDiT, noisy: Tensor, context: Tensor, guidance: float) -> dict[str, Callable[[], Tensor]]:
    """The variants of one guided step, by name."""
    t = torch.full((len(noisy),), 0.5)
    null = torch.cat([torch.zeros_like(context[:, :, :1]), context[:, :, -1:]], dim=2)
    last = model.blocks[-1].context

    def step(whole_last: bool, always_null: bool) -> Tensor:
        last.readable = whole_last  # type: ignore[union-attr]
        conditional = model(noisy, t, context)
        if always_null:
            without = model(noisy, t, null)
            return without + guidance * (conditional - without)
        return guide(conditional, lambda: model(noisy, t, null), guidance)

    return {
        "released": lambda: step(True, True),
        "last block without its unread half": lambda: step(False, True),
        "no null forward at guidance 1": lambda: step(True, False),
        "ours": lambda: step(False, False),
    }


def work(config: JDiTConfig, pairs: int, tokens: int, guidance: float) -> dict[str, float]:
    """The released way's FLOPs over those of each variant: the ratio that a perfect clock would show."""

    def flops(frames: int, whole_last: bool) -> int:
        layout = query_layout(config.context_attention, frames, 1)
        costs = [forward_cost(replace(config, depth=depth), layout, tokens) for depth in (1, 2, config.depth)]
        last = costs[0].blocks_executed
        return costs[2].executed + (costs[1].blocks_executed - 2 * last if whole_last else 0)

    def step(whole_last: bool, always_null: bool) -> int:
        null = flops(2, whole_last) if always_null or guidance != 1 else 0
        return flops(2 * pairs + 1, whole_last) + null

    variants = {
        "released": (True, True),
        "last block without its unread half": (False, True),
        "no null forward at guidance 1": (True, False),
        "ours": (False, False),
    }
    return {name: step(True, True) / step(*choice) for name, choice in variants.items()}


def time_in_turn(variants: dict[str, Callable[[], Tensor]], rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of every variant in every round, and the largest difference of any output from the first one's."""
    outputs = {name: run() for name, run in variants.items()}  # warm-up
    reference = outputs["released"]
    difference = max(float((output - reference).abs().max()) for output in outputs.values())
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        order = list(variants) if turn % 2 == 0 else list(variants)[::-1]
        for name in order:
            start = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds, difference


def summarise(seconds: dict[str, list[float]], difference: float) -> dict:
    """Medians, and ratios to the released way as the median over rounds of each round's own ratio."""
    released = seconds["released"]
    ratios = {name: [r / s for r, s in zip(released, values, strict=True)] for name, values in seconds.items()}
    return {
        "median_s": {name: statistics.median(values) for name, values in seconds.items()},
        "faster_than_released": {name: statistics.median(values) for name, values in ratios.items()},
        "ratio_quartiles": {name: statistics.quantiles(values, n=4)[::2] for name, values in ratios.items()},
        "largest_difference_of_outputs": difference,
    }


def machine_limits(width: int, tokens: int) -> dict[str, float]:
    """Measured matrix product rate at the model's own shapes and copy rate of memory, medians of 15."""
    a, b = torch.randn(tokens, width), torch.randn(width, 3 * width)
    block = torch.randn(2**25)
    target = torch.empty_like(block)

    def median(run: Callable[[], object]) -> float:
        times = []
        for _ in range(15):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    product, copy = median(lambda: a @ b), median(lambda: target.copy_(block))
    return {
        "matmul_gflops": 2 * a.numel() * b.shape[1] / product / 1e9,
        "memory_gb_per_s": 2 * block.numel() * 4 / copy / 1e9,
    }


def roofline(config: JDiTConfig, pairs: int, tokens: int, measured_s: float) -> dict[str, float]:
    """How near a step at guidance 1 comes to what the machine could do at best."""
    layout = query_layout(config.context_attention, 2 * pairs + 1, 1)
    cost, moved = forward_cost(config, layout, tokens), forward_bytes(config, layout, tokens, bytes_per_number=4)
    limits = machine_limits(config.width, (2 * pairs + 2) * tokens)
    compute, memory = cost.executed / limits["matmul_gflops"] / 1e9, moved / limits["memory_gb_per_s"] / 1e9
    return limits | {
        "step_gflop": cost.executed / 1e9,
        "step_gb_at_least": moved / 1e9,
        "compute_s": compute,
        "memory_s": memory,
        "share_of_the_roofline": max(compute, memory) / measured_s,
    }


@torch.inference_mode()
def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="0.1b")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    config, side = SIZES[chosen.size], chosen.resolution // 8
    model = make_model(config)
    noisy = torch.randn(1, 16, 1, side, side)
    context = torch.randn(1, 16, 2 * chosen.pairs + 1, side, side)
    figures = {}
    for guidance in (1.5, 1.0):
        figures[f"guidance_{guidance}"] = summarise(
            *time_in_turn(steps(model, noisy, context, guidance), chosen.rounds)
        ) | {"less_work_than_released": work(config, chosen.pairs, (side // 2) ** 2, guidance)}
        print(json.dumps(figures[f"guidance_{guidance}"], indent=2), flush=True)
    measured = figures["guidance_1.0"]["median_s"]["ours"]
    figures["roofline_at_guidance_1"] = roofline(config, chosen.pairs, (side // 2) ** 2, measured)
    fields = {
        "network": asdict(config),
        "resolution": chosen.resolution,
        "pairs": chosen.pairs,
        "threads": torch.get_num_threads(),
        "n": chosen.rounds,
        "figures": figures,
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
