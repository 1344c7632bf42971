"""Attention of a training step in calls without masks, beside one call with a mask, and FlexAttention on a GPU.

    python benchmarks/context_calls.py --out benchmarks/results/context_calls.json

Forward and backward pass of a J-DiT on random latents, for each layout whose context does not see the noise, by tokens
a frame and by size. The ways take turns; a figure is the median. From all cells it proposes `FEW_TOKENS`
(`models/jdit/rope.py`): calls are taken where they have at least as many tokens on average. FlexAttention has no
backward pass on a CPU, so it is measured on a GPU alone; its compilation is not part of the figures.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import Layout, every_pair_layout, query_layout
from lavindit.models.jdit.rope import FEW_TOKENS, forget_angles
from lavindit.report import file_benchmark

NANO = JDiTConfig(width=128, depth=6, heads=2, queries_per_kv=2)
WIDE = JDiTConfig(width=512, depth=2, heads=8, queries_per_kv=1, sandwich=False)
SIZES = {"nano": NANO, "512x2": WIDE}
PAIRS = 4
FRAMES = 2 * PAIRS + 1
LAYOUTS = {
    "prefix": query_layout("prefix", FRAMES, 1),
    "prefix, 4 copies": query_layout("prefix", FRAMES, 1, copies=4),
    "causal": query_layout("causal", FRAMES, 1),
    "every pair": every_pair_layout(PAIRS),
    "every pair, 2 copies": every_pair_layout(PAIRS, copies=2),
}
BATCHES = {16: 16, 64: 4, 256: 1}  # episodes by tokens a frame: as many tokens in all
Attend = Callable[..., Tensor]


def flex(layout: Layout, tokens: int, device: torch.device) -> Attend:
    """FlexAttention in place of `attend`."""
    visible, compiled = torch.tensor(layout.visible, device=device), torch.compile(flex_attention)
    masks: dict[int, BlockMask] = {}

    def attend(q: Tensor, own: tuple[Tensor, Tensor], tables: Any, config: JDiTConfig, past: Any = ()) -> Tensor:
        count, first = own[0].shape[2], own[0].shape[2] - q.shape[2]  # the last block asks for the targets alone
        if first not in masks:
            masks[first] = create_block_mask(
                lambda b, h, i, j: visible[(i + first) // tokens, j // tokens], None, None, count - first, count, device
            )
        found = compiled(q, *own, block_mask=masks[first], enable_gqa=config.queries_per_kv > 1)
        assert isinstance(found, Tensor)
        return found

    return attend


def step(model: JDiT, layout: Layout, tensors: tuple[Tensor, Tensor, Tensor], autocast: bool) -> float:
    """Seconds of a forward and backward pass."""
    device = tensors[0].device
    _wait(device)
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        loss = model(*tensors, layout).float().square().mean()
    loss.backward()
    _wait(device)
    model.zero_grad()
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_ways(size: str, name: str, tokens: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Median seconds of each way of one cell."""
    layout, batch, side = LAYOUTS[name], BATCHES[tokens], 2 * math.isqrt(tokens)
    config = replace(SIZES[size], context_attention="prefix" if name.startswith("prefix") else "causal")
    torch.manual_seed(0)
    with device:
        model = JDiT(config).train()
        noisy = torch.randn(batch, 16, len(layout.target), side, side)
        tensors = (noisy, torch.rand(batch, len(layout.target)), torch.randn(batch, 16, FRAMES, side, side))
    rule = "lavindit.models.jdit.rope.FEW_TOKENS"
    ways: dict[str, Callable[[], Any]] = {"mask": lambda: patch(rule, 10**9), "calls": lambda: patch(rule, 0)}
    if device.type == "cuda":
        attend = flex(layout, tokens, device)
        ways["flex"] = lambda: patch("lavindit.models.jdit.block.attend", attend)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, taken in ways.items():
            with taken():
                seconds[way].append(step(model, layout, tensors, device.type == "cuda"))
    calls = layout.calls(tokens)
    assert calls is not None
    medians = {way: statistics.median(found[1:]) for way, found in seconds.items()}
    row = {"size": size, "layout": name, "tokens_per_frame": tokens, "batch": batch, "calls": len(calls)}
    row |= {"tokens_a_call": len(layout.context + layout.target) * tokens / len(calls)}
    return row | {"step_s": medians, "calls_over_mask": medians["calls"] / medians["mask"]}


def rule_cost(rows: list[dict[str, Any]], least: float) -> float:
    """Geometric mean over cells of the time that a rule takes over the better of mask and calls."""
    logs = []
    for row in rows:
        taken, both = row["step_s"]["calls" if row["tokens_a_call"] >= least else "mask"], row["step_s"]
        logs.append(math.log(taken / min(both["calls"], both["mask"])))
    return math.exp(statistics.mean(logs))


def propose(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rule that loses least, beside today's and beside always taking one way."""
    edges = sorted({row["tokens_a_call"] for row in rows})
    rules = [0.0, *(math.sqrt(a * b) for a, b in itertools.pairwise(edges)), math.inf]
    best = min(rules, key=lambda least: rule_cost(rows, least))
    return {
        "proposed": round(best) if math.isfinite(best) else "always a mask",
        "today": FEW_TOKENS,
        "time_over_best": {
            "proposed": rule_cost(rows, best),
            "today": rule_cost(rows, FEW_TOKENS),
            "always calls": rule_cost(rows, 0),
            "always a mask": rule_cost(rows, math.inf),
        },
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", choices=SIZES, nargs="+", default=list(SIZES))
    parser.add_argument("--tokens", type=int, choices=BATCHES, nargs="+", default=list(BATCHES), help="a frame")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for size in chosen.sizes:
        for tokens in chosen.tokens:
            for name in LAYOUTS:
                rows.append(time_ways(size, name, tokens, chosen.rounds, device))
                print(rows[-1], flush=True)
            forget_angles()
    fields = {
        "note": "bf16 autocast" if device.type == "cuda" else "float32; no FlexAttention: it has no backward pass here",
        "threads": torch.get_num_threads(),
        "pairs": PAIRS,
        "n": chosen.rounds,
        "sizes": {size: asdict(SIZES[size]) for size in chosen.sizes},
        "few_tokens": propose(rows),
        "figures": rows,
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
