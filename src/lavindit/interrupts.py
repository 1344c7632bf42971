"""Ctrl-C and SIGTERM, by which schedulers and services end a process: both are interruptions."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_sigterm() -> None:
    """Have SIGTERM raise KeyboardInterrupt in this process from now on; other threads than the main one may not ask."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def leave_interrupts_to_parent(worker: int = 0) -> None:
    """For a worker's process, which gets what a terminal or a scheduler sends to all: its parent says when it ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class PatientInterrupt:
    """An interruption that is noted, for a moment at which nothing is lost by it; a second one raises at once.

    Args:
        notice: Said on stderr when it is noted.

    Attributes:
        asked: Whether there was one since `start`.
    """

    def __init__(self, notice: str) -> None:
        self.notice, self.asked = notice, False
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        """Note interruptions from now on; what is ignored stays so, and other threads than the main one cannot."""
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}

    def stop(self) -> None:
        """Have them do again what they did before `start`, where nobody else has said since."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, before)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, f"\n{self.notice}\n".encode())  # print() may have been at work when the signal came


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
