"""Errors that a person can cause, and the one way they are told."""

import traceback
from pathlib import Path


class LavinditError(Exception):
    """A mistake in a person's input, told in one line that names the thing and the remedy.

    The command line prints the message on stderr and exits with code 2; no traceback.
    Anything else that is raised is a defect of ours and keeps its traceback.
    """


def describe_failure(error: Exception, file: Path | str | None = None) -> str:
    """What went wrong in a person's own code, in one line: type, message, and the line of code.

    Args:
        error: What was raised.
        file: The person's file; the innermost line that is in it is told. None: the innermost line.
    """
    if isinstance(error, LavinditError):
        return str(error)
    what = f"{type(error).__name__}: {error}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    theirs = None if file is None else Path(file).resolve()
    own = [frame for frame in frames if Path(frame.filename).resolve() == theirs] or frames
    if isinstance(error, SyntaxError) or not own:  # the former says its line itself
        return what
    return f"{what} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def file_of(thing: object) -> str | None:
    """The file that a thing's class is defined in; None where no function of it tells."""
    codes = (getattr(value, "__code__", None) for value in vars(type(thing)).values())
    return next((code.co_filename for code in codes if code is not None), None)
