"""What one would answer without a model, as pictures [3, T, H, W]; None where there is no such answer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.errors import LavinditError
from lavindit.report.figure import FURTHER_BASELINES, MEAN_FILL, MEAN_TARGET, NEAREST_TARGET, QUERY
from lavindit.task import Task
from lavindit.types import Episode, Pair

CONSTANT_IMAGES, CONSTANT_CLIPS = 64, 8
"""Training targets that the best constant is chosen on; a clip has many frames."""


def nearest_target(episode: Episode) -> Tensor | None:
    """The target of the context pair whose input is nearest to the query, by squared distance of pixels."""
    fitting = [pair for pair in _answerable(episode) if pair.input.shape == episode.query.input.shape]
    if not fitting:
        return None
    return min(fitting, key=lambda pair: float((pair.input - episode.query.input).square().mean())).target


def mean_target(episode: Episode) -> Tensor | None:
    """The mean of the context's target pictures."""
    fitting = _answerable(episode)
    return torch.stack([pair.target for pair in fitting]).mean(0) if fitting else None


def _answerable(episode: Episode) -> list[Pair]:
    """Pairs whose target could be the answer: it has as many frames."""
    return [pair for pair in episode.pairs if pair.target.shape == episode.query.target.shape]


def query_unchanged(episode: Episode) -> Tensor | None:
    """The query itself; a picture that a clip is asked of, in every frame."""
    query, target = episode.query.input, episode.query.target
    if query.shape[1] == 1:
        query = query.expand(-1, target.shape[1], -1, -1)
    return query if query.shape == target.shape else None


def mean_fill(episode: Episode) -> Tensor | None:
    """The query, and the mean colour of what it shows of the truth wherever it shows something else.

    That is a hole filled with the mean of the visible pixels. The truth tells only where the hole is.
    """
    query, target = episode.query.input, episode.query.target
    if query.shape != target.shape:
        return None
    hidden = (query != target).any(0, keepdim=True)
    if not hidden.any() or hidden.all():
        return query
    colour = query[:, ~hidden[0]].mean(1).view(3, 1, 1, 1)
    return torch.where(hidden, colour, query)


BASELINES: dict[str, Callable[[Episode], Tensor | None]] = {
    NEAREST_TARGET: nearest_target,
    MEAN_TARGET: mean_target,
    QUERY: query_unchanged,
    MEAN_FILL: mean_fill,
}


def baselines_of(task: Task) -> list[str]:
    """Names of those in `BASELINES` that a task is compared with.

    Raises:
        LavinditError: The task names one that does not exist.
    """
    unknown = [name for name in task.baselines if name not in FURTHER_BASELINES]
    if unknown:
        known = ", ".join(FURTHER_BASELINES)
        raise LavinditError(f"task {task.name} names the baseline {unknown[0]!r}; there are {known}")
    every = [NEAREST_TARGET, MEAN_TARGET, *([QUERY] if task.restores else [])]
    return every + [name for name in task.baselines if name in BASELINES]


@dataclass(frozen=True, eq=False)
class Constant:
    """One fixed answer, whatever is asked.

    Attributes:
        name: What it shows.
        picture: It, [3, T, H, W].
        targets: Number of training targets that it was chosen on.
    """

    name: str
    picture: Tensor
    targets: int

    def __str__(self) -> str:
        return f"{self.name}, chosen on {self.targets} training targets"


def best_constant(task: Task, config: SourceConfig, seed: int = 0) -> Constant:
    """The fixed picture that scores best on training targets, by the task's headline metric.

    The queries of a test have no part in the choice. Each picture is decoded with the codec of the target that it is
    scored against, and so it is in the test: where colours are drawn anew for every episode, it means something else
    in each.

    Args:
        task: The task.
        config: Where the training targets come from: the first 64 scenes, or 8 clips, that the task accepts.
        seed: Seed of what is random in them.

    Raises:
        LavinditError: There is no scene, or the task fails on one.
    """
    maker = EpisodeMaker(task, "train", config)
    wanted = CONSTANT_IMAGES if max(task.input_frames, task.target_frames) == 1 else CONSTANT_CLIPS
    episodes = [maker.episode(scene, 0, seed, number=n) for n, scene in enumerate(maker.accepted(wanted))]
    pictures = constant_pictures([episode.query.target for episode in episodes])
    scores = {name: _headline_of(task, picture, episodes) for name, picture in pictures.items()}
    name = max(scores, key=lambda name: scores[name])
    return Constant(name, pictures[name], len(episodes))


def constant_pictures(targets: Sequence[Tensor]) -> dict[str, Tensor]:
    """The pictures that are tried, of targets [3, T, H, W], each of that shape."""
    stacked = torch.stack(list(targets))
    blank = torch.zeros_like(stacked[0])
    return {
        "black": blank,
        "white": blank + 1,
        "mid-gray": blank + 0.5,
        "the mean colour": stacked.mean((0, 2, 3, 4)).view(3, 1, 1, 1).expand_as(blank),
        "the mean of each pixel": stacked.mean(0),
        "the median of each pixel": stacked.median(0).values,
    }


def _headline_of(task: Task, picture: Tensor, episodes: Sequence[Episode]) -> float:
    """What a picture scores as the answer to all of them; larger is better, minus infinity where it is undefined."""
    metric = task.make_metric().only(task.headline.metric)
    metric.sync_on_compute = False  # each process chooses for itself, at a time of its own
    for episode in episodes:
        query = episode.query
        metric.update(episode.codec.decode(picture), query.native, query.valid, episode.number, query.meta)
    value = float(metric.compute()[task.headline.metric])
    if math.isnan(value):
        return -math.inf
    return value if task.headline.direction == "max" else -value
