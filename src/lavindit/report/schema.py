"""The result of a test run: result.json is the source of truth, every page is rendered from it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.report.figure import Figure
from lavindit.report.records import Record, finite

SCHEMA = 4
RESULT_NAME = "result.json"


@dataclass(frozen=True)
class Strip(Record):
    """One episode in pictures; every path is that of a PNG file, relative to the run folder.

    Attributes:
        context: The context pairs, (input, target).
        query: The query.
        answer: What the model answered.
        truth: What it should have answered, where anybody knows.
        sample_id: Name of the query.
    """

    context: list[tuple[str, str]]
    query: str
    answer: str
    truth: str | None
    sample_id: str


@dataclass(frozen=True)
class TaskResult(Record):
    """All figures of one task.

    Attributes:
        task: Registry name.
        version: Version of the task; figures compare only within one.
        summary: One sentence.
        held_out: The model never trained on this task.
        n: Number of queries.
        pairs: Number of context pairs shown with each query.
        seconds_per_query: Mean time of an answer.
        figures: The metrics, exactly one of them the headline.
        strips: Examples.
        protocol: How the figures are measured.
        draws: How often each query was asked, every time with another context and other noise.
        sampling: How it was answered: solver, steps, guidance and so on, as `SamplingConfig` has them.
        parameters: What the task makes its inputs with: sizes of kernels, streaks, holes.
        constant: What the baseline "best_constant" shows, in words.
    """

    task: str
    version: int
    summary: str
    held_out: bool
    n: int
    pairs: int
    seconds_per_query: float | None
    figures: list[Figure]
    strips: list[Strip] = field(default_factory=list)
    protocol: str = ""
    draws: int = 1
    sampling: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    constant: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds_per_query", finite(self.seconds_per_query))
        headlines = sum(figure.headline for figure in self.figures)
        if headlines != 1:
            raise ValueError(f"task {self.task} has {headlines} headline figures, it needs exactly 1")

    @property
    def headline(self) -> Figure:
        """The figure that the task is judged by first."""
        return next(figure for figure in self.figures if figure.headline)

    def beats(self, baseline: str) -> bool | None:
        """Whether the answer is strictly better than the baseline on the headline metric; None if unknown."""
        return self.headline.beats(baseline)

    def margin(self, baseline: str) -> float | None:
        """By how much it is, in the unit of the headline metric: negative when worse, None if unknown."""
        return self.headline.margin(baseline)


@dataclass(frozen=True)
class Reconstruction(Record):
    """A picture beside what the VAE made of it; every path is that of a PNG file, relative to the run folder.

    Attributes:
        truth: The picture; of a clip a strip of frames.
        rebuilt: The picture through the VAE.
        error: Their absolute difference, amplified `gain` times and cut off at 1.
        sample_id: Name of the query that it belongs to.
        psnr: PSNR of this picture in dB.
        gain: How many times the error is amplified.
    """

    truth: str
    rebuilt: str
    error: str
    sample_id: str
    psnr: float | None
    gain: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "psnr", finite(self.psnr))


@dataclass(frozen=True)
class ModalityResult(Record):
    """What the latent space costs pictures of one kind.

    The figures compare the pictures with themselves through the VAE. Their baselines are "pca_mixture" and "pca_own":
    the principal components of 8x8 blocks, as many as the latent has channels, fitted on training pictures of the
    mixture, or on those of this modality alone.

    Attributes:
        modality: What the pictures show, e.g. "depth".
        frames: Frames of each: 1 for images.
        n: Number of pictures or clips, each counted once however often it comes.
        figures: PSNR first.
        pictures: Examples.
        tasks: Whose inputs or targets they are; empty for photographs, which are asked for apart.
    """

    modality: str
    frames: int
    n: int
    figures: list[Figure]
    pictures: list[Reconstruction] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)

    def figure(self, metric: str) -> Figure | None:
        """The figure of that metric, if it was measured."""
        return next((figure for figure in self.figures if figure.metric == metric), None)


@dataclass(frozen=True)
class Application(Record):
    """An answer on a person's own picture; there may be no truth and no figure.

    Attributes:
        task: Name of the task, or of the folder, that was shown.
        sample_id: Name of the query.
        strip: The pictures.
        seconds: Time the answer took.
        figures: What could be measured, possibly nothing.
        asked: The model's name and the settings that it was answered with; empty in files of before version 4.
    """

    task: str
    sample_id: str
    strip: Strip
    seconds: float | None
    figures: list[Figure] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", finite(self.seconds))


@dataclass(frozen=True)
class RunResult(Record):
    """Everything a test run found, and all that is needed to run it again.

    Attributes:
        lavindit_version: Version of the package.
        command: The command line.
        seed: The seed of the run.
        commit: Git hash of the code, "-dirty" if it was changed; None outside a checkout.
        machine: See `lavindit.report.machine.describe_machine`.
        model: Name, checkpoint, parameters and so on.
        settings: Solver, steps, guidance and so on; of a benchmark also its `protocol`.
        data: Source, version, split and so on.
        created: When, ISO 8601.
        tasks: One result a task.
        applications: Answers on a person's own pictures.
        notes: What a reader must know besides; one sentence each.
        modalities: What the latent space costs, in the test of a VAE; empty in that of a J-DiT.
        schema: Version of this format. 1 had no `modalities`, and figures no `std`; 2 no `sampling`, `parameters` and
            `constant` of a task; 3 no `asked` of an application.
    """

    known_schemas: ClassVar[tuple[int, ...]] = (1, 2, 3, SCHEMA)

    lavindit_version: str
    command: str
    seed: int
    commit: str | None
    machine: dict[str, Any]
    model: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]
    created: str
    tasks: list[TaskResult]
    applications: list[Application] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    modalities: list[ModalityResult] = field(default_factory=list)
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The run as what `json` can write; the schema comes first, for whoever opens the file."""
        return {"schema": self.schema, **super().to_json()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The run that `to_json` wrote, in the current schema whichever it was written in.

        Raises:
            LavinditError: The schema is not a known one, or a field is missing or has another type.
        """
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema not in cls.known_schemas or isinstance(schema, bool):
            known = f"{cls.known_schemas[0]} to {cls.known_schemas[-1]}"
            raise LavinditError(f"schema is {schema!r}, this version of lavindit reads schema {known}")
        return super().from_json({**data, "schema": SCHEMA})


def read_result(path: Path | str) -> RunResult:
    """Read a result file.

    Raises:
        LavinditError: The file is missing, is no JSON, or is no result of a known schema.
    """
    path = Path(path)
    try:
        # json reads NaN and Infinity by default, though neither is JSON: both are "not measured" here.
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (FileNotFoundError, NotADirectoryError):
        raise LavinditError(
            f"no {path.name} in {path.parent}; run `lavindit test`, `benchmark` or `apply` first"
        ) from None
    except OSError as error:
        raise LavinditError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise LavinditError(f"{path} is not valid JSON: {error}; run `lavindit test` again") from error
    try:
        return RunResult.from_json(data)
    except LavinditError as error:
        raise LavinditError(f"{path} is not a result that can be read: {error}") from error


def write_result(result: RunResult, path: Path | str) -> None:
    """Write a result file, whole or not at all.

    Raises:
        LavinditError: The folder cannot be written to.
    """
    text = json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(Path(path), (text + "\n").encode("utf-8", "replace"))
