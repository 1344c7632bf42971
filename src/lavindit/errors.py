"""Errors that a person can cause, and the one way they are told."""


class LavinditError(Exception):
    """A mistake in a person's input, told in one line that names the thing and the remedy.

    The command line prints the message on stderr and exits with code 2; no traceback.
    Anything else that is raised is a defect of ours and keeps its traceback.
    """
