"""Workers of a benchmark that fail."""

import os
from functools import partial
from typing import Never

import pytest

from lavindit.errors import LavinditError
from lavindit.training.benchmark_workers import measure_side_by_side


class Refusing:
    """A bench on which a task fails as a person can mend it."""

    def measure_task(self, name: str) -> Never:
        """Refuse."""
        raise LavinditError(f"{name} has no scenes")


def test_a_task_that_fails_says_why() -> None:
    with pytest.raises(LavinditError, match=r"^b has no scenes$"):
        list(measure_side_by_side(Refusing, ["b"], 1))


def test_a_worker_that_is_gone() -> None:
    with pytest.raises(LavinditError, match=r"a worker of the benchmark ended before its task did.*fewer --workers"):
        list(measure_side_by_side(partial(os._exit, 3), ["a", "b"], 2))  # pyright: ignore[reportArgumentType]
