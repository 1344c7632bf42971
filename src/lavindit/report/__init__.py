"""The report of a run: result.json, and the pages rendered from it."""

from pathlib import Path

from lavindit.files import write_atomically
from lavindit.report.benchmark import file_benchmark
from lavindit.report.html import render_html
from lavindit.report.machine import current_command, current_commit, describe_machine, note_command
from lavindit.report.markdown import render_markdown
from lavindit.report.schema import RESULT_NAME, read_result

__all__ = [
    "current_command",
    "current_commit",
    "describe_machine",
    "file_benchmark",
    "note_command",
    "write_report",
]


def write_report(run_dir: Path | str) -> dict[str, Path]:
    """Render RUN_DIR/result.json as report.md and report.html beside it.

    Returns:
        The paths written, under "markdown" and "html".

    Raises:
        LavinditError: There is no result.json, it cannot be read, or the folder cannot be written to.
    """
    run_dir = Path(run_dir)
    result = read_result(run_dir / RESULT_NAME)
    pages = {
        "markdown": (run_dir / "report.md", render_markdown(result)),
        "html": (run_dir / "report.html", render_html(result, run_dir)),
    }
    for path, text in pages.values():
        write_atomically(path, text.encode("utf-8", "replace"))
    return {kind: path for kind, (path, _) in pages.items()}
