"""Tasks of a benchmark measured side by side, each process with its share of the threads."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

import torch

from lavindit.errors import LavinditError
from lavindit.quiet import quiet_libraries
from lavindit.report.schema import RunResult


class Bench(Protocol):
    """What measures a task."""

    def measure_task(self, name: str) -> RunResult:
        """The result of one task."""
        ...


_bench: Bench  # of a worker's process


def measure_side_by_side(make: Callable[[], Bench], names: Sequence[str], workers: int) -> Iterator[RunResult]:
    """Results of tasks, as they are done.

    Every worker imports, opens the model and keeps scenes for itself: a few seconds' work gains nothing by it.

    Args:
        make: Makes the bench, in each worker; it is pickled.
        names: Tasks, the longest first.
        workers: How many processes; they share this process's threads.

    Raises:
        LavinditError: A task fails, or a worker is gone.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork inherits locks that torch's threads may hold
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(workers, spawn, _start, (make, threads))
    try:
        for future in as_completed([pool.submit(_measure, name) for name in names]):
            yield future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise LavinditError(
            "a worker of the benchmark ended before its task did, for want of memory perhaps; use fewer --workers, and "
            "the same command goes on"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()  # Lightning's trainers take SIGTERM for themselves


def _start(make: Callable[[], Bench], threads: int) -> None:
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches all; the first process ends the others
    torch.set_num_threads(threads)
    quiet_libraries()
    _bench = make()


def _measure(name: str) -> RunResult:
    return _bench.measure_task(name)
