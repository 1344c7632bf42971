"""Parts of a study that are measured one by one, and kept until all of them are."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.report import current_commit

Row = dict[str, Any]


class Cells:
    """The cells of a study, in one file beside its result: OUT.partial.json.

    A cell that is there is not measured again, so that a study that was interrupted goes on where it stopped.

    Args:
        out: The result's file; None keeps nothing.
        settings: What every cell depends on, as JSON can write it.

    Raises:
        LavinditError: The file that is there is of other settings, or cannot be read.
    """

    def __init__(self, out: Path | None, settings: Row) -> None:
        self.path = out.with_suffix(".partial.json") if out is not None else None
        self.state: Row = {"settings": json.loads(json.dumps(settings)), "starts": 0, "commits": [], "rows": {}}
        if self.path is not None and self.path.exists():
            self.state = self._known(self.path)
        self.state["starts"] += 1
        commit = current_commit()
        if commit not in self.state["commits"]:
            self.state["commits"].append(commit)

    def row(self, name: str, measure: Callable[[], Row]) -> Row:
        """A cell that is there, or is measured now."""
        rows = self.state["rows"]
        if name not in rows:
            start = time.perf_counter()
            found = json.loads(json.dumps(measure()))  # as it would be read again
            rows[name] = found
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            if self.path is not None:
                write_atomically(self.path, json.dumps(self.state).encode())
        return rows[name]

    @property
    def made(self) -> Row:
        """For the result: in how many sittings, and by which code."""
        return {"starts": self.state["starts"], "cell_commits": self.state["commits"]}

    def forget(self) -> None:
        """Remove what was kept."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _known(self, path: Path) -> Row:
        try:
            found = json.loads(path.read_text())
            settings, _ = found["settings"], found["rows"]
            found.setdefault("commits", [])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LavinditError(f"{path} cannot be read ({error}); remove it to begin anew") from error
        wanted = self.state["settings"]
        differ = sorted(key for key in settings | wanted if settings.get(key) != wanted.get(key))
        if differ:
            was, now = settings.get(differ[0]), wanted.get(differ[0])
            raise LavinditError(
                f"{path} has cells with {differ[0]} {was!r}, asked is {now!r}: ask as before, name another --out, or "
                "remove it"
            )
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
