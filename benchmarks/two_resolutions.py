"""The recipe of two resolutions at nano size: what the second stage adds, from the results of three tests.

    make train-nano
    lavindit test --config experiment/demo_jdit.yaml --config data/world128.yaml \
      --ckpt_path runs/demo/checkpoints/last.ckpt --trainer.default_root_dir runs/demo_at_128
    lavindit fit --config experiment/nano_128.yaml
    lavindit test --config experiment/nano_128.yaml
    python benchmarks/two_resolutions.py --out benchmarks/results/two_resolutions.json

Headline figures, with standard errors over queries, of the first stage at its own resolution and at the second's, and
of the second stage. One seed.
"""

import argparse
from pathlib import Path

from lavindit.report import file_benchmark
from lavindit.report.schema import RESULT_NAME, read_result

RUNS = {
    "first stage at 64 px": "runs/demo",
    "first stage at 128 px": "runs/demo_at_128",
    "second stage at 128 px": "runs/nano_128",
}


def headlines(run: Path) -> dict:
    """Headline figure of every task of a run, and how it was made."""
    result = read_result(run / RESULT_NAME)
    figures = {}
    for task in result.tasks:
        figure = next(figure for figure in task.figures if figure.headline)
        figures[task.task] = {
            "metric": figure.metric,
            "unit": figure.unit,
            "direction": figure.direction,
            "answer": figure.answer,
            "standard_error": figure.stderr,
            "baselines": figure.baselines,
            "ceiling": figure.ceiling,
            "n": task.n,
        }
    return {"command": result.command, "seed": result.seed, "steps": result.model["steps"], "tasks": figures}


def main() -> None:
    """Collect and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the runs lie below")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    figures = {name: headlines(chosen.root / run) for name, run in RUNS.items()}
    for task in figures["first stage at 64 px"]["tasks"]:
        rows = [figures[name]["tasks"][task] for name in RUNS]
        print(f"{task} {rows[0]['metric']}: " + ", ".join(f"{row['answer']:.3g}" for row in rows))
    fields = {
        "figures": figures,
    }
    file_benchmark(chosen.out, 0, fields)


if __name__ == "__main__":
    main()
