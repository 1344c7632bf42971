"""The engine: a loaded model that answers queries about any task."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.data import SourceConfig, draw_context, source_for
from lavindit.data.episodes import collate
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference.sampler import SamplingConfig, answer_batch
from lavindit.models import STVAE, JDiT, load_engine_model
from lavindit.pictures import Letterbox, load_picture
from lavindit.task import Task, get_task
from lavindit.types import Episode, Pair, Prediction, Scene

CONTEXT_SCENES = 256
Query = str | Path | Tensor


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer, and what the model saw.

    Attributes:
        episode: Context and query at the model's resolution; padding of the query is not valid.
        square: The answer at the model's resolution [3, T, size, size].
        prediction: The answer at the query's own size.
    """

    episode: Episode
    square: Tensor
    prediction: Prediction


class Engine:
    """A model that answers.

    Args:
        vae: The VAE.
        jdit: The transformer.
        info: The model directory's info: `resolution` and `sampling` give the defaults.
    """

    def __init__(self, vae: STVAE, jdit: JDiT, info: dict) -> None:
        self.vae, self.jdit, self.info = vae.eval(), jdit.eval(), info
        self.resolution, self.sampling = _defaults(info)

    def apply(
        self,
        task: str | Path | Task,
        query: Query | Sequence[Query],
        *,
        pairs: int = 4,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        batch_size: int = 16,
    ) -> Prediction | list[Prediction]:
        """Answer one query, or a list of them.

        Args:
            task: Registered name, plugin file, folder of pairs, or a Task.
            query: Image file or picture [3, 1, H, W] in [0, 1]; any size: it is resized into the model's square,
                padded to keep its aspect ratio, and the answer is brought back to its size.
            pairs: Context pairs, drawn from the task's training scenes (a folder: from its pairs).
            steps: Solver steps; None: the model's own.
            guidance: Guidance scale; None: the model's own.
            seed: Seed of the context draw and of the noise. The same seed gives the same answer, whatever the
                batch.
            batch_size: Queries a batch.

        Returns:
            A prediction for each query.

        Raises:
            LavinditError: Unknown task, unreadable query, too few pairs.
        """
        if isinstance(query, (str, Path, Tensor)):
            return self.apply_all(task, [query], pairs, steps, guidance, seed, batch_size)[0].prediction
        answers = self.apply_all(task, list(query), pairs, steps, guidance, seed, batch_size)
        return [answer.prediction for answer in answers]

    def apply_all(
        self,
        task: str | Path | Task,
        queries: Sequence[Query],
        pairs: int = 4,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        batch_size: int = 16,
        corrupt: bool = False,
    ) -> list["Answer"]:
        """As `apply`, with the episode of each query as the model saw it.

        With `corrupt`, queries are clean pictures: the task makes its input from them (a hole, a blur), and the
        episode's truth is known.
        """
        task = task if isinstance(task, Task) else get_task(task)
        if pairs < 1:
            raise LavinditError(f"pairs must be at least 1, got {pairs}: the pairs are what shows the task")
        sampling = replace(
            self.sampling,
            seed=seed,
            steps=self.sampling.steps if steps is None else steps,
            guidance=self.sampling.guidance if guidance is None else guidance,
        )
        pictures = [load_picture(query) if isinstance(query, (str, Path)) else query for query in queries]
        names = [_name(query, picture) for query, picture in zip(queries, pictures, strict=True)]
        episodes, boxes = self._episodes(task, pictures, names, pairs, seed, corrupt)
        found = []
        for first in range(0, len(episodes), batch_size):
            chunk = episodes[first : first + batch_size]
            start = time.perf_counter()
            answers = answer_batch(self.vae, self.jdit, collate(chunk).to(self._device()), sampling).cpu()
            seconds = (time.perf_counter() - start) / len(chunk)
            for episode, box, answer in zip(chunk, boxes[first:], answers, strict=False):
                found.append(Answer(episode, answer, _prediction(episode, box.undo(answer), seconds)))
        return found

    def _episodes(
        self, task: Task, pictures: list[Tensor], names: list[str], pairs: int, seed: int, corrupt: bool
    ) -> tuple[list[Episode], list[Letterbox]]:
        """One context for all queries: the same pairs show the task to each of them."""
        generator = torch.Generator().manual_seed(seed_from("apply", seed, task.name))
        codec = task.make_codec(generator)
        scenes = SourceConfig(resolution=self.resolution, scenes=CONTEXT_SCENES)
        context = draw_context(task, source_for(task, "train", scenes), codec, pairs, generator)
        episodes, boxes = [], []
        for picture, name in zip(pictures, names, strict=True):
            box = Letterbox(picture, self.resolution)
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

    def _device(self) -> torch.device:
        return next(self.jdit.parameters()).device


def _defaults(info: dict) -> tuple[int, SamplingConfig]:
    """Resolution and sampling that a model directory states."""
    try:
        resolution = info.get("resolution", 64)
        if not isinstance(resolution, int):
            raise TypeError(f"resolution is {resolution!r}, not a whole number")
        return resolution, SamplingConfig(**info.get("sampling", {}))
    except TypeError as error:
        raise LavinditError(f"the model's config.json has info that this version cannot use: {error}") from error


def _name(query: Query, picture: Tensor) -> str:
    """A name that is the query's own, wherever it stands in a list: its file's, or one made from its pixels."""
    if isinstance(query, (str, Path)):
        return Path(query).stem
    return f"{seed_from(picture.double().mean().item(), tuple(picture.shape)):x}"


def _prediction(episode: Episode, image: Tensor, seconds: float) -> Prediction:
    codec = episode.codec
    return Prediction(episode.task, episode.sample_id, image, codec.decode(image), codec.unit, seconds)


def load(path: str | Path, device: torch.device | str = "cpu") -> Engine:
    """Load a model directory (or a run folder that holds one under `model/`) as an engine.

    Raises:
        LavinditError: There is no model, or it is damaged or of another kind.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    return Engine(*load_engine_model(folder, device))
