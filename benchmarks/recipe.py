r"""What pays on a small machine: the nano model's recipe, and the recipe with one choice made otherwise, in equal time.

    python benchmarks/recipe.py --run runs/recipe --minutes 6 --data.latents=runs/nano_latents \
        --out benchmarks/results/recipe.json

Every variant is a `lavindit fit` of --config with the options below. What follows our own options goes to `fit` as it
is; what the latents were encoded with (--data.source.photos=DIR, say) is said here, too. Compiling the blocks counts as
training: a run of minutes pays for it, one of hours hardly, so --compile false is the default here, and the warm-up is
short. Held-out loss: that of the query's target, given --eval_pairs pairs, on validation episodes whose noise is the
same for all. Headlines: test queries, sampled as the config says. Variants may run side by side: in two processes of
the same command, each with OMP_NUM_THREADS=1.

A training that was interrupted goes on from its checkpoint in --run, a study after the last variant that is done.
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from cells import Cells, Row, run_script
from studies import HELD_OUT_SHIFT, Training, beyond_noise, gain, make_protocol, train_and_test, training_parser

# isort: split
import torch

from lavindit.cli.tools import find_device
from lavindit.errors import LavinditError
from lavindit.report import file_benchmark

WHOLE = "whole"
MODEL = "--model.init_args."
VARIANTS: dict[str, tuple[str, ...]] = {
    WHOLE: (),
    "no input beside the noise": (f"{MODEL}network.input_condition=false",),
    "with a gate past the network": (f"{MODEL}network.input_skip=true",),
    "velocity from the last layer": (f"{MODEL}network.predicts=velocity",),
    "time shift 3": (f"{MODEL}time_shift=3", f"{MODEL}sampling.shift=3"),
    "losses as they are": (f"{MODEL}loss_weights=null",),
    "two noisy copies": (f"{MODEL}noisy_copies=2",),
    "the query's target alone": (f"{MODEL}targets=query", f"{MODEL}drop_pairs=0"),
    "batch 16": ("--data.batch_size=16", "--data.clip_batch_size=4"),
    "width 128": (f"{MODEL}network.width=128", f"{MODEL}network.heads=2"),
    "from pictures": ("--data.latents=null",),
}
OTHER_TIMES = "time shift 3"  # is trained at the times of the held-out loss, so its loss is not comparable
WARMUP_STEPS = 20  # a variant has a few hundred steps
NO_END = 10**9  # steps that no time is enough for
TASKS = ["deraining", "depth_estimation", "edge_detection", "normal_estimation", "object_detection", "inpainting"]


def measure(variant: str, seed: int, chosen: argparse.Namespace, device: torch.device) -> Row:
    """Train and test one variant."""
    tasks = [f"--task={name}" for name in chosen.tasks]
    short = (f"{MODEL}compile_blocks={chosen.compile}", f"{MODEL}warmup_steps={WARMUP_STEPS}")
    options = (*tasks, *short, *chosen.fit, *VARIANTS[variant])
    run = chosen.run / f"{variant.replace(' ', '_')}_seed{seed}"
    training = Training(run, chosen.config, NO_END, options, seed, chosen.minutes)
    protocol = make_protocol(chosen.queries, chosen.queries, 1, chosen.test_seed)
    found, _ = train_and_test(training, protocol, chosen.eval_pairs, chosen.val_samples, device, chosen.tasks)
    return found | {"variant": variant, "seed": seed}


def compare(rows: Sequence[Row]) -> list[Row]:
    """The recipe as it is ("with") beside the one with a choice made otherwise ("without"), seed by seed."""
    whole = {row["seed"]: row for row in rows if row["variant"] == WHOLE}
    found = []
    for row in (row for row in rows if row["variant"] != WHOLE and row["seed"] in whole):
        best = whole[row["seed"]]
        gains = {name: gain(one, row["tasks"][name]["answer"]) for name, one in best["tasks"].items()}
        beyond = [beyond_noise(one, row["tasks"][name]) for name, one in best["tasks"].items()]
        beneath = [beyond_noise(row["tasks"][name], one) for name, one in best["tasks"].items()]
        found.append({
            "undone": row["variant"], "seed": row["seed"],
            "loss_without_over_with": None if row["variant"] == OTHER_TIMES else loss_ratio(row, best),
            "gains": gains, "tasks_better_with": sum(value is not None and value > 0 for value in gains.values()),
            "beyond_noise": sum(beyond), "worse_beyond_noise": sum(beneath),
        })  # fmt: skip
    return found


def loss_ratio(row: Row, best: Row) -> float:
    """Geometric mean over tasks of one held-out loss over another: no task counts more for its loss being large."""
    losses, others = row["held_out_loss"], best["held_out_loss"]
    ratios = [losses[name] / others[name] for name in losses if name != "all"]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; what is not ours is `fit`'s."""
    parser = training_parser(__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="of every variant")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--compile", choices=("true", "false"), default="false")
    parser.add_argument("--eval_pairs", type=int, default=8)
    parser.add_argument("--val_samples", type=int, default=32, help="episodes a task of the held-out loss")
    chosen, chosen.fit = parser.parse_known_args(arguments)
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and file."""
    chosen = parse(arguments)
    unknown = sorted(set(chosen.variants) - set(VARIANTS))
    if unknown:
        raise LavinditError(f"no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    device = find_device(chosen.device)
    asked = ("minutes", "config", "tasks", "compile", "eval_pairs", "val_samples", "queries", "test_seed", "fit")
    settings: dict[str, Any] = {name: getattr(chosen, name) for name in asked}
    settings |= {"device": device.type, "threads": torch.get_num_threads(), "time_shift": HELD_OUT_SHIFT}
    cells = Cells(chosen.out, settings)
    measures = {
        f"{variant}, seed {seed}": partial(measure, variant, seed, chosen, device)
        for seed in chosen.seeds
        for variant in chosen.variants
    }
    rows = list(cells.all(measures).values())
    n = {"held-out episodes a task": chosen.val_samples, "queries": chosen.queries}
    figures = {"options": VARIANTS, "rows": rows, "comparison": compare(rows)}
    file_benchmark(chosen.out, chosen.seeds, settings | cells.made | {"n": n, "figures": figures})
    cells.forget()


if __name__ == "__main__":
    run_script(main)
