"""The result of a test run: result.json is the source of truth, every page is rendered from it."""

import json
import math
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, cast, get_args, get_origin, get_type_hints

from lavindit.errors import LavinditError
from lavindit.files import write_atomically

SCHEMA = 1
RESULT_NAME = "result.json"

NEAREST_TARGET = "nearest_target"
MEAN_TARGET = "mean_target"
QUERY = "query"
BASELINES = (NEAREST_TARGET, MEAN_TARGET, QUERY)


class Record:
    """What the dataclasses of this file share: to JSON and back."""

    def to_json(self) -> dict[str, Any]:
        """The record as what `json` can write: dicts, lists, str, int, float, bool, None."""
        return cast(dict[str, Any], _plain(self))

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The record that `to_json` wrote; fields it does not know are ignored.

        Raises:
            LavinditError: A field is missing or has another type; the message says where.
        """
        return _build(cls, data, cls.__name__)


@dataclass(frozen=True)
class Figure(Record):
    """One metric of one task, for the answer and for what it is compared with.

    Numbers that are not finite count as not measured and become None.

    Attributes:
        metric: Key of the metric.
        unit: Unit, "1" for none.
        direction: "min" where smaller is better, "max" where larger is.
        headline: The figure that the task is judged by first.
        answer: Mean over the queries, and over the draws of context.
        stderr: Standard error of `answer` over the queries.
        baselines: Same metric for "nearest_target" (the target of the context pair whose input is nearest to
            the query), "mean_target" (the mean of the context targets) and "query" (the query unchanged; only
            where input and target are comparable).
        ceiling: Same metric for the truth through the VAE and back.
        draw_std: Standard deviation of `answer` from one draw of context (and noise) to another; None for one draw.
    """

    metric: str
    unit: str
    direction: Literal["min", "max"]
    headline: bool
    answer: float | None
    stderr: float | None = None
    baselines: dict[str, float | None] = field(default_factory=dict)
    ceiling: float | None = None
    draw_std: float | None = None

    def __post_init__(self) -> None:
        for name in ("answer", "stderr", "draw_std", "ceiling"):
            object.__setattr__(self, name, _finite(getattr(self, name)))
        object.__setattr__(self, "baselines", {key: _finite(value) for key, value in self.baselines.items()})

    def margin(self, baseline: str) -> float | None:
        """By how much the answer is better than the baseline, in `unit`: negative when worse, None if unknown."""
        other = self.baselines.get(baseline)
        if self.answer is None or other is None:
            return None
        return self.answer - other if self.direction == "max" else other - self.answer

    def beats(self, baseline: str) -> bool | None:
        """Whether the answer is strictly better than the baseline; None if either is unknown."""
        margin = self.margin(baseline)
        return None if margin is None else margin > 0


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
        draws: How often each query was asked, every time with another context.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds_per_query", _finite(self.seconds_per_query))
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
class Application(Record):
    """An answer on a person's own picture; there may be no truth and no figure.

    Attributes:
        task: Name of the task, or of the folder, that was shown.
        sample_id: Name of the query.
        strip: The pictures.
        seconds: Time the answer took.
        figures: What could be measured, possibly nothing.
    """

    task: str
    sample_id: str
    strip: Strip
    seconds: float | None
    figures: list[Figure] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", _finite(self.seconds))


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
        settings: Solver, steps, guidance and so on.
        data: Source, version, split and so on.
        created: When, ISO 8601.
        tasks: One result a task.
        applications: Answers on a person's own pictures.
        notes: What a reader must know besides; one sentence each.
        schema: Version of this format.
    """

    known_schema: ClassVar[int] = SCHEMA

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
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The run as what `json` can write; the schema comes first, for whoever opens the file."""
        return {"schema": self.schema, **super().to_json()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The run that `to_json` wrote.

        Raises:
            LavinditError: The schema is not the known one, or a field is missing or has another type.
        """
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != cls.known_schema or isinstance(schema, bool):
            raise LavinditError(f"schema is {schema!r}, this version of lavindit reads schema {cls.known_schema}")
        return super().from_json(data)


def read_result(path: Path | str) -> RunResult:
    """Read a result file.

    Raises:
        LavinditError: The file is missing, is no JSON, or is no result of the known schema.
    """
    path = Path(path)
    try:
        # json reads NaN and Infinity by default, though neither is JSON: both are "not measured" here.
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (FileNotFoundError, NotADirectoryError):
        raise LavinditError(f"no {path.name} in {path.parent}; run `lavindit test` first") from None
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


def _finite(value: float | None) -> float | None:
    """A Python float, or None for what is missing, NaN or infinite; takes NumPy and torch scalars too."""
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(value: Any) -> Any:
    """Anything as what `json` can write; what it cannot is written as text."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finite(value)
    item = getattr(value, "item", None)  # NumPy and torch scalars
    return _plain(item()) if callable(item) and getattr(value, "ndim", 1) == 0 else str(value)


def _build(kind: Any, data: Any, where: str) -> Any:
    """The value of type `kind` that `data`, as `json` reads it, stands for; `where` names it in an error."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _build_record(cast(type[Record], kind), data, where)
    if origin in (Union, UnionType):  # only "X | None" occurs
        return None if data is None else _build(next(a for a in arguments if a is not NoneType), data, where)
    if origin is Literal:
        _require(data in arguments, where, f"one of {', '.join(map(str, arguments))}", data)
        return data
    if origin is list:
        _require(isinstance(data, list), where, "a list", data)
        return [_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data)]
    if origin is tuple:
        _require(isinstance(data, list) and len(data) == len(arguments), where, f"a list of {len(arguments)}", data)
        return tuple(_build(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, data, strict=True)))
    if origin is dict:
        _require(isinstance(data, dict), where, "an object", data)
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if kind is float:
        _require(isinstance(data, int | float) and not isinstance(data, bool), where, "a number", data)
        return float(data)
    if kind in (int, str, bool):
        _require(type(data) is kind, where, {int: "a whole number", str: "a text", bool: "true or false"}[kind], data)
    return data


def _build_record(kind: type[Record], data: Any, where: str) -> Any:
    _require(isinstance(data, dict), where, "an object", data)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for f in fields(cast(Any, kind)):
        if f.name in data:
            values[f.name] = _build(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise LavinditError(f"{where}.{f.name} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise LavinditError(f"{where}: {error}") from error


def _require(condition: bool, where: str, expected: str, found: Any) -> None:
    if not condition:
        shown = repr(found)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise LavinditError(f"{where} must be {expected}, not {shown}")
