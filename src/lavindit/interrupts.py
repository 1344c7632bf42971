"""SIGTERM, by which schedulers and services end a process, taken as Ctrl-C."""

import signal
import threading
from types import FrameType


def interrupt_on_sigterm() -> None:
    """Have SIGTERM raise KeyboardInterrupt in this process from now on; other threads than the main one may not ask."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
