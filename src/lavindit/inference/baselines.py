"""What one would answer without a model, as pictures [3, T, H, W]; None where there is no such answer."""

from collections.abc import Callable

import torch
from torch import Tensor

from lavindit.types import Episode, Pair


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


BASELINES: dict[str, Callable[[Episode], Tensor | None]] = {
    "nearest_target": nearest_target,
    "mean_target": mean_target,
    "query": query_unchanged,
}
