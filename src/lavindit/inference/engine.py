"""The engine: a loaded model that answers queries about any task."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.data import SourceConfig, draw_context, source_for
from lavindit.data.episodes import collate
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference.presets import Options, Settings, settle
from lavindit.inference.sampler import answer_batch
from lavindit.models import STVAE, JDiT, load_engine_model
from lavindit.pictures import FITS, Letterbox, Rounding, Stretch, load_picture, truncate
from lavindit.task import Task, get_task
from lavindit.types import Episode, Pair, Prediction, Scene

CONTEXT_SCENES = 256
PIXELS_A_PASS = 2**20  # of the VAE: four pictures at 512 px, about 2 GB in the released one
Query = str | Path | Tensor


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer, and what the model saw.

    Attributes:
        episode: Context and query at the model's resolution; padding of the query is not valid.
        square: The answer at the model's resolution [3, T, size, size].
        prediction: The answer at the query's own size; at the model's where the query was stretched.
    """

    episode: Episode
    square: Tensor
    prediction: Prediction


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

    def settle(self, preset: str | None = None, seed: int = 0, **options: Unpack[Options]) -> Settings:
        """Every choice of an answer: options before the preset, the preset before the model's own."""
        return settle(self.info, preset, seed, **options)

    def apply(
        self,
        task: str | Path | Task,
        query: Query | Sequence[Query],
        *,
        seed: int = 0,
        batch_size: int = 16,
        preset: str | None = None,
        **options: Unpack[Options],
    ) -> Prediction | list[Prediction]:
        """Answer one query, or a list of them.

        Args:
            task: Registered name, plugin file, folder of pairs, or a Task.
            query: Image file or picture [3, 1, H, W] in [0, 1]; any size: it is resized into the model's square,
                padded to keep its aspect ratio, and the answer is brought back to its size. With `fit="stretch"`
                neither is done.
            seed: Seed of the context draw and of the noise. The same seed gives the same answer, whatever the
                batch.
            batch_size: Queries a batch.
            preset: "default", "paper" or "official" (the released inference); None: the model's own.
            **options: `Options`, before whatever the preset says: `pairs` (context pairs, 4 by default, drawn from
                the task's training scenes; a folder: from its pairs), `steps`, `guidance`, `resolution`, ...

        Returns:
            A prediction for each query.

        Raises:
            LavinditError: Unknown task or preset, unreadable query, too few pairs.
        """
        single = isinstance(query, (str, Path, Tensor))
        queries = [query] if single else list(query)
        answers = self.apply_all(task, queries, seed=seed, batch_size=batch_size, preset=preset, **options)
        predictions = [answer.prediction for answer in answers]
        return predictions[0] if single else predictions

    def apply_all(
        self,
        task: str | Path | Task,
        queries: Sequence[Query],
        *,
        seed: int = 0,
        batch_size: int = 16,
        corrupt: bool = False,
        preset: str | None = None,
        **options: Unpack[Options],
    ) -> list["Answer"]:
        """As `apply`, with the episode of each query as the model saw it.

        With `corrupt`, queries are clean pictures: the task makes its input from them (a hole, a blur), and the
        episode's truth is known.
        """
        settings = self.settle(preset, seed, **options)
        task = task if isinstance(task, Task) else get_task(task)
        pictures = [load_picture(query) if isinstance(query, (str, Path)) else query for query in queries]
        names = [_name(query, picture) for query, picture in zip(queries, pictures, strict=True)]
        episodes, boxes = self._episodes(task, pictures, names, settings, corrupt)
        device, found = next(self.jdit.parameters()).device, []
        for first in range(0, len(episodes), batch_size):
            batch = collate(episodes[first : first + batch_size])
            start = time.perf_counter()
            chunk = max(1, PIXELS_A_PASS // batch.inputs[0, 0, 0].numel())
            squares = answer_batch(self.vae, self.jdit, batch.to(device), settings.sampling, chunk).cpu()
            seconds = (time.perf_counter() - start) / len(batch)
            for episode, box, square in zip(batch.episodes, boxes[first:], squares, strict=False):
                # Quantised here and not on saving, so that native values and figures belong to the file's pixels.
                full = _round(box.undo(square), settings.rounding)
                shown = _round(square, settings.rounding)
                found.append(Answer(episode, shown, _prediction(episode, full, seconds)))
        return found

    def _episodes(
        self, task: Task, pictures: list[Tensor], names: list[str], settings: Settings, corrupt: bool
    ) -> tuple[list[Episode], list[Letterbox | Stretch]]:
        """One context for all queries: the same pairs show the task to each of them."""
        seed, size = settings.sampling.seed, settings.resolution
        generator = torch.Generator().manual_seed(seed_from("apply", seed, task.name))
        codec = task.make_codec(generator)
        fit = "stretch" if settings.fit == "stretch" else "crop"
        source = source_for(task, "train", SourceConfig(resolution=size, scenes=CONTEXT_SCENES, fit=fit))
        context = draw_context(task, source, codec, settings.pairs, generator, replacement=settings.replacement)
        episodes, boxes = [], []
        for picture, name in zip(pictures, names, strict=True):
            box = FITS[settings.fit](picture, size)
            square = box.apply(picture)
            own = torch.Generator().manual_seed(seed_from("query", seed, task.name, name))
            pair = self._query_pair(task, codec, square, own, corrupt)
            pair = replace(pair, valid=pair.valid & box.inside())
            episodes.append(Episode(task.name, f"{task.name}/{name}", context, pair, codec))
            boxes.append(box)
        return episodes, boxes

    def _query_pair(self, task: Task, codec: Codec, square: Tensor, generator: torch.Generator, corrupt: bool) -> Pair:
        if corrupt:
            if task.requires:
                needs = ", ".join(sorted(task.requires))
                raise LavinditError(f"task {task.name} needs {needs}; a picture alone does not give its input")
            return task.make_pair(Scene("query", square), codec, generator)
        unknown = torch.zeros_like(square[:1], dtype=torch.bool)
        return Pair(task.prepare_query(square), torch.zeros_like(square), torch.zeros_like(square), unknown)


def _name(query: Query, picture: Tensor) -> str:
    """A name that is the query's own, wherever it stands in a list: its file's, or one made from its pixels."""
    if isinstance(query, (str, Path)):
        return Path(query).stem
    return f"{seed_from(picture.double().mean().item(), tuple(picture.shape)):x}"


def _round(picture: Tensor, rounding: Rounding) -> Tensor:
    return truncate(picture) if rounding == "truncate" else picture


def _prediction(episode: Episode, image: Tensor, seconds: float) -> Prediction:
    codec = episode.codec
    return Prediction(episode.task, episode.sample_id, image, codec.decode(image), codec.unit, seconds)


def load(path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Engine:
    """Load a model directory (or a run folder that holds one under `model/`) as an engine.

    Args:
        path: The folder.
        device: Where the networks go.
        dtype: Type of their weights; answers and the solver's state are float32 whatever it is.

    Raises:
        LavinditError: There is no model, or it is damaged or of another kind.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    return Engine(*load_engine_model(folder, device, dtype))
