"""The engine: a loaded model that answers queries about any task."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from lavindit.data.episodes import collate
from lavindit.errors import LavinditError
from lavindit.inference.answer import Answer, answer_to
from lavindit.inference.episodes import episodes_of, show
from lavindit.inference.presets import Options, Settings, resettle, settle
from lavindit.inference.prompt import Prompt, check_asked, check_compiles, check_memory, mark_model, pair_of_pictures
from lavindit.inference.queries import Query, check_truths, read_pair, read_query
from lavindit.inference.sampler import (
    answer_batch,
    answer_queries,
    can_read_once,
    encode_batch,
    pictures_a_pass,
    read_pairs,
)
from lavindit.models import STVAE, JDiT, load_engine_model
from lavindit.models.jdit import join_caches
from lavindit.task import FolderTask, Task, get_task
from lavindit.types import Codec, Episode, Pair, Prediction


class Engine:
    """A model that answers.

    Args:
        vae: The VAE.
        jdit: The transformer.
        info: The model directory's info: `resolution`, `sampling` and `preset` give the defaults.

    Attributes:
        settings: What an answer is made with where nothing else is asked for.
    """

    def __init__(self, vae: STVAE, jdit: JDiT, info: dict) -> None:
        self.vae, self.jdit, self.info = vae.eval(), jdit.eval(), info
        self.settings = settle(info)

    def settle(
        self, preset: str | None = None, seed: int = 0, *, task: Task | str | None = None, **options: Unpack[Options]
    ) -> Settings:
        """Every choice of an answer: options before the preset, the preset before the model's own for the task.

        A folder of few pairs is shown whole, if nobody says how many.
        """
        name = task.name if isinstance(task, Task) else task
        most = len(task.pairs) if isinstance(task, FolderTask) else None
        return settle(self.info, preset, seed, task=name, most_pairs=most, **options)

    def compile(
        self,
        task: str | Path | Task,
        *,
        seed: int = 0,
        preset: str | None = None,
        **options: Unpack[Options],
    ) -> Prompt:
        """Read a task's pairs once, for any number of queries.

        Args:
            task: As in `apply`.
            seed: Seed of the draw of the pairs.
            preset: As in `apply`.
            **options: As in `apply`. What concerns the pairs (`pairs`, `resolution`, `fit`, ...) is fixed with them.

        Raises:
            LavinditError: The model's context sees the noise, the pairs would be chosen by the query, there are too few
                of them, or they do not fit into memory.
        """
        check_compiles(self.jdit)
        named = None if isinstance(task, Task) else str(task)
        task = task if isinstance(task, Task) else get_task(task)
        settings = self.settle(preset, seed, task=task, **options)
        if settings.choice(task).by_query:
            raise LavinditError(
                f"the pairs of {task.name} are chosen by the query (context {settings.context or task.context}), so "
                "they cannot be read before it: name another choice, context=random for one"
            )
        return replace(self._compile(task, settings), named=named)

    def append(self, prompt: Prompt, shown: Query, answer: Query) -> Prompt:
        """A prompt with one more pair, without reading the others again; a `causal` model alone can.

        Args:
            prompt: Stays as it is.
            shown: The pair's input, of any size; the task prepares it as it does a query.
            answer: Its target, as a picture in the colours of the prompt's codec.

        Raises:
            LavinditError: The model is not causal or not the prompt's, a picture cannot be read or has another
                number of frames, or memory does not suffice.
        """
        if self.jdit.config.context_attention != "causal":
            raise LavinditError(
                "pairs are appended to a causal model's prompt alone: in another every pair sees all of them; "
                "compile the prompt anew"
            )
        check_asked(prompt, self.vae, self.jdit)
        frames = (prompt.task.input_frames, prompt.task.target_frames)
        halves = read_pair((shown, answer), frames, prompt.settings.resolution, prompt.settings.fit)
        pair = pair_of_pictures(prompt.task.prepare_query(halves[0]), halves[1])
        latent = self._encode_pairs(prompt.task, prompt.codec, (pair,), prompt.settings, before=len(prompt.pairs))
        added = self.jdit.read(latent, [prompt.read.pairs])
        read = replace(prompt.read, pairs=join_caches([prompt.read.pairs, added]))
        pairs = (*prompt.pairs, pair)
        return replace(prompt, pairs=pairs, read=read, settings=replace(prompt.settings, pairs=len(pairs)))

    def apply(
        self,
        task: str | Path | Task | Prompt,
        query: Query | Sequence[Query],
        *,
        seed: int | None = None,
        batch_size: int = 16,
        preset: str | None = None,
        **options: Unpack[Options],
    ) -> Prediction | list[Prediction]:
        """Answer one query, or a list of them.

        Args:
            task: Registered name, plugin file, folder of pairs, a Task, or a compiled prompt.
            query: Image file, video file, folder of frames, picture [3, T, H, W] in [0, 1], PIL image, or uint8 array
                [H, W, 3] or [T, H, W, 3]; any size: it is resized into the model's square, padded to keep its aspect
                ratio, and the answer is brought back to its size. With `fit="stretch"` neither is done. Clips may have
                any length, see `read_query`.
            seed: Seed of the context draw and of the noise; 0 by default, or the prompt's. The same seed gives the
                same answer, whatever the batch.
            batch_size: Queries a batch.
            preset: "default", "paper" or "official" (the released inference); None: the model's own.
            **options: `Options`, before whatever the preset says: `pairs` (context pairs, by default 8 for a model that
                was trained with as many, else 4; of the task's training scenes or a folder's pairs), `steps`,
                `guidance`, `resolution`, ... Of a prompt, those of sampling.

        Returns:
            A prediction for each query.

        Raises:
            LavinditError: Unknown task or preset, unreadable query, too few pairs, another model's prompt, an
                option that a prompt has fixed.
        """
        single = isinstance(query, Query)
        queries = [query] if single else list(query)
        answers = self.apply_all(task, queries, seed=seed, batch_size=batch_size, preset=preset, **options)
        predictions = [answer.prediction for answer in answers]
        return predictions[0] if single else predictions

    def apply_all(
        self,
        task: str | Path | Task | Prompt,
        queries: Sequence[Query],
        *,
        seed: int | None = None,
        batch_size: int = 16,
        corrupt: bool = False,
        truths: Sequence[Path | str] = (),
        preset: str | None = None,
        **options: Unpack[Options],
    ) -> list[Answer]:
        """As `apply`, with the episode of each query as the model saw it.

        With `corrupt`, queries are clean pictures: the task makes its input from them (a hole, a blur), and the
        episode's truth is known. So it is with `truths`, one file a query, as the target files of a folder of pairs.
        """
        if batch_size < 1:
            raise LavinditError(f"batch_size must be at least 1, got {batch_size}")
        check_truths(queries, truths, corrupt)
        if isinstance(task, Prompt):
            check_asked(task, self.vae, self.jdit)
            prompt, task, settings = task, task.task, resettle(task.settings, preset, seed, **options)
            asked = [read_query(one, task, settings, truth) for one, truth in zip_longest(queries, truths)]
        else:
            task = task if isinstance(task, Task) else get_task(task)
            settings = self.settle(preset, seed or 0, task=task, **options)
            asked = [read_query(one, task, settings, truth) for one, truth in zip_longest(queries, truths)]
            reads_once = can_read_once(self.jdit) and not settings.choice(task).by_query
            prompt = self._compile(task, settings) if reads_once else None
        shown = None if prompt is None else (prompt.codec, prompt.pairs)
        episodes = episodes_of(task, asked, settings, corrupt, shown)
        flat = [episode for parts in episodes for episode in parts]
        squares, seconds = self._answer(task, flat, settings, batch_size, prompt)
        found, first = [], 0
        for query, parts in zip(asked, episodes, strict=True):
            own = slice(first, first + len(parts))
            first = own.stop
            found.append(answer_to(task, query, parts, squares[own], sum(seconds[own]), settings, corrupt))
        return found

    def _answer(
        self, task: Task, episodes: list[Episode], settings: Settings, batch_size: int, prompt: Prompt | None
    ) -> tuple[list[Tensor], list[float]]:
        """Pictures [3, T, size, size] and seconds, one an episode."""
        device = next(self.jdit.parameters()).device
        squares: list[Tensor] = []
        seconds: list[float] = []
        if prompt is not None:
            episodes = [replace(episode, pairs=()) for episode in episodes]
        for first in range(0, len(episodes), batch_size):
            batch = collate(episodes[first : first + batch_size])
            start = time.perf_counter()
            chunk = pictures_a_pass(batch.inputs, batch.targets)
            models, rest, kept = (self.vae, self.jdit), (batch.to(device), settings.sampling, chunk), task.keeps_detail
            if prompt is None:
                found = answer_batch(*models, *rest, keeps_detail=kept)
            else:
                found = answer_queries(*models, prompt.read, *rest, keeps_detail=kept)
            squares += found.cpu()
            seconds += [(time.perf_counter() - start) / len(batch)] * len(batch)
        return squares, seconds

    def _compile(self, task: Task, settings: Settings) -> Prompt:
        codec, pairs = show(task, settings)
        read = read_pairs(self.jdit, self._encode_pairs(task, codec, pairs, settings))
        # A choice such as "all" shows what there is, however many were asked for.
        settings = replace(settings, pairs=len(pairs))
        return Prompt(task, codec, pairs, read, settings, mark_model(self.vae, self.jdit))

    def _encode_pairs(
        self, task: Task, codec: Codec, pairs: Sequence[Pair], settings: Settings, before: int = 0
    ) -> Tensor:
        """The clean frames of pairs [1, C, F, h, w], if the memory for their keys and values is there.

        Each pair is an episode of its own, numbered from `before` on, so that a posterior sample does not depend on
        which pairs are encoded together.
        """
        weights, sampling = next(self.jdit.parameters()), settings.sampling
        numbered = enumerate(pairs, before)
        batch = collate([Episode(task.name, f"{task.name}/prompt/{n}", (), pair, codec) for n, pair in numbered])
        frames = sum(self.vae.latent_shape(part)[1] for part in (batch.inputs, batch.targets))
        frames *= before + len(pairs)
        check_memory(self.jdit.config, frames, settings.resolution, weights.dtype, weights.device)
        chunk = pictures_a_pass(batch.inputs, batch.targets)
        latent = encode_batch(self.vae, batch.to(weights.device), sampling.posterior, sampling.seed, chunk)
        joined = torch.cat([latent.inputs[:, 0], latent.targets[:, 0]], dim=2)  # [K, C, t + t', h, w]
        return joined.transpose(0, 1).flatten(1, 2)[None]


def load(path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Engine:
    """Load a model as an engine.

    Args:
        path: Name of a released model, a model directory, or a run folder that holds one under `model/`.
        device: Where the networks go.
        dtype: Type of their weights; answers and the solver's state are float32 whatever it is.

    Raises:
        LavinditError: There is no model, or it is damaged or of another kind.
    """
    return Engine(*load_engine_model(path, device, dtype))
