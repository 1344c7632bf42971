"""Scores answers of one task in native units, beside its baselines and the VAE's ceiling."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lavindit.inference.baselines import BASELINES
from lavindit.pictures import save_picture
from lavindit.report.schema import Figure, Strip, TaskResult
from lavindit.task import Task
from lavindit.types import Episode


class TaskScorer:
    """Collects the answers of one task and makes its part of the report.

    Args:
        task: The task.
        with_ceiling: Also score the truth through the VAE.
        draws: How often each query is asked, with another context each time.
        held_out: Whether the model never trained on it; None: as the task says.
    """

    def __init__(self, task: Task, with_ceiling: bool = True, draws: int = 1, held_out: bool | None = None) -> None:
        self.task = task
        self.held_out = task.held_out if held_out is None else held_out
        self.answers = [task.make_metric() for _ in range(draws)]
        self.ceiling = task.make_metric() if with_ceiling else None
        names = [name for name in BASELINES if name != "query" or task.restores]
        self.baselines = {name: [task.make_metric() for _ in range(draws)] for name in names}
        self.strips: list[Strip] = []
        self.n, self.pairs, self.seconds = 0, 0, 0.0

    def update(self, episode: Episode, answer: Tensor, reconstruction: Tensor | None, seconds: float) -> None:
        """Add one answer; a query that comes twice in one draw counts once.

        Args:
            episode: The episode, with its truth, the number of its query and of its draw.
            answer: Picture [3, T, H, W].
            reconstruction: The target picture through the VAE, for the ceiling; None in further draws.
            seconds: Time the answer took.
        """
        query, codec, draw = episode.query, episode.codec, episode.draw
        truth = (query.native, query.valid, episode.number, query.meta)
        self.answers[draw].update(codec.decode(answer), *truth)
        if self.ceiling is not None and reconstruction is not None:
            self.ceiling.update(codec.decode(reconstruction), *truth)
        for name, metrics in self.baselines.items():
            picture = BASELINES[name](episode)
            if picture is not None:
                metrics[draw].update(codec.decode(picture), *truth)
        self.n, self.pairs, self.seconds = self.n + 1, len(episode.pairs), self.seconds + seconds

    def add_strip(self, episode: Episode, answer: Tensor, run: Path, folder: str = "pictures") -> None:
        """Write an episode's pictures below `run` and show them in the report."""
        self.strips.append(write_strip(episode, answer, run, folder))

    def result(self) -> TaskResult:
        """The task's part of the report."""
        # Every process computes every metric, whether it holds rows or not: gathering them waits for all.
        answers = [metric.compute() for metric in self.answers]
        errors = [metric.standard_error() for metric in self.answers]
        baselines = {name: [metric.compute() for metric in metrics] for name, metrics in self.baselines.items()}
        ceiling = None if self.ceiling is None else self.ceiling.compute()
        figures = []
        for column in self.task.measured:
            key = column.metric
            values = torch.stack([answer[key].double().cpu() for answer in answers])
            figures.append(
                Figure(
                    metric=key,
                    unit=column.unit,
                    direction=column.direction,
                    headline=column.headline,
                    answer=float(values.mean()),
                    stderr=_mean_of(errors, key),
                    draw_std=float(values.std()) if len(values) > 1 else None,
                    baselines={name: _mean_of(draws, key) for name, draws in baselines.items()},
                    ceiling=None if ceiling is None else float(ceiling[key]),
                )
            )
        return TaskResult(
            task=self.task.name,
            version=self.task.version,
            summary=self.task.summary,
            held_out=self.held_out,
            n=len(self.answers[0].unique_rows()),
            pairs=self.pairs,
            seconds_per_query=self.seconds / max(self.n, 1),
            figures=figures,
            strips=self.strips,
            protocol=self.task.protocol,
            draws=len(self.answers),
        )


def _mean_of(draws: Sequence[Mapping[str, Tensor]], key: str) -> float:
    """Mean of a figure over the draws."""
    return sum(float(figures[key]) for figures in draws) / len(draws)


def score_application(task: Task, episode: Episode, answer: Tensor) -> list[Figure]:
    """Figures of one answer [3, T, H, W] whose truth is known, beside the unchanged query where it is comparable."""
    scorer = TaskScorer(task, with_ceiling=False)
    scorer.update(replace(episode, number=0, draw=0), answer, None, 0.0)
    return scorer.result().figures


def write_strip(episode: Episode, answer: Tensor, run: Path, folder: str, with_truth: bool = True) -> Strip:
    """Write context, query, answer and truth of an episode as PNG files below `run / folder`."""
    stem = f"{folder}/{episode.sample_id.replace('/', '_')}"

    def write(picture: Tensor, name: str) -> str:
        relative = f"{stem}_{name}.png"
        save_picture(picture, run / relative)
        return relative

    return Strip(
        context=[
            (write(pair.input, f"context{i}_input"), write(pair.target, f"context{i}_target"))
            for i, pair in enumerate(episode.pairs)
        ],
        query=write(episode.query.input, "query"),
        answer=write(answer, "answer"),
        truth=write(episode.query.target, "truth") if with_truth else None,
        sample_id=episode.sample_id,
    )
