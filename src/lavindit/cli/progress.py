"""How far a command is: a bar on a terminal, elsewhere lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def show_progress(
    label: str, say: Callable[[int, int], str], amount: ProgressColumn | None = None
) -> Iterator[Callable[[int, int], None]]:
    """A function of what is done and of all there is to do.

    Args:
        label: What stands beside the bar.
        say: A line, where no bar can be drawn; said every ten seconds, so that short work is silent.
        amount: How the bar shows the two numbers; by default as they are.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(say)
        return
    columns = (TextColumn(label), BarColumn(), amount or MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        job = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)


class _Lines:
    def __init__(self, say: Callable[[int, int], str]) -> None:
        self.say, self.last = say, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            print(self.say(done, total), file=sys.stderr, flush=True)
