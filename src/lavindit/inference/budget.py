"""What a task loses before any model has answered: by its codec, by 8 bits a channel, by the VAE."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.errors import LavinditError
from lavindit.metrics import RowMetric
from lavindit.models import STVAE, load_model
from lavindit.pictures import to_eight_bit
from lavindit.task import Task, give_back_detail, keep_known
from lavindit.types import Pair

PAIRS = 4
"""Pairs of a test: a palette has colours for them too, so the query's own are as near to one another as in a test."""


@dataclass(frozen=True)
class BudgetRow:
    """One figure of a task, scored on the truth itself.

    Attributes:
        metric: Key of the metric.
        unit: Its unit, "1" for none.
        direction: "min" where smaller is better, "max" where larger is.
        headline: Whether the task is judged by it first.
        ideal: What a perfect answer scores.
        exact: `decode(encode(y))`.
        eight_bit: The same through a picture of 8 bits a channel, as in a PNG.
        vae: `decode(vae(encode(y)))`; None without a VAE.
    """

    metric: str
    unit: str
    direction: Literal["min", "max"]
    headline: bool
    ideal: float
    exact: float
    eight_bit: float
    vae: float | None


@dataclass(frozen=True)
class Budget:
    """What a model would score that draws the truth itself: the floor of a task's errors.

    Attributes:
        task: Name of the task.
        version: Its version.
        n: Test scenes that were scored.
        resolution: Side of their pictures in pixels.
        rows: One a measured column.
    """

    task: str
    version: int
    n: int
    resolution: int
    rows: tuple[BudgetRow, ...]


def measure_budget(
    task: Task,
    samples: int = 32,
    config: SourceConfig = SourceConfig(),  # noqa: B008 - frozen
    vae: STVAE | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Budget:
    """Score the truths of test scenes as if they were answers, in the task's own metrics.

    Queries and codecs are made as in a test with 4 pairs (fewer, where the source has not so many).

    Args:
        task: The task.
        samples: The first so many test scenes that the task accepts, or as many as there are.
        config: Where they come from.
        vae: The VAE that the truths go through.
        progress: Told the scenes done and their total.

    Raises:
        LavinditError: There is no scene, or the task fails on one.
    """
    if samples < 1:
        raise LavinditError(f"a budget needs at least one sample, got {samples}")
    maker = EpisodeMaker(task, "test", config)
    pairs, scenes = min(PAIRS, len(maker.context) - 1), maker.accepted(samples)
    ways: dict[str, Callable[[Pair], Tensor]] = {
        "exact": lambda query: query.target,
        "eight_bit": lambda query: _rounded(query.target),
    }
    if vae is not None:
        ways["vae"] = lambda query: _through(vae, query, task.keeps_detail)
    metrics = {way: task.make_metric() for way in ways}
    for number, scene in enumerate(scenes):
        episode = maker.episode(scene, pairs, seed=0)
        query = episode.query
        for way, go in ways.items():
            answer = episode.codec.decode(keep_known(task, query.input, go(query)))
            metrics[way].update(answer, query.native, query.valid, number, query.meta)
        if progress is not None:
            progress(number + 1, len(scenes))
    rows = _rows(task, metrics)
    return Budget(task.name, task.version, len(scenes), config.resolution, rows)


def load_vae(path: Path | str, device: torch.device | str = "cpu") -> tuple[STVAE, int | None]:
    """The VAE of a model (see `lavindit.models.model_folder`), and the side it was trained at.

    Raises:
        LavinditError: There is no model, or it is damaged.
    """
    bundle = load_model(path, device)
    return bundle.vae, bundle.info.get("resolution")


def _rows(task: Task, metrics: Mapping[str, RowMetric]) -> tuple[BudgetRow, ...]:
    """The figures of each way, one row a measured column."""
    figures = {way: metric.compute() for way, metric in metrics.items()}
    ideals = dict(zip(metrics["exact"].names, metrics["exact"].ideals, strict=True))
    return tuple(
        BudgetRow(
            metric=column.metric,
            unit=column.unit,
            direction=column.direction,
            headline=column.headline,
            ideal=ideals[column.metric],
            exact=float(figures["exact"][column.metric]),
            eight_bit=float(figures["eight_bit"][column.metric]),
            vae=float(figures["vae"][column.metric]) if "vae" in figures else None,
        )
        for column in task.measured
    )


def _rounded(picture: Tensor) -> Tensor:
    """The picture as a PNG keeps it."""
    return to_eight_bit(picture).float() / 255


@torch.no_grad()
def _through(vae: STVAE, query: Pair, keeps_detail: bool) -> Tensor:
    """The target [3, T, H, W] encoded to the posterior's mean and decoded; with the input's detail where it is kept."""
    device = next(vae.parameters()).device
    parts = [query.target, query.input] if keeps_detail else [query.target]
    target, *inputs = (vae.to_pictures(vae.to_latent(part[None].to(device)))[0].cpu() for part in parts)
    return give_back_detail(target, query.input, inputs[0]) if inputs else target
