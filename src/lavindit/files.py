"""Writing files so that a reader never meets half of one."""

import os
import secrets
from pathlib import Path

from lavindit.errors import LavinditError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name in the same folder, then rename it to `path`.

    Raises:
        LavinditError: The folder cannot be made or written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are readable by their owner only, and a report is there to be shared.
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LavinditError(f"cannot write {path}: {error.strerror or error}") from error
