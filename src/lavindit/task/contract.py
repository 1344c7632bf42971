"""The Task contract: everything the framework asks of a task, in one class."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from lavindit.codecs.base import Codec
from lavindit.types import Pair, Scene, Source

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
    """

    metric: str
    unit: str
    direction: Literal["min", "max"]
    headline: bool = False


class Task(ABC):
    """A task: how a scene becomes an input-target pair, and how an answer is scored.

    A plugin is one file `tasks/<name>.py` with one subclass. Tasks hold no state: everything random is
    drawn from the generator they are handed, so the same seed gives the same episode.

    Attributes:
        name: Registry key, equal to the file's name.
        version: Raised whenever the task's figures change for the same answers.
        summary: One sentence for tables and pages.
        modality: "image" or "video".
        requires: Fields of `Scene` that `make_pair` reads besides rgb.
        columns: The figures of its report; their names are the metric's keys.
        held_out: Never trained on; only evaluated.
        restores: Input and target are pictures of the same thing, so the unchanged query is an answer to
            compare with.
        protocol: How the figures are measured, for the task's page.
        citation: Where the task or the protocol comes from.
    """

    name: str
    version: ClassVar[int]
    summary: ClassVar[str]
    modality: ClassVar[Literal["image", "video"]] = "image"
    requires: ClassVar[frozenset[str]] = frozenset()
    columns: ClassVar[tuple[Column, ...]]
    held_out: ClassVar[bool] = False
    restores: ClassVar[bool] = False
    protocol: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    @abstractmethod
    def make_codec(self, generator: torch.Generator) -> Codec:
        """The codec of one episode; what varies between episodes (palettes, ranges) is drawn here."""

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

    def choose_context(self, candidates: int, pairs: int, generator: torch.Generator) -> Sequence[int]:
        """Indices of the context scenes among `candidates` scenes; by default drawn without replacement."""
        return torch.randperm(candidates, generator=generator)[:pairs].tolist()

    @property
    def headline(self) -> Column:
        """The column that the task is judged by first."""
        return next(column for column in self.columns if column.headline)
