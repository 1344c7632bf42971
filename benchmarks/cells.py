"""Parts of a study that are measured one by one, by one process or several, and kept until all of them are."""

import fcntl
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.report import current_commit

Row = dict[str, Any]
SETTINGS = "settings.json"


class Cells:
    """The cells of a study, each in a file of its own in a folder beside the result: OUT.partial/.

    A cell that is there is not measured again, so that a study that was interrupted goes on where it stopped. The same
    command may run several times at once: each process takes a cell that no other one has, and all of them end with all
    cells. What a process has is locked; locks end with their process, however it ends.

    Args:
        out: The result's file; None keeps nothing.
        settings: What every cell depends on, as JSON can write it.

    Raises:
        LavinditError: The folder that is there is of other settings, or cannot be read.
    """

    def __init__(self, out: Path | None, settings: Row) -> None:
        self.folder = out.with_suffix(".partial") if out is not None else None
        self.rows: dict[str, Row] = {}
        self.commits: set[str] = set()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check(self.folder / SETTINGS, json.loads(json.dumps(settings)))
            self.in_use = self._lock("study", shared=True)

    def row(self, name: str, measure: Callable[[], Row]) -> Row:
        """A cell that is there, or is measured now, or by another process."""
        return self.all({name: measure})[name]

    def all(self, measures: Mapping[str, Callable[[], Row]]) -> dict[str, Row]:
        """Cells by name; what other processes are measuring is waited for when nothing else is left to do."""
        for wait in (False, True):
            for name, measure in measures.items():
                if name not in self.rows:
                    self._take(name, measure, wait)
        return {name: self.rows[name] for name in measures}

    @property
    def made(self) -> Row:
        """For the result: by which code."""
        return {"cell_commits": sorted(self.commits)}

    def forget(self) -> None:
        """Remove what was kept, unless another process still needs it."""
        if self.folder is None:
            return
        self.in_use.close()
        alone = self._lock("study", wait=False)
        if alone is not None:
            shutil.rmtree(self.folder)
            alone.close()

    def _take(self, name: str, measure: Callable[[], Row], wait: bool) -> None:
        if self.folder is None:
            self._keep(name, {"commit": current_commit(), "row": _measured(name, measure)})
            return
        path = self.folder / f"{_stem(name)}.json"
        lock = self._lock(_stem(name), wait=wait)
        if lock is None:
            return
        with lock:
            if not path.is_file():
                found = {"commit": current_commit(), "row": _measured(name, measure)}
                write_atomically(path, json.dumps(found).encode())
            self._keep(name, _read(path))

    def _keep(self, name: str, found: Row) -> None:
        self.rows[name] = found["row"]
        self.commits.add(str(found["commit"]))

    def _lock(self, name: str, shared: bool = False, wait: bool = True) -> TextIO | None:
        """An open file that is locked; None where another process has it and it is not waited for."""
        assert self.folder is not None
        file = (self.folder / f"{name}.lock").open("a")
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return None
        return file

    def _check(self, path: Path, wanted: Row) -> None:
        if not path.exists():
            write_atomically(path, json.dumps(wanted).encode())
        settings = _read(path)
        differ = sorted(key for key in settings | wanted if settings.get(key) != wanted.get(key))
        if differ:
            was, now = settings.get(differ[0]), wanted.get(differ[0])
            raise LavinditError(
                f"{path.parent} has cells with {differ[0]} {was!r}, asked is {now!r}: ask as before, name another "
                "--out, or remove it"
            )


def _stem(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _read(path: Path) -> Row:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise LavinditError(f"{path} cannot be read ({error}); remove it to begin anew") from error


def _measured(name: str, measure: Callable[[], Row]) -> Row:
    start = time.perf_counter()
    found = json.loads(json.dumps(measure()))  # as it would be read again
    print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return found


def run_script(main: Callable[[], None]) -> None:
    """Run a script; what a person can mend is told in one line, with exit code 2."""
    try:
        main()
    except LavinditError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
