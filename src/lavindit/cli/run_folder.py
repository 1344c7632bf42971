"""The folder of a run: that it can be written to, and that a failed start leaves nothing in it."""

import os
from contextlib import suppress
from pathlib import Path

from lavindit.errors import LavinditError
from lavindit.files import remove

LOGS = ("tensorboard", "csv")


def make_writable(run: Path) -> None:
    """Make a run folder and see that it can be written to.

    Raises:
        LavinditError: It cannot.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        probe = run / f".lavindit-write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LavinditError(f"cannot write to the run folder {run}: {error.strerror or error}") from error


class Traces:
    """What loggers leave in a run folder before the first step, to be removed where no step is ever taken.

    Args:
        run: The run folder, which need not be there yet.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.existed, self.logs = run, run.exists(), set(self._logs(run))

    def remove(self) -> None:
        """Remove the logs that are new, and folders that are new and empty."""
        for log in set(self._logs(self.run)) - self.logs:
            with suppress(FileNotFoundError):  # another process of this run tidies up, too
                remove(log)
        for folder in (*(self.run / name for name in LOGS), *([] if self.existed else [self.run])):
            with suppress(FileNotFoundError):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    @staticmethod
    def _logs(run: Path) -> list[Path]:
        return [path for name in LOGS for path in (run / name).glob("version_*")]
