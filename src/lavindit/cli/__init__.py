"""The one entry point, `lavindit`."""

from lavindit.cli.main import main

__all__ = ["main"]
