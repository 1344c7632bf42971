"""From scenes to episodes, and from episodes to batches."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lavindit.data.sources import SourceConfig, source_for
from lavindit.errors import LavinditError, describe_failure, file_of
from lavindit.flow.noise import seed_from
from lavindit.task import Task
from lavindit.task.context import ContextChoice, RandomContext, accepts, choose_scenes, group_of, plain_input
from lavindit.types import Codec, Episode, EpisodeBatch, Pair, Scene, Source

FEW_SCENES = 256
"""Of a larger source, that there are enough for the pairs is taken for granted: trying takes time."""


class EpisodeMaker:
    """Makes the episodes of one task: the query from one split, its context from the training split.

    Args:
        task: The task.
        split: Split of the queries.
        config: The framework's scenes.
        choice: How the context is chosen; None: at random.
    """

    def __init__(self, task: Task, split: str, config: SourceConfig, choice: ContextChoice | None = None) -> None:
        self.task, self.split, self.choice = task, split, choice or RandomContext()
        self.queries: Source = source_for(task, split, config)
        self.context: Source = source_for(task, "train", config)
        self._accepted: list[int] = []
        self._looked_at = 0

    def __len__(self) -> int:
        return len(self.queries)

    def accepted(self, count: int) -> list[int]:
        """The first `count` scenes of the split that the task accepts, or as many as there are.

        Raises:
            LavinditError: There is none.
        """
        if type(self.task).accepts is Task.accepts:
            return list(range(min(count, len(self.queries))))
        while len(self._accepted) < count and self._looked_at < len(self.queries):
            if accepts(self.task, self.queries[self._looked_at]):
                self._accepted.append(self._looked_at)
            self._looked_at += 1
        if not self._accepted:
            raise LavinditError(f"task {self.task.name} accepts none of the {len(self.queries)} {self.split} scenes")
        return self._accepted[:count]

    def next_accepted(self, scene: int) -> int:
        """The first scene that the task accepts from number `scene` on, around the end.

        Raises:
            LavinditError: There is none.
        """
        for step in range(len(self.queries)):
            index = (scene + step) % len(self.queries)
            if accepts(self.task, self.queries[index]):
                return index
        raise LavinditError(f"task {self.task.name} accepts none of the {len(self.queries)} {self.split} scenes")

    def probe(self, pairs: int) -> None:
        """Try an episode where there are few scenes, a folder's say, before hours are spent on other tasks.

        Raises:
            LavinditError: There are too few for so many pairs, or the task fails.
        """
        if len(self.queries) and len(self.context) <= FEW_SCENES:
            self.episode(self.next_accepted(0), pairs, seed=0)

    def episode(self, query: int, pairs: int, seed: int, draw: int = 0, number: int | None = None) -> Episode:
        """Episode of query scene `query` with `pairs` context pairs; the same arguments give the same episode.

        Another `draw` shows the same query, asked in the same way, with another context and other noise.

        Raises:
            LavinditError: There are not enough scenes for the context, or the task fails on a scene.
        """
        sample_id = f"{self.task.name}/{self.split}/{query}"
        own_seed = seed_from("query", seed, sample_id)
        own = torch.Generator().manual_seed(own_seed)
        drawn = torch.Generator().manual_seed(seed_from("context", seed, sample_id, draw))
        scene, picture = self.queries[query], None
        if pairs and self.choice.by_query:
            picture = plain_input(self.task, scene, own_seed)
        group = group_of(self.queries, query)
        shown = choose_scenes(self.choice, self.task, self.context, pairs, drawn, scene.scene_id, group, picture)
        codec = guarded_codec(self.task, [*shown, scene], own)
        pair = guarded_pair(self.task, scene, codec, own)
        if group is not None:
            pair = replace(pair, meta={**pair.meta, "class_id": group})
        context = tuple(guarded_pair(self.task, other, codec, drawn) for other in shown)
        name = f"{sample_id}/draw{draw}" if draw else sample_id
        return Episode(self.task.name, name, context, pair, codec, query if number is None else number, draw)


def guarded_codec(task: Task, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
    """`task.make_codec`; whatever goes wrong names the task."""
    try:
        return task.make_codec(scenes, generator)
    except Exception as error:
        raise LavinditError(f"task {task.name} fails to make a codec: {_reason(error, task)}") from error


def guarded_pair(task: Task, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
    """`task.make_pair`, with the scene's id in its meta; whatever goes wrong names the task and the scene."""
    try:
        pair = task.make_pair(scene, codec, generator)  # pyright: ignore[reportArgumentType]
        return replace(pair, meta={**pair.meta, "scene_id": scene.scene_id})
    except Exception as error:
        raise LavinditError(f"task {task.name} fails on scene {scene.scene_id}: {_reason(error, task)}") from error


def _reason(error: Exception, task: Task) -> str:
    return describe_failure(error, file_of(task))


def collate(episodes: Sequence[Episode]) -> EpisodeBatch:
    """Stack episodes with the same number of pairs and the same picture sizes; the query comes last."""
    inputs = torch.stack([torch.stack([pair.input for pair in (*e.pairs, e.query)]) for e in episodes])
    targets = torch.stack([torch.stack([pair.target for pair in (*e.pairs, e.query)]) for e in episodes])
    return EpisodeBatch(inputs, targets, tuple(episodes))
