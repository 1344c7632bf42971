"""The table of `attention_modes.py`: variants, what a cell found, and cells of all seeds beside the joint model's."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Context attention, targets, noisy copies
VARIANTS = {
    "joint": ("joint", "query", 1),
    "prefix": ("prefix", "query", 1),
    "prefix_x2": ("prefix", "query", 2),
    "prefix_x4": ("prefix", "query", 4),
    "causal": ("causal", "query", 1),
    "every_pair": ("causal", "every_pair", 1),
    "every_pair_x2": ("causal", "every_pair", 2),
}
KEPT = 0.97  # of the joint model's headline metrics, at equal steps


class Cell(NamedTuple):
    """One training and its test."""

    variant: str
    pairs: int
    seed: int
    budget: str

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.budget}_k{self.pairs}_seed{self.seed}_{self.variant}"


@dataclass(frozen=True)
class Found:
    """What a cell found.

    Attributes:
        steps: Optimizer steps.
        train_s: Seconds of training.
        held_out_loss: By task, and "all".
        headline: By task: metric, unit, direction, answer and stderr.
        settings: What all cells of a comparison must share.
        commit: Of the code.
    """

    steps: int
    train_s: float
    held_out_loss: dict[str, float]
    headline: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    commit: str | None


def summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds that have a figure."""
    values = [value for value in values if value is not None]
    return {
        "mean": statistics.mean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def ratio(found: dict[str, Any], joint: dict[str, Any]) -> float | None:
    """How good a headline figure is beside the joint model's: above 1 is better; None where there is none."""
    a, b = (found, joint) if found["direction"] == "max" else (joint, found)
    return a["answer"] / b["answer"] if a["answer"] is not None and b["answer"] else None


def compare(found: Mapping[Cell, Found]) -> list[dict[str, Any]]:
    """A row for each variant, K and budget: over its seeds, beside the joint model of the same seed."""
    groups: dict[tuple[str, int, str], list[Cell]] = defaultdict(list)
    for cell in found:
        groups[cell.budget, cell.pairs, cell.variant].append(cell)
    rows = []
    for (budget, pairs, variant), own in groups.items():
        ratios: dict[str, list[float]] = defaultdict(list)
        losses, tasks = [], [found[cell].headline for cell in own]
        for cell in own:
            joint = found.get(cell._replace(variant="joint"))
            if joint is None:
                continue
            losses.append(found[cell].held_out_loss["all"] / joint.held_out_loss["all"])
            by_task = {t: ratio(figure, joint.headline[t]) for t, figure in found[cell].headline.items()}
            known = {task: value for task, value in by_task.items() if value is not None}
            if known:
                # The median beside the mean: a figure that starts at zero, as edges do, has ratios of any size.
                known |= {"mean": statistics.mean(known.values()), "median": statistics.median(known.values())}
            for task, value in known.items():
                ratios[task].append(value)
        rows.append({
            "budget": budget, "pairs": pairs, "variant": variant, "seeds": [cell.seed for cell in own],
            "steps": summary([found[cell].steps for cell in own]),
            "train_s": summary([found[cell].train_s for cell in own]),
            "held_out_loss": summary([found[cell].held_out_loss["all"] for cell in own]),
            "held_out_loss_over_joint": summary(losses) if losses else None,
            "headline": {
                task: {key: figure[key] for key in ("metric", "unit", "direction")}
                | summary([figures[task]["answer"] for figures in tasks])
                for task, figure in tasks[0].items()
            },
            "headline_ratio_to_joint": {task: summary(values) for task, values in ratios.items()},
        })  # fmt: skip
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked of each variant that can read its context once, and what was found."""
    asked = []
    for row in rows:
        ratios = row["headline_ratio_to_joint"]
        if row["variant"] == "joint" or "mean" not in ratios:
            continue
        value, steps = ratios["mean"]["mean"], row["budget"] == "steps"
        asked.append({
            "target": f"{row['variant']}, K = {row['pairs']}, equal {row['budget']}: mean headline ratio to joint",
            "found": round(value, 4), "asked": f">= {KEPT}" if steps else "> 1",
            "met": value >= KEPT if steps else value > 1, "seeds": len(row["seeds"]),
        })  # fmt: skip
    return asked
