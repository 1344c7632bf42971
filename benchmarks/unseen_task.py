r"""Unseen tasks: what pairs alone can teach, beside training on the task itself.

    lavindit encode --config experiment/nano.yaml $(python benchmarks/unseen_task.py --list_tasks) \
        --pairs 8 --episodes 6000 --out runs/unseen_latents
    python benchmarks/unseen_task.py --run runs/unseen_task --steps 2000 --data.latents=runs/unseen_latents \
        --out benchmarks/results/unseen_task.json --plot benchmarks/results/unseen_task.svg

Two trainings of the same network from the same weights, in equal steps, on tasks of images: one with the tasks of
`UNSEEN`, one without all of them. Both are asked the same test queries of these tasks, with the same pairs and noise.
What a held-out task shares with others stays in: normals remain the input of normal_to_image, pictures remain blurred
by motion; tasks of clips, whose normals would be targets, are in neither. Steps are equal, so the training without the
tasks spends a few more on each of the others. Foreground segmentation is held out of all trainings; the one with it
trains on `seen_foreground.py`, which shows the same pairs under another name.

What follows our own options goes to `lavindit fit` as it is and has the last word. A training that was interrupted goes
on from its checkpoint in --run.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cells import Cells, Row, run_script
from studies import Training, gain, headlines, make_protocol, panel_of, parameters_of, training_parser

# isort: split
import torch

from drawing import draw
from lavindit.cli.tools import find_device
from lavindit.files import write_atomically
from lavindit.inference import load
from lavindit.report import file_benchmark
from lavindit.report.figure import MEAN_TARGET, NEAREST_TARGET, QUERY
from lavindit.task import get_task

SEEN_FOREGROUND = str(Path(__file__).with_name("seen_foreground.py"))
UNSEEN = {"foreground_segmentation": SEEN_FOREGROUND, "glass_deblurring": "glass_deblurring",
    "normal_estimation": "normal_estimation"}  # fmt: skip
"""The tasks that are asked about, and what the training with them trains on."""
OTHERS = ["colorization", "deraining", "depth_estimation", "depth_to_image", "edge_detection", "inpainting",
    "instance_segmentation", "motion_deblurring", "normal_to_image", "object_detection", "panoptic_segmentation",
    "pose_estimation", "pose_to_image"]  # fmt: skip
ARMS = ("with", "without")


def measure(arm: str, seed: int, chosen: argparse.Namespace, device: torch.device) -> Row:
    """Train with or without the tasks, and ask about them."""
    names = [*chosen.others, *(UNSEEN[name] for name in chosen.unseen if arm == "with")]
    tasks = [f"--task={name}" for name in names]
    run = chosen.run / f"{arm}_{chosen.steps}_seed{seed}"
    training = Training(run, chosen.config, chosen.steps, (*tasks, *chosen.fit), seed)
    trained, engine = training.train(), load(training.model, device)
    protocol = make_protocol(chosen.queries, chosen.queries, chosen.draws, chosen.test_seed)
    found = headlines(engine, [get_task(name) for name in chosen.unseen], protocol, chosen.pairs)
    about = {"arm": arm, "seed": seed, "parameters": parameters_of(engine), "trained_tasks": engine.info["tasks"]}
    return trained | about | {"tasks": found}


def compare(rows: Sequence[Row]) -> list[Row]:
    """Each task and number of pairs: the answer without the task beside that with it, and beside the baselines."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        arms = {row["arm"]: row["tasks"] for row in rows if row["seed"] == seed}
        for task, own in arms["without"].items():
            for pairs, row in own.items():
                seen, baselines = arms["with"][task][pairs], row["baselines"]
                found.append({
                    "task": task, "pairs": int(pairs), "seed": seed, "metric": row["metric"], "unit": row["unit"],
                    "direction": row["direction"], "n": row["n"],
                    "without": row["answer"], "without_stderr": row["stderr"],
                    "with": seen["answer"], "with_stderr": seen["stderr"], "baselines": baselines,
                    "gain_over_baselines": {name: gain(row, value) for name, value in baselines.items()},
                    "lost_unseen": gain(seen, row["answer"]),
                })  # fmt: skip
    return found


def plot(rows: Sequence[Row]) -> str:
    """The headlines by pairs, of the first seed."""
    first = {row["arm"]: row["tasks"] for row in rows if row["seed"] == rows[0]["seed"]}
    baselines = (NEAREST_TARGET, MEAN_TARGET, QUERY)
    panels = [
        panel_of(name, {f"trained {arm} it": first[arm][name] for arm in ARMS}, baselines) for name in first[ARMS[0]]
    ]
    return draw(panels, 3)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; what is not ours is `fit`'s."""
    parser = training_parser(__doc__, Path("runs/unseen_task"))
    parser.add_argument("--list_tasks", action="store_true", help="print all tasks, for `lavindit encode`")
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--unseen", nargs="+", choices=UNSEEN, default=list(UNSEEN))
    parser.add_argument("--others", nargs="+", default=OTHERS)
    parser.add_argument("--pairs", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--draws", type=int, default=3, help="contexts a query")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    chosen, chosen.fit = parser.parse_known_args(arguments)
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, file, draw."""
    chosen = parse(arguments)
    if chosen.list_tasks:
        print(" ".join(f"--task={name}" for name in [*chosen.others, *(UNSEEN[name] for name in chosen.unseen)]))
        return
    device = find_device(chosen.device)
    asked = ("steps", "unseen", "others", "config", "pairs", "queries", "draws", "test_seed", "fit")
    settings = {name: getattr(chosen, name) for name in asked} | {"device": device.type}
    cells = Cells(chosen.out, settings)
    measures = {
        f"{arm}, seed {seed}": partial(measure, arm, seed, chosen, device) for seed in chosen.seeds for arm in ARMS
    }
    rows = list(cells.all(measures).values())
    figures = {"comparison": compare(rows), "rows": rows}
    file_benchmark(chosen.out, chosen.seeds, settings | cells.made | {"n": chosen.queries, "figures": figures})
    if chosen.plot:
        write_atomically(chosen.plot, plot(rows).encode())
    cells.forget()


if __name__ == "__main__":
    run_script(main)
