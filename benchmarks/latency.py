"""What a query takes with and without a compiled prompt, beside the released way, by pairs, size and resolution.

    python benchmarks/latency.py --out benchmarks/results/latency.json --plot benchmarks/results/latency.svg

Random weights and latents: time does not depend on them. In a cell (size, resolution, pairs) every call that a way of
answering is made of runs once to warm up and for its peak of memory, then in turn with the others: 5 times where it
takes less than 5 s, 3 times below 15 s. A longer one is not repeated: its first call counts, n = 1, after those of the
cells with fewer pairs. A query of N steps is N calls of a step, plus the reading of the query where there is a prompt.

The released way: all clean frames computed anew in every step, the last block whole, and, with guidance, a second
forward pass. "released" is one forward pass a step, as it would be without guidance; "released, guidance 1.5" is what
the released inference runs. Ways with a prompt are timed without and with the branch that guidance needs, too.

Then whole queries, the nano VAE included, measured from end to end: each way in parts, and the parts added. The
released inference encodes its pairs for every query; ratios are given with that and without. Then queries in batches to
one shared prompt, and the step through torch.compile. Memory is the peak that torch's allocator holds during a call,
weights, inputs and prompt left out.

About a quarter of an hour on two cores. It may be interrupted: what is measured lies beside --out until all is, and the
next call goes on from there. --quick tries everything at tiny sizes within a minute or two.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from cells import Cells, run_script
from latency_clock import Call, lap, peak_of, time_in_turn
from latency_report import find_targets, list_tables, plot
from latency_ways import (
    GUIDANCE,
    READ_ONCE,
    WAYS,
    call_flops,
    make_calls,
    make_episode,
    make_networks,
    make_prompt,
    make_vae,
    query_sum,
    read_network,
    released,
    share_weights,
    vae_flops,
)

# isort: split
import torch
from torch import Tensor

from lavindit.cli.tools import use_threads
from lavindit.files import write_atomically
from lavindit.flow import solve, uniform_grid
from lavindit.inference.sampler import PIXELS_A_PASS, ReadPairs, SamplingConfig, null_context, sample_queries
from lavindit.inference.serving import compile_step
from lavindit.models import STVAE, JDiT
from lavindit.report import file_benchmark
from lavindit.training.plan_prompt import PromptSetup, compile_and_answer, plan_prompt

SEED = 0
STEPS = (4, 20)
BATCHES = (1, 4, 16)
FULL = {"sizes": ("nano", "0.1b"), "pairs": (1, 2, 4, 8, 16), "asked": ("0.1b", 256, 8, 20)}
QUICK = {"sizes": ("nano",), "pairs": (1, 16), "asked": ("nano", 64, 16, 4)}
Figures = dict[str, Any]


def measure_cell(networks: dict[str, JDiT], px: int, pairs: int, device: str) -> Figures:
    """Every call of a cell, its FLOPs, and the queries that they make up."""
    episode = make_episode(pairs, px, device)
    made = {mode: make_prompt(networks[mode], episode) for mode in READ_ONCE}
    calls = time_in_turn(make_calls(networks, episode, {mode: past for mode, (_, past) in made.items()}), device)
    flops = call_flops(networks["joint"].config, pairs, (px // 16) ** 2)
    for name, call in calls.items():
        call |= {"gflop": flops[name] / 1e9, "gflop_per_s": flops[name] / 1e9 / call["s"]}
    seconds = {name: call["s"] for name, call in calls.items()}
    return {
        "calls": calls,
        "prompt_mib": {mode: shown.bytes / 2**20 for mode, (shown, _) in made.items()},
        "query_s": {str(n): {way: query_sum(seconds, way, n) for way in WAYS} for n in STEPS},
        "query_gflop": {str(n): {way: query_sum(flops, way, n) / 1e9 for way in WAYS} for n in STEPS},
    }


def measure_batches(model: JDiT, px: int, pairs: int, device: str) -> Figures:
    """Queries in a batch to one prompt that all of them share."""
    calls: dict[str, Call] = {}
    for batch in BATCHES:
        episode = make_episode(pairs, px, device, batch)
        shown, stretches = make_prompt(model, episode)
        past = stretches[""]
        calls[f"{batch} read query"] = lambda e=episode, s=shown: model.read(e.query, [s.pairs])
        calls[f"{batch} answer"] = lambda e=episode, past=past: model.answer(e.noisy, e.t, past)
    found = time_in_turn(calls, device)
    queries = {
        str(batch): {
            str(n): (found[f"{batch} read query"]["s"] + n * found[f"{batch} answer"]["s"]) / batch for n in STEPS
        }
        for batch in BATCHES
    }
    return {"calls": found, "seconds_a_query": queries}


def measure_compiled_step(model: JDiT, px: int, pairs: int, device: str) -> Figures:
    """The step through torch.compile beside the step as it is."""
    episode, compiled = make_episode(pairs, px, device), share_weights(model, model.config.context_attention)
    _, stretches = make_prompt(model, episode)
    step, past = compile_step(compiled), stretches[""]
    found = [network.answer(episode.noisy, episode.t, past) for network in (model, compiled)]
    ways = {"plain": model, "compiled": compiled}
    calls = {name: lambda m=m: m.answer(episode.noisy, episode.t, past) for name, m in ways.items()}
    return {
        "first_call_s": max(step.first_call_s.values()),
        "largest_difference_of_answers": float((found[0] - found[1]).abs().max()),
        "calls": time_in_turn(calls, device),
    }


def released_query(model: JDiT, vae: STVAE, pairs: Tensor, query: Tensor, steps: int) -> dict[str, float]:
    """Seconds of a query's parts, the released way with guidance; without, "null forward" falls away."""
    parts: dict[str, float] = {}
    chunk = PIXELS_A_PASS // query.shape[-1] ** 2
    clean = lap(parts, "encode pairs", lambda: vae.to_latent(pairs, None, chunk))
    asked = lap(parts, "encode query", lambda: vae.to_latent(query))
    context, null = torch.cat([clean[:, :, 0].transpose(0, 1)[None], asked], dim=2), null_context(model, asked)

    def field(x: Tensor, t: Tensor) -> Tensor:
        without = lap(parts, "null forward", lambda: released(model, x, t.expand(1), null))
        return without + GUIDANCE * (lap(parts, "forward", lambda: released(model, x, t.expand(1), context)) - without)

    answer = solve(field, torch.randn_like(asked), uniform_grid(steps))
    lap(parts, "decode", lambda: vae.to_pictures(answer))
    return parts


def prompt_query(model: JDiT, vae: STVAE, shown: ReadPairs, query: Tensor, steps: int) -> dict[str, float]:
    """Seconds of a query's parts, with a compiled prompt, as the engine asks it."""
    parts: dict[str, float] = {}
    asked, config = lap(parts, "encode query", lambda: vae.to_latent(query)), SamplingConfig(steps)
    answer = lap(parts, "transformer", lambda: sample_queries(model, shown, asked, 1, ["query"], config))
    lap(parts, "decode", lambda: vae.to_pictures(answer))
    return parts


def measure_whole(networks: dict[str, JDiT], asked: tuple[str, int, int, int], device: str, rounds: int) -> Figures:
    """Whole queries from picture to picture; medians of every part. `rounds` of the released way, 3 of ours."""
    _, px, count, steps = asked
    vae, model = make_vae(device), networks["prefix"]
    pairs, query = torch.rand(2 * count, 3, 1, px, px, device=device), torch.rand(1, 3, 1, px, px, device=device)
    episode = make_episode(count, px, device)
    shown, _ = make_prompt(model, episode)
    vae.to_pictures(vae.to_latent(query))  # warm-up; the networks have run in the cells
    found: dict[str, list[dict[str, float]]] = {"released": [], "prefix, compiled prompt": []}
    for turn in range(max(3, rounds)):
        found["prefix, compiled prompt"].append(prompt_query(model, vae, shown, query, steps))
        if turn < rounds:
            found["released"].append(released_query(networks["joint"], vae, pairs, query, steps))
    return {
        way: {part: median(run[part] for run in runs) for part in runs[0]} | {"n": len(runs)}
        for way, runs in found.items()
    } | {"vae_gflop": {name: flops / 1e9 for name, flops in vae_flops(vae, px).items()}}


def measure_memory(networks: dict[str, JDiT], asked: tuple[str, int, int, int], device: str) -> Figures:
    """The peak of compiling a prompt and answering from it, weights left out, beside what `lavindit plan` foresees."""
    vae, model = make_vae(device), networks["prefix"]
    setup = PromptSetup(asked[1], asked[2], kernels="cuda" if device == "cuda" else "cpu")
    with torch.inference_mode(False):
        plan = plan_prompt(model.config, vae.config, setup)
    assert plan is not None
    with torch.device(device):
        measured = peak_of(lambda: compile_and_answer(vae, model, setup, lambda phase: None), device)
    planned = (plan.memory.total - plan.memory.items["VAE"] - plan.memory.items["J-DiT"]) / 2**20
    return {"measured_mib": measured, "planned_mib": planned, "n": 1}


def measure(progress: Cells, plan: Figures, device: str, released_rounds: int, compiled: bool) -> Figures:
    """All rows."""
    sizes, resolutions, asked = plan["sizes"], plan["resolutions"], plan["asked"]
    found: Figures = {"cells": [], "batches": []}
    for size in sizes:
        networks = make_networks(size, device)
        for px in resolutions:
            for pairs in plan["pairs"]:
                name = {"size": size, "resolution": px, "pairs": pairs}
                run = partial(measure_cell, networks, px, pairs, device)
                row = progress.row(f"{size}, {px} px, {pairs} pairs", run)
                found["cells"].append(name | row)
            name = {"size": size, "resolution": px, "pairs": asked[2]}
            run = partial(measure_batches, networks["prefix"], px, asked[2], device)
            found["batches"].append(name | progress.row(f"{size}, {px} px, batches", run))
        if size == asked[0]:
            whole = progress.row("whole queries", partial(measure_whole, networks, asked, device, released_rounds))
            found["whole"] = {"size": size, "resolution": asked[1], "pairs": asked[2], "steps": asked[3]} | whole
            found["prompt_memory"] = progress.row("memory", partial(measure_memory, networks, asked, device))
            if compiled:
                run = partial(measure_compiled_step, networks["prefix"], asked[1], asked[2], device)
                found["compiled_step"] = progress.row("compiled step", run)
    return found


@torch.inference_mode()
def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    parser.add_argument("--released-rounds", type=int, default=1, help="whole queries the released way (default 1)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw seconds by pairs")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    use_threads(chosen.threads)
    torch.manual_seed(SEED)
    resolutions = (64,) if chosen.quick else (128, 256, 512) if chosen.device == "cuda" else (128, 256)
    plan = (QUICK if chosen.quick else FULL) | {"resolutions": resolutions}
    settings = plan | {"threads": torch.get_num_threads(), "device": chosen.device}
    progress = Cells(chosen.out, settings)
    figures = measure(progress, plan, chosen.device, chosen.released_rounds, not chosen.no_compile)
    targets = find_targets(figures, plan["asked"])
    networks = {size: read_network(f"jdit_{size}") for size in plan["sizes"]}
    fields = settings | progress.made | {"networks": networks, "targets": targets}
    file_benchmark(chosen.out, SEED, fields | {"n": "beside each figure", "figures": figures})
    print(list_tables(figures, targets))
    if chosen.plot:
        write_atomically(chosen.plot, plot(figures["cells"], plan["asked"]).encode())
    progress.forget()


if __name__ == "__main__":
    run_script(main)
