"""The Task contract: everything the framework asks of a task, in one class."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.metrics.networks import available
from lavindit.types import CLIP_FRAMES, Pair, Scene, Source

if TYPE_CHECKING:
    from lavindit.metrics.base import RowMetric


@dataclass(frozen=True)
class Column:
    """One figure of a task's report.

    Attributes:
        metric: Key in the metric's result.
        unit: Unit, e.g. "deg"; "1" for none.
        direction: "min" where smaller is better, "max" where larger is.
        headline: The figure that a task is judged by first; exactly one a task.
        needs: Network without whose weights it is not measured (see `lavindit.metrics.networks`); "" for none.
    """

    metric: str
    unit: str
    direction: Literal["min", "max"]
    headline: bool = False
    needs: str = ""


class Task(ABC):
    """A task: how a scene becomes an input-target pair, and how an answer is scored.

    A plugin is one file `tasks/<name>.py` with one subclass. Tasks hold no state: everything random is
    drawn from the generator they are handed, so the same seed gives the same episode.

    Attributes:
        name: Registry key, equal to the file's name.
        version: Raised whenever the task's figures change for the same answers.
        summary: One sentence for tables and pages.
        modality: "image" or "video": whether answers are clips.
        pictures: What its targets are called in the report of a VAE, which scores pictures of one kind together; "":
            as its codec's pictures are.
        requires: Fields of `Scene` that `make_pair` reads besides rgb.
        columns: The figures of its report; their names are the metric's keys. Where the weights that one needs are
            missing it is left out, and the next one takes over as headline.
        held_out: Never trained on; only evaluated.
        restores: Input and target are pictures of the same thing, so the unchanged query is an answer to
            compare with.
        keeps_detail: The target has the input's fine detail at the same places, so answers get back what the VAE loses
            of their query: input and target are as large. Not where that is what should go, as noise is.
        baselines: What a test compares it with besides what it compares all tasks with: "query_vae", the query through
            the VAE and back, and "mean_fill", what is hidden in the query filled with the mean of what is not.
        parameters: Sizes and ranges that its inputs are made with, for the report; the code that makes them states them
            (`lavindit.data.degradations.parameters_of`).
        context: How its pairs are chosen in a test where nothing else is asked for; see `lavindit.task.context`.
        protocol: How the figures are measured, for the task's page.
        citation: Where the task or the protocol comes from.
    """

    name: str
    version: ClassVar[int]
    summary: ClassVar[str]
    modality: ClassVar[Literal["image", "video"]] = "image"
    pictures: ClassVar[str] = ""
    requires: ClassVar[frozenset[str]] = frozenset()
    columns: ClassVar[tuple[Column, ...]]
    held_out: ClassVar[bool] = False
    restores: ClassVar[bool] = False
    keeps_detail: ClassVar[bool] = False
    baselines: ClassVar[tuple[str, ...]] = ()
    parameters: ClassVar[Mapping[str, Any]] = {}
    context: ClassVar[str] = "random"
    protocol: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    @abstractmethod
    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """The codec of one episode; what varies between episodes (palettes, ranges) is drawn here.

        Args:
            scenes: Those of the episode, as far as they are known: a palette needs a colour for each class in them.
            generator: Source of all that is random.
        """

    @abstractmethod
    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """Turn a scene into an input-target pair; the target is `codec.encode` of the native truth."""

    @abstractmethod
    def make_metric(self) -> "RowMetric":
        """A fresh metric whose result has every column as a key."""

    def make_source(self, split: str, resolution: int) -> Source | None:
        """The task's own scenes; None (the default): the framework's, whatever provides what it requires."""
        return None

    def prepare_query(self, picture: Tensor) -> Tensor:
        """What the task makes of a person's own picture [3, T, H, W] before it is asked; by default nothing."""
        return picture

    def known_pixels(self, query: Tensor) -> Tensor | None:
        """Where a query [3, T, H, W] shows its answer already, a mask [1, T, H, W]; None (the default): nowhere.

        Answers keep these pixels as the query has them, those to a person's own picture at its full size.
        """
        return None

    def accepts(self, scene: Scene) -> bool:
        """Whether a scene has what the task is about; others are passed over. By default all do."""
        return True

    @property
    def input_frames(self) -> int:
        """Frames of an input."""
        return CLIP_FRAMES if self.modality == "video" else 1

    @property
    def target_frames(self) -> int:
        """Frames of a target."""
        return CLIP_FRAMES if self.modality == "video" else 1

    @property
    def measured(self) -> tuple[Column, ...]:
        """The columns that can be measured here, exactly one of them the headline."""
        here = [column for column in self.columns if not column.needs or available(column.needs)]
        first = next((column for column in here if column.headline), here[0])
        return tuple(replace(column, headline=column is first) for column in here)

    @property
    def headline(self) -> Column:
        """The column that the task is judged by first, here."""
        return next(column for column in self.measured if column.headline)


def keep_known(task: Task, query: Tensor, answer: Tensor) -> Tensor:
    """An answer [3, T, H, W], but where its query [3, T, H, W] shows it already, the query (`Task.known_pixels`)."""
    known = task.known_pixels(query)
    return answer if known is None else torch.where(known, query, answer)


def give_back_detail(answer: Tensor, query: Tensor, rebuilt: Tensor) -> Tensor:
    """An answer with what the VAE loses of its query (`Task.keeps_detail`); all are pictures of one shape in [0, 1].

    Where the answer is the query, in latents, this is the query to the pixel, and not a blurred copy of it.

    Args:
        answer: The answer.
        query: The query.
        rebuilt: The query through the VAE and back.
    """
    return (answer + query - rebuilt).clamp(0, 1)
