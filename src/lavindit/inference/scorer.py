"""Scores answers of one task in native units, beside its baselines and the VAE's ceiling."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavindit.inference.baselines import BASELINES, Constant, baselines_of
from lavindit.pictures import save_picture
from lavindit.report.figure import BEST_CONSTANT, QUERY_VAE, Figure
from lavindit.report.schema import Strip, TaskResult
from lavindit.task import Task, keep_known
from lavindit.types import Episode

CEILING = "ceiling"


class TaskScorer:
    """Collects the answers of one task and makes its part of the report.

    Args:
        task: The task.
        with_ceiling: Also score the truth through the VAE, and where the task names "query_vae" the query.
        draws: How often each query is asked, with another context each time.
        held_out: Whether the model never trained on it; None: as the task says.
        find_constant: Finds the best constant, when the first answer comes; None: leave that baseline out.
    """

    def __init__(
        self,
        task: Task,
        with_ceiling: bool = True,
        draws: int = 1,
        held_out: bool | None = None,
        find_constant: Callable[[], Constant] | None = None,
    ) -> None:
        self.task = task
        self.held_out = task.held_out if held_out is None else held_out
        self.answers = [task.make_metric() for _ in range(draws)]
        through_vae = [CEILING, *(name for name in task.baselines if name == QUERY_VAE)] if with_ceiling else []
        self.through_vae = {name: task.make_metric() for name in through_vae}
        self.find_constant, self.constant = find_constant, None
        names = [*baselines_of(task), *([BEST_CONSTANT] if find_constant is not None else [])]
        self.baselines = {name: [task.make_metric() for _ in range(draws)] for name in names}
        self.strips: list[Strip] = []
        self.n, self.pairs, self.seconds = 0, 0, 0.0

    def update(
        self,
        episode: Episode,
        answer: Tensor,
        reconstruction: Tensor | None,
        seconds: float,
        rebuilt_query: Tensor | None = None,
    ) -> None:
        """Add one answer; a query that comes twice in one draw counts once.

        Everything that is scored keeps what the query shows of its answer (`keep_known`).

        Args:
            episode: The episode, with its truth, the number of its query and of its draw.
            answer: Picture [3, T, H, W].
            reconstruction: The target picture through the VAE, for the ceiling; None in further draws.
            seconds: Time the answer took.
            rebuilt_query: The query through the VAE, of tasks that name that baseline; None in further draws.
        """
        query, codec, draw = episode.query, episode.codec, episode.draw
        truth = (query.native, query.valid, episode.number, query.meta)

        def native(picture: Tensor) -> Any:
            return codec.decode(keep_known(self.task, query.input, picture))

        self.answers[draw].update(native(answer), *truth)
        for name, picture in ((CEILING, reconstruction), (QUERY_VAE, rebuilt_query)):
            if picture is not None and name in self.through_vae:
                self.through_vae[name].update(native(picture), *truth)
        for name, metrics in self.baselines.items():
            picture = self._constant().picture if name == BEST_CONSTANT else BASELINES[name](episode)
            if picture is not None:
                metrics[draw].update(native(picture), *truth)
        self.n, self.pairs, self.seconds = self.n + 1, len(episode.pairs), self.seconds + seconds

    def add_strip(self, episode: Episode, answer: Tensor, run: Path, folder: str = "pictures") -> None:
        """Write an episode's pictures below `run` and show them in the report."""
        self.strips.append(write_strip(episode, keep_known(self.task, episode.query.input, answer), run, folder))

    def result(self) -> TaskResult:
        """The task's part of the report."""
        # Every process computes every metric, whether it holds rows or not: gathering them waits for all.
        answers = [metric.compute() for metric in self.answers]
        errors = [metric.standard_error() for metric in self.answers]
        baselines = {name: [metric.compute() for metric in metrics] for name, metrics in self.baselines.items()}
        through_vae = {name: metric.compute() for name, metric in self.through_vae.items()}
        figures = []
        for column in self.task.measured:
            key = column.metric
            values = torch.stack([answer[key].double().cpu() for answer in answers])
            rebuilt: dict[str, float | None] = {name: float(found[key]) for name, found in through_vae.items()}
            ceiling = rebuilt.pop(CEILING, None)
            figures.append(
                Figure(
                    metric=key,
                    unit=column.unit,
                    direction=column.direction,
                    headline=column.headline,
                    answer=float(values.mean()),
                    stderr=_mean_of(errors, key),
                    draw_std=float(values.std()) if len(values) > 1 else None,
                    baselines={name: _mean_of(draws, key) for name, draws in baselines.items()} | rebuilt,
                    ceiling=ceiling,
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
            parameters=dict(self.task.parameters),
            constant="" if self.constant is None else str(self.constant),
        )

    def error_of_gain(self, other: "TaskScorer") -> float | None:
        """Standard error of the difference of two headlines, of answers to the same queries; None if it is unknown."""
        one, rest = ([metric.unique_rows() for metric in scorer.answers] for scorer in (self, other))
        error = float(self.answers[0].error_of_difference(one, rest)[self.task.headline.metric])
        return error if math.isfinite(error) else None

    def _constant(self) -> Constant:
        """The best constant, found once."""
        if self.constant is None:
            assert self.find_constant is not None
            self.constant = self.find_constant()
        return self.constant


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
