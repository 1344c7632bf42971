"""Workers of a benchmark that fail."""

import multiprocessing
import os
import signal
import time
from functools import partial
from typing import Any, Never

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


class Slow:
    """A bench that is done with one task at once, and with others not before it is killed."""

    def measure_task(self, name: str) -> Any:
        """Measure, or sleep, deaf to SIGTERM as Lightning's trainers are."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if name != "quick":
            time.sleep(600)
        return name


def is_there(pid: int | None) -> bool:
    """Whether a process exists. Not asked of its object, which two threads wait for."""
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


def test_whoever_stops_listening_ends_the_workers() -> None:
    results = measure_side_by_side(Slow, ["quick", "slow", "slow too"], 2)
    assert next(results) == "quick"
    workers = [worker.pid for worker in multiprocessing.active_children()]
    assert len(workers) == 2
    results.close()  # as an interruption does
    deadline = time.monotonic() + 30
    while any(map(is_there, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_there, workers))
