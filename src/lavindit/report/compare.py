"""Two results of one protocol side by side: what is better, what is worse, and what the noise may have done.

The noise of a difference is 2 sqrt(e_A^2 + e_B^2), with e^2 = stderr^2 + draw_std^2 / draws: the standard error of a
figure over its queries and, beside it, what another draw of contexts and noise would change. Twice the standard error
is about a 95 % interval, so of twenty tasks that are equal about one is called better or worse by chance. Both results
answer the same queries, whose differences are smaller than those of separate ones, so the rule errs on the side of
"within noise".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lavindit.errors import LavinditError
from lavindit.report.figure import Figure
from lavindit.report.schema import RESULT_NAME, RunResult, TaskResult, read_result
from lavindit.report.wording import flatten

NOISE_WIDTH = 2.0
Mark = Literal["better", "worse", "within noise", "not known"]
# What sets a value of the protocol.
OPTIONS = {"images": "--n", "clips": "--n", "pairs": "--pairs", "draws": "--draws", "seed": "--seed"}
# What a test states of its protocol where it follows none that has a name.
STATED = ("pairs", "context", "context_draws")


@dataclass(frozen=True)
class Difference:
    """A task's headline figure in both results.

    Attributes:
        task: The task.
        held_out: Neither model was trained on it.
        before: Figure of A.
        after: Figure of B.
        noise: What a difference must exceed to count; None where an error is unknown.
    """

    task: str
    held_out: bool
    before: Figure
    after: Figure
    noise: float | None

    @property
    def gain(self) -> float | None:
        """By how much B is better, in the unit of the figure; None if either is unknown."""
        return self.after.gain_over(self.before.answer)

    @property
    def mark(self) -> Mark:
        """What is to be said of B."""
        if self.gain is None or self.noise is None:
            return "not known"
        if abs(self.gain) <= self.noise:
            return "within noise"
        return "better" if self.gain > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two results beside each other.

    Attributes:
        names: What A and B are called.
        results: They.
        differences: One a task that both have.
        only: Tasks that only A has, and only B.
    """

    names: tuple[str, str]
    results: tuple[RunResult, RunResult]
    differences: list[Difference]
    only: tuple[list[str], list[str]]

    def count(self, mark: Mark) -> int:
        """How many tasks have a mark."""
        return sum(difference.mark == mark for difference in self.differences)


def read_either(path: Path) -> RunResult:
    """The result of a run folder, or of a result file.

    Raises:
        LavinditError: There is none.
    """
    return read_result(path / RESULT_NAME if path.is_dir() or not path.suffix else path)


def compare_results(before: RunResult, after: RunResult, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare the headline figures of all tasks that both results have.

    Raises:
        LavinditError: They were not measured in the same way, on the same data and with the same tasks.
    """
    _require_equal(_conditions(before), _conditions(after), names)
    tasks = [{task.task: task for task in result.tasks} for result in (before, after)]
    shared = [name for name in tasks[0] if name in tasks[1]]
    if not shared:
        raise LavinditError(f"{names[0]} and {names[1]} have no task in common; test both on the same tasks")
    for name in shared:
        _require_equal(_conditions_of(tasks[0][name]), _conditions_of(tasks[1][name]), names)
    differences = [_difference(tasks[0][name], tasks[1][name]) for name in shared]
    only = [[name for name in own if name not in other] for own, other in (tasks, tasks[::-1])]
    return Comparison(names, (before, after), differences, (only[0], only[1]))


def error_of(figure: Figure, draws: int) -> float | None:
    """Standard error of a figure over queries and draws; None where that over queries is unknown."""
    if figure.stderr is None:
        return None
    return (figure.stderr**2 + (figure.draw_std or 0.0) ** 2 / draws) ** 0.5


def _difference(before: TaskResult, after: TaskResult) -> Difference:
    errors = [error_of(task.headline, task.draws) for task in (before, after)]
    noise = None if None in errors else NOISE_WIDTH * sum(e**2 for e in errors if e is not None) ** 0.5
    held_out = before.held_out and after.held_out
    return Difference(before.task, held_out, before.headline, after.headline, noise)


def _conditions(result: RunResult) -> dict[str, str]:
    """What two results must agree on, by name."""
    if result.modalities:
        raise LavinditError("a result is of the test of a VAE; benchmarks/vae.py joins those")
    protocol = result.settings.get("protocol")
    if protocol is None:
        protocol = {name: result.settings.get(name) for name in STATED}
    # "quick with pairs 4" is "quick", with a value that is compared on its own.
    kind = {"protocol.name": str(protocol["name"]).split(" with ")[0]} if "name" in protocol else {}
    values = {name: value for name, value in protocol.items() if name != "name"}
    return kind | dict(flatten({"protocol": values, "seed": result.seed, "data": result.data}))


def _conditions_of(task: TaskResult) -> dict[str, str]:
    stated: Mapping[str, Any] = {
        "version": task.version,
        "n": task.n,
        "pairs": task.pairs,
        "draws": task.draws,
        "headline": task.headline.metric,
    }
    return dict(flatten({task.task: dict(stated)}))


def _require_equal(first: Mapping[str, str], second: Mapping[str, str], names: tuple[str, str]) -> None:
    for key in dict.fromkeys([*first, *second]):
        one, other = (found.get(key, "not stated") for found in (first, second))
        if one != other:
            option = OPTIONS.get(key.removeprefix("protocol."))
            remedy = "" if option is None else f" (`lavindit benchmark` has {option})"
            raise LavinditError(
                f"cannot compare {names[0]} with {names[1]}: {key} is {one} in the first and {other} in the second; "
                f"measure both with the same protocol, code and data{remedy}"
            )
