"""Figures that a benchmark is expected to give again: a YAML file with a tolerance for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.report.figure import Figure
from lavindit.report.records import Record
from lavindit.report.schema import RunResult, TaskResult
from lavindit.report.wording import flatten, format_number

ERROR_SHARE, VALUE_SHARE, LEAST_TOLERANCE = 0.25, 0.01, 1e-4
"""Of a written tolerance: a quarter of the standard error, at least one per cent of the value. Enough for another
processor's rounding, which discrete figures enlarge, and too little for other weights."""
HEADING = "# Figures that `{}` gives again; see docs/benchmark.md.\n"


@dataclass(frozen=True)
class Expectation(Record):
    """A figure of a task.

    Attributes:
        metric: Its key.
        value: What it was.
        tolerance: How far it may be off.
    """

    metric: str
    value: float
    tolerance: float


@dataclass(frozen=True)
class Expected(Record):
    """What a benchmark is expected to give.

    Attributes:
        model: Name of the model.
        protocol: The protocol, field by field.
        command: What measured it.
        commit: Of the code; None outside a checkout.
        tasks: A figure of each task.
    """

    model: str
    protocol: dict[str, Any]
    command: str
    commit: str | None
    tasks: dict[str, Expectation]


def read_expected(path: Path) -> Expected:
    """Read a file of expected figures.

    Raises:
        LavinditError: It is missing, or is no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise LavinditError(f"cannot read {path}: {reason}; --write-expected FILE writes one") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LavinditError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise LavinditError(f"{path} must be a mapping with model, protocol, command, commit and tasks")
    try:
        return Expected.from_json(content)
    except LavinditError as error:
        raise LavinditError(f"{path} holds no expected figures: {error}") from error


def write_expected(path: Path, result: RunResult, metrics: Mapping[str, str]) -> None:
    """Write the figures of a benchmark as what is expected of it from now on.

    Args:
        path: The file.
        result: Of a benchmark.
        metrics: Key of the figure to be kept, by task.

    Raises:
        LavinditError: A figure was not measured, or the file cannot be written.
    """
    tasks = {task.task: _expectation(task, metrics[task.task]) for task in result.tasks}
    expected = Expected(
        str(result.model.get("name", "")), result.settings["protocol"], result.command, result.commit, tasks
    )
    text = HEADING.format(result.command) + yaml.safe_dump(expected.to_json(), sort_keys=False, width=120)
    write_atomically(path, text.encode())


def find_misses(result: RunResult, expected: Expected, path: Path, only: Sequence[str] | None = None) -> list[str]:
    """One line for each task whose figure is out of tolerance, or was not measured.

    Args:
        result: Of a benchmark.
        expected: What it should give.
        path: Where that stands, for the message.
        only: Tasks that are looked at; None: all that are expected.

    Raises:
        LavinditError: The result is of another protocol.
    """
    stated, asked = (dict(flatten(protocol)) for protocol in (expected.protocol, result.settings["protocol"]))
    for key in dict.fromkeys([*stated, *asked]):
        if stated.get(key) != asked.get(key):
            raise LavinditError(
                f"{path} expects another protocol: {key} {stated.get(key)} in place of {asked.get(key)}; name the "
                "protocol and options of its command"
            )
    tasks = {task.task: task for task in result.tasks}
    asked_for = expected.tasks if only is None else {n: e for n, e in expected.tasks.items() if n in only}
    return [line for name, wanted in asked_for.items() if (line := _miss(tasks.get(name), name, wanted))]


def _miss(task: TaskResult | None, name: str, wanted: Expectation) -> str:
    figure = None if task is None else _figure(task, wanted.metric)
    if figure is None or figure.answer is None:
        return f"{name}: {wanted.metric} was not measured"
    off = abs(figure.answer - wanted.value)
    if off <= wanted.tolerance:
        return ""
    found, value = format_number(figure.answer), format_number(wanted.value, like=figure.answer)
    return f"{name}: {wanted.metric} is {found}, expected {value} within {wanted.tolerance:.3g} (off by {off:.3g})"


def _expectation(task: TaskResult, metric: str) -> Expectation:
    figure = _figure(task, metric)
    if figure is None or figure.answer is None:
        raise LavinditError(f"{task.task} has no figure {metric} to be expected again; test more queries")
    tolerance = max(ERROR_SHARE * (figure.stderr or 0.0), VALUE_SHARE * abs(figure.answer), LEAST_TOLERANCE)
    return Expectation(metric, float(f"{figure.answer:.6g}"), float(f"{tolerance:.3g}"))


def _figure(task: TaskResult, metric: str) -> Figure | None:
    return next((figure for figure in task.figures if figure.metric == metric), None)
