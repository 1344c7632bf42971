"""Episodes of a person's queries: which pairs show the task, and what the model is asked."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lavindit.data import SourceConfig, source_for
from lavindit.data.episodes import guarded_codec, guarded_pair
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference.presets import Settings
from lavindit.inference.queries import Asked, true_pair, true_values
from lavindit.task import Task
from lavindit.task.context import choose_scenes
from lavindit.types import Codec, Episode, Pair, Scene

CONTEXT_SCENES, CONTEXT_CLIPS = 256, 64

Shown = tuple[Codec, tuple[Pair, ...]]
"""A codec, and the pairs that are drawn with it."""


def show(task: Task, settings: Settings, picture: Tensor | None = None) -> Shown:
    """Choose the pairs that show a task, by a query's picture [3, T, H, W] where the choice asks for it.

    Raises:
        LavinditError: There are too few.
    """
    seed, choice = settings.sampling.seed, settings.choice(task)
    fit = "stretch" if settings.fit == "stretch" else "crop"
    config = SourceConfig(resolution=settings.resolution, scenes=CONTEXT_SCENES, clips=CONTEXT_CLIPS, fit=fit)
    generator = torch.Generator().manual_seed(seed_from("apply", seed, task.name))
    source = source_for(task, "train", config)
    scenes = choose_scenes(choice, task, source, settings.pairs, generator, query=picture)
    codec = guarded_codec(task, scenes, generator)
    return codec, tuple(guarded_pair(task, scene, codec, generator) for scene in scenes)


def episodes_of(
    task: Task, asked: Sequence[Asked], settings: Settings, corrupt: bool, shown: Shown | None
) -> list[list[Episode]]:
    """The episodes of each query, one a window; the same pairs show the task to all, unless chosen by query.

    Args:
        task: The task.
        asked: The queries.
        settings: How they are answered.
        corrupt: Whether queries are clean pictures that the task makes its input from.
        shown: Pairs that are chosen already; None: choose them.

    Raises:
        LavinditError: There are too few pairs, a truth is none of this task's, or `corrupt` needs more than a picture.
    """
    seed, by_query = settings.sampling.seed, shown is None and settings.choice(task).by_query
    if shown is None and not by_query:
        shown = show(task, settings)
    found = []
    for query in asked:
        own = seed_from("query", seed, task.name, query.name)
        codec, context = shown or show(task, settings, _asked_picture(task, query, own, corrupt))
        truth = true_values(query, codec, settings)
        parts = []
        for window in query.windows:
            generator = torch.Generator().manual_seed(seed_from(own, window[0]))
            pair = _query_pair(task, codec, query.square[:, window], generator, corrupt)
            pair = pair if truth is None else true_pair(pair, truth, window, codec)
            pair = replace(pair, valid=pair.valid & query.box.inside())
            name = f"{task.name}/{query.name}" + (f"/{window[0]}" if window[0] else "")
            parts.append(Episode(task.name, name, context, pair, codec))
        found.append(parts)
    return found


def _asked_picture(task: Task, query: Asked, seed: int, corrupt: bool) -> Tensor:
    """The first that the model is asked about a query, for a context that is chosen by it."""
    square = query.square[:, query.windows[0]]
    if not corrupt:
        return task.prepare_query(square)
    generator = torch.Generator().manual_seed(seed_from(seed, query.windows[0][0]))
    codec = guarded_codec(task, [Scene("query", square)], generator)
    return _query_pair(task, codec, square, generator, corrupt).input


def _query_pair(task: Task, codec: Codec, square: Tensor, generator: torch.Generator, corrupt: bool) -> Pair:
    if corrupt:
        needs = ", ".join(sorted(task.requires)) or ("a clip" if task.target_frames > task.input_frames else "")
        if needs:
            raise LavinditError(f"task {task.name} needs {needs}; a picture alone does not give its input and truth")
        return guarded_pair(task, Scene("query", square), codec, generator)
    target = square.new_zeros(3, task.target_frames, *square.shape[2:])
    unknown = torch.zeros_like(target[:1], dtype=torch.bool)
    return Pair(task.prepare_query(square), target, target, unknown)
