r"""Loss and quality by model size: three sizes of the J-DiT, equal steps, the same episodes, stored latents.

    python benchmarks/model_size.py --run runs/model_size --steps 2000 --data.latents=runs/nano_latents \
        --out benchmarks/results/model_size.json --plot benchmarks/results/model_size.svg

Every size is a `lavindit fit` of --config (the nano model's) with another network: the same data, batches, learning
rate, schedule and seeds. What follows our own options goes to `lavindit fit` as it is and has the last word. Held-out
loss: that of the query's target, given --eval_pairs pairs, on validation episodes whose noise is the same for all.
Headlines: test queries, sampled as the config says.

A training that was interrupted goes on from its checkpoint in --run, a study after the last size that is done.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from cells import Cells, Row, run_script
from studies import HELD_OUT_SHIFT, Training, beyond_noise, gain, make_protocol, train_and_test, training_parser

# isort: split
import torch

from drawing import Panel, draw, note_of
from lavindit.cli.tools import find_device
from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.report import file_benchmark

SIZES = {"small": (96, 4, 2), "medium": (128, 6, 2), "large": (192, 6, 4)}
"""Width, depth, heads. Queries per key-value head stay 2."""


def training_of(size: str, seed: int, chosen: argparse.Namespace) -> Training:
    """A size's training."""
    width, depth, heads = SIZES[size]
    network = {"width": width, "depth": depth, "heads": heads}
    options = [f"--model.init_args.network.{name}={value}" for name, value in network.items()]
    tasks = [f"--task={name}" for name in chosen.tasks or ()]
    run = chosen.run / f"{size}_{chosen.steps}_seed{seed}"
    return Training(run, chosen.config, chosen.steps, (*options, *tasks, *chosen.fit), seed)


def measure(size: str, seed: int, chosen: argparse.Namespace, device: torch.device) -> Row:
    """Train and test one size."""
    protocol = make_protocol(chosen.queries, chosen.clips, chosen.draws, chosen.test_seed)
    training = training_of(size, seed, chosen)
    found, engine = train_and_test(training, protocol, chosen.eval_pairs, chosen.val_samples, device)
    return found | {"size": size, "seed": seed, "network": asdict(engine.jdit.config)}


def summary(rows: Sequence[Row]) -> Row:
    """Whether larger is better: of the loss, and on how many tasks; seed by seed, from each size to the next."""
    steps = []
    for seed in sorted({row["seed"] for row in rows}):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["parameters"])
        for less, more in pairwise(own):
            gains = [gain(row, less["tasks"][name]["answer"]) for name, row in more["tasks"].items()]
            beyond = [beyond_noise(row, less["tasks"][name]) for name, row in more["tasks"].items()]
            steps.append({
                "seed": seed, "from": less["size"], "to": more["size"],
                "loss": more["held_out_loss"]["all"] - less["held_out_loss"]["all"],
                "tasks_better": sum(value is not None and value > 0 for value in gains),
                "tasks_better_beyond_noise": sum(beyond), "tasks": len(gains),
            })  # fmt: skip
    return {"steps": steps, "loss_falls": bool(steps) and all(step["loss"] < 0 for step in steps)}


def plot(rows: Sequence[Row]) -> str:
    """Held-out loss, and every headline, by parameters."""
    seeds = sorted({row["seed"] for row in rows})
    names = rows[0]["tasks"]

    def lines(point: Any) -> Mapping[str, Any]:
        return {f"seed {seed}": [point(row) for row in rows if row["seed"] == seed] for seed in seeds}

    def panel(title: str, point: Any, note: str = "") -> Panel:
        return Panel(title, lines(point), "million parameters", note, log_x=True)

    def millions(row: Row) -> float:
        return round(row["parameters"] / 1e6, 2)

    panels = [panel("held-out loss", lambda row: (millions(row), row["held_out_loss"]["all"]))]
    for name, one in names.items():
        panels.append(panel(name, lambda row, name=name: (
            millions(row), row["tasks"][name]["answer"], row["tasks"][name]["stderr"]
        ), note_of(one)))  # fmt: skip
    return draw(panels, 4)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; what is not ours is `fit`'s."""
    parser = training_parser(__doc__)
    parser.add_argument("--steps", type=int, required=True, help="of every size")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--tasks", nargs="+", help="default: those of the config")
    parser.add_argument("--eval_pairs", type=int, default=8)
    parser.add_argument("--val_samples", type=int, default=16, help="episodes a task of the held-out loss")
    parser.add_argument("--clips", type=int, default=16, help="test queries of a task of clips")
    parser.add_argument("--draws", type=int, default=1, help="contexts a query")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    chosen, chosen.fit = parser.parse_known_args(arguments)
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, file, draw."""
    chosen = parse(arguments)
    unknown = sorted(set(chosen.sizes) - set(SIZES))
    if unknown:
        raise LavinditError(f"no size {unknown[0]!r}; there are {', '.join(SIZES)}")
    device = find_device(chosen.device)
    asked = ("steps", "config", "tasks", "eval_pairs", "val_samples", "queries", "clips", "draws", "test_seed", "fit")
    settings = {name: getattr(chosen, name) for name in asked} | {"device": device.type, "time_shift": HELD_OUT_SHIFT}
    cells = Cells(chosen.out, settings)
    measures = {
        f"{size}, seed {seed}": partial(measure, size, seed, chosen, device)
        for seed in chosen.seeds
        for size in chosen.sizes
    }
    rows = sorted(cells.all(measures).values(), key=lambda row: (row["seed"], row["parameters"]))
    figures = {"rows": rows, "summary": summary(rows)}
    n = {"held-out episodes a task": chosen.val_samples, "queries": chosen.queries, "clips": chosen.clips}
    file_benchmark(chosen.out, chosen.seeds, settings | cells.made | {"n": n, "figures": figures})
    if chosen.plot:
        write_atomically(chosen.plot, plot(rows).encode())
    cells.forget()


if __name__ == "__main__":
    run_script(main)
