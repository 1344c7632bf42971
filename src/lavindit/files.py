"""Writing files so that a reader never meets half of one."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lavindit.errors import LavinditError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name in the same folder, then rename it to `path`.

    Raises:
        LavinditError: The folder cannot be made or written to, or the disk is full.
    """
    with new_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder to write to; renamed to `path` if all goes well.

    Raises:
        LavinditError: The folder cannot be made or written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are readable by their owner only, and a report is there to be shared.
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LavinditError(f"cannot write {path}: {error.strerror or error}") from error


def put_in_place(new: Path, path: Path) -> None:
    """Rename a finished file or folder to `path`, in place of a file or folder that is there.

    A folder cannot replace another in one go; `settle` mends what an interruption in between leaves.
    """
    if new.is_file() and not path.is_dir():
        os.replace(new, path)
        return
    old = path.with_name(f".{path.name}.old")
    remove(old)
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        settle(path)
        raise
    remove(old)


def settle(path: Path) -> None:
    """Finish a `put_in_place` that was interrupted after the old folder was moved away."""
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
