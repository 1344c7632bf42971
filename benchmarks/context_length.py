"""Quality by context length: the headline of every task with 1 to 8 pairs, beside the baselines that use them, too.

    python benchmarks/context_length.py --model runs/nano --out benchmarks/results/context_length.json \
        --plot benchmarks/results/context_length.svg

The queries are the first of the test's; a query is asked `--draws` times, each time with another context and other
noise. A shorter context has the first pairs of the longer one; colours and noise are the same for all lengths. A task
is a cell: a study that was interrupted goes on after the last task that is done, and the same command in a second
process takes part (give each its --threads).

Counted are the tasks whose headline with the most pairs is better than with the fewest, and among them those where the
gain is more than its standard error, which is of the difference on the same queries.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from cells import Cells, Row, run_script
from drawing import draw
from lavindit.cli.tools import find_device, use_threads
from lavindit.files import write_atomically
from lavindit.inference import Engine, LatentCache, load
from lavindit.inference.prompt_file import fingerprint
from lavindit.report import file_benchmark
from lavindit.report.figure import MEAN_TARGET, NEAREST_TARGET
from lavindit.task import Task, get_task
from lavindit.training.protocols import Protocol, built_in_tasks
from studies import answer_of, gain, headline_row, make_protocol, panel_of, parameters_of, score, source_of


def measure(engine: Engine, task: Task, protocol: Protocol, pairs: Sequence[int]) -> Row:
    """A task's headline by number of pairs, and what the most are worth beside the fewest."""
    answer = answer_of(engine, task, protocol.seed, LatentCache())
    scorers = score(task, source_of(protocol, engine.settings.resolution), protocol, answer, pairs)
    rows = {str(count): headline_row(scorer.result()) for count, scorer in scorers.items()}
    return {"pairs": rows, "rise": rise(rows, scorers[max(pairs)].error_of_gain(scorers[min(pairs)]))}


def rise(rows: Mapping[str, Row], error: float | None) -> Row:
    """What the most pairs are worth beside the fewest, in the unit of the headline; above 0 is better.

    Args:
        rows: By number of pairs.
        error: Standard error of the difference.
    """
    counts = sorted(rows, key=int)
    found = gain(rows[counts[-1]], rows[counts[0]]["answer"])
    return {
        "from": int(counts[0]), "to": int(counts[-1]), "gain": found, "stderr": error,
        "rises": found is not None and found > 0,
        "beyond_stderr": found is not None and error is not None and found > error,
    }  # fmt: skip


def summary(tasks: Mapping[str, Row]) -> Row:
    """On how many tasks quality rises."""
    rises = [row["rise"] for row in tasks.values()]
    return {
        "tasks": len(rises),
        "rising": sum(row["rises"] for row in rises),
        "rising_beyond_stderr": sum(row["beyond_stderr"] for row in rises),
        "not_rising": sorted(name for name, row in tasks.items() if not row["rise"]["rises"]),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="released model, run folder or model directory")
    parser.add_argument("--tasks", nargs="+", help="default: all built-in tasks")
    parser.add_argument("--pairs", nargs="+", type=int, default=list(range(1, 9)))
    parser.add_argument("--queries", type=int, default=64, help="of a task of images")
    parser.add_argument("--clips", type=int, default=16, help="queries of a task of clips")
    parser.add_argument("--draws", type=int, default=3, help="contexts a query")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, file, draw."""
    chosen = parse(arguments)
    use_threads(chosen.threads)
    engine = load(chosen.model, find_device(chosen.device))
    protocol = make_protocol(chosen.queries, chosen.clips, chosen.draws, chosen.seed)
    asked = ("pairs", "queries", "clips", "draws", "seed")
    tasks = [get_task(name) for name in chosen.tasks or built_in_tasks()]
    settings: dict[str, Any] = {name: getattr(chosen, name) for name in asked} | {"model": fingerprint(engine)}
    settings["sampling"] = {t.name: asdict(engine.settle(task=t, seed=chosen.seed).sampling) for t in tasks}
    cells, trained = Cells(chosen.out, settings), engine.info.get("tasks")
    measured = cells.all({task.name: partial(measure, engine, task, protocol, chosen.pairs) for task in tasks})
    rows: dict[str, Any] = {}
    for name, found in measured.items():
        known = None if trained is None else name in trained
        rows[name] = {"trained": known} | found
    figures = {"summary": summary(rows), "tasks": rows}
    about = {"model": {"name": chosen.model, "fingerprint": fingerprint(engine), "parameters": parameters_of(engine),
        "tasks": trained, "steps": engine.info.get("steps"), "max_pairs": engine.info.get("max_pairs")}}  # fmt: skip
    n = {"queries of a task of images": chosen.queries, "of clips": chosen.clips}
    file_benchmark(chosen.out, chosen.seed, settings | about | cells.made | {"n": n, "figures": figures})
    if chosen.plot:
        panels = [panel_of(name, {"model": row["pairs"]}, (NEAREST_TARGET, MEAN_TARGET)) for name, row in rows.items()]
        write_atomically(chosen.plot, draw(panels, 4).encode())
    cells.forget()


if __name__ == "__main__":
    run_script(main)
