"""From scenes to episodes, and from episodes to batches."""

from collections.abc import Sequence

import torch

from lavindit.codecs.base import Codec
from lavindit.data.sources import SourceConfig, source_for
from lavindit.errors import LavinditError
from lavindit.flow.noise import seed_from
from lavindit.task import Task
from lavindit.types import Episode, EpisodeBatch, Pair, Source


class EpisodeMaker:
    """Makes the episodes of one task: the query from one split, its context from the training split.

    Args:
        task: The task.
        split: Split of the queries.
        config: The framework's scenes.
    """

    def __init__(self, task: Task, split: str, config: SourceConfig) -> None:
        self.task, self.split = task, split
        self.queries: Source = source_for(task, split, config)
        self.context: Source = source_for(task, "train", config)

    def __len__(self) -> int:
        return len(self.queries)

    def episode(self, query: int, pairs: int, seed: int) -> Episode:
        """Episode of query scene `query` with `pairs` context pairs; the same arguments give the same episode.

        Raises:
            LavinditError: There are not enough scenes for the context.
        """
        sample_id = f"{self.task.name}/{self.split}/{query}"
        generator = torch.Generator().manual_seed(seed_from("episode", seed, sample_id))
        codec = self.task.make_codec(generator)
        scene = self.queries[query]
        pair = self.task.make_pair(scene, codec, generator)
        context = draw_context(self.task, self.context, codec, pairs, generator, exclude=scene.scene_id)
        return Episode(self.task.name, sample_id, context, pair, codec)


def draw_context(
    task: Task,
    source: Source,
    codec: Codec,
    pairs: int,
    generator: torch.Generator,
    exclude: str | None = None,
    replacement: bool = False,
) -> tuple[Pair, ...]:
    """Draw `pairs` pairs of a task from a source, never the scene named `exclude`.

    With `replacement` the same scene may come several times, so that one is enough for any number of pairs.

    Raises:
        LavinditError: The source has too few scenes.
    """
    if pairs == 0:
        return ()
    wanted = len(source) if replacement else min(pairs + 1, len(source))
    chosen = list(task.choose_context(len(source), wanted, generator))
    found: list[Pair] = []
    while chosen:
        place = int(torch.randint(len(chosen), (), generator=generator)) if replacement else 0
        scene = source[chosen[place]]
        if scene.scene_id != exclude:
            found.append(task.make_pair(scene, codec, generator))
        if len(found) == pairs:
            return tuple(found)
        if not replacement or scene.scene_id == exclude:
            del chosen[place]
    raise LavinditError(f"task {task.name} can show {len(found)} pairs beside the query, {pairs} were asked for")


def collate(episodes: Sequence[Episode]) -> EpisodeBatch:
    """Stack episodes with the same number of pairs and the same picture sizes; the query comes last."""
    inputs = torch.stack([torch.stack([pair.input for pair in (*e.pairs, e.query)]) for e in episodes])
    targets = torch.stack([torch.stack([pair.target for pair in (*e.pairs, e.query)]) for e in episodes])
    return EpisodeBatch(inputs, targets, tuple(episodes))
