"""Writes docs/tasks/<name>.md for every built-in task, from its class: `python docs/generate_task_pages.py`.

With `--check` nothing is written; the exit code is 1 if a page is missing or out of date.
"""

import argparse
import sys
from pathlib import Path

import torch

from lavindit.task import Task, all_tasks

FOLDER = Path(__file__).parent / "tasks"
BUILT_IN = "lavindit_tasks."


def render_page(task: Task) -> str:
    """The page of one task as Markdown."""
    blocks = [
        f"# {task.name}",
        task.summary,
        _facts(task),
        "## Figures",
        _columns(task),
        task.protocol,
        "How each figure is computed: [metrics.md](../metrics.md).",
        "## Picture and native values",
        _codec(task),
        "## Try it",
        f"```sh\nlavindit tasks {task.name}\nlavindit apply --task {task.name} --query photo.jpg --out answers\n```",
        *([_corruption()] if not task.requires else []),
        f"Code: [tasks/{task.name}.py](../../tasks/{task.name}.py). "
        "This page is written by `python docs/generate_task_pages.py`.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _facts(task: Task) -> str:
    restored = "yes, so the unchanged query is a baseline" if task.restores else "no"
    needs = ", ".join(f"`{field}`" for field in sorted(task.requires)) or "nothing but colours"
    rows = [
        ("Version", str(task.version)),
        ("Modality", task.modality),
        ("Training", "held out: tested, never trained on" if task.held_out else "in the mixture"),
        ("Needs of a scene, besides `rgb`", needs),
        ("Input and target show the same picture", restored),
    ]
    rows += [("Source", task.citation)] if task.citation else []
    return _table(("", ""), rows)


def _columns(task: Task) -> str:
    better = {"min": "smaller", "max": "larger"}
    rows = [
        (f"`{column.metric}`", column.unit, better[column.direction], "yes" if column.headline else "")
        for column in task.columns
    ]
    return _table(("Key", "Unit", "Better", "Headline"), rows)


def _codec(task: Task) -> str:
    codec = task.make_codec(torch.Generator().manual_seed(0))
    low, high = codec.bounds
    rows = [
        ("Codec", f"`{type(codec).__name__}` (`{codec.name}`)"),
        ("Native unit", codec.unit),
        ("Native channels", str(codec.channels)),
        ("Bounds", f"{low:g} to {high:g}; values outside are clamped"),
        ("Round-trip tolerance, float pictures", f"{codec.tolerance:.1e}"),
        ("Round-trip tolerance, 8-bit pictures", f"{codec.tolerance_8bit:.1e}"),
        ("An invalid pixel", codec.invalid),
    ]
    return _table(("", ""), rows)


def _corruption() -> str:
    return (
        "With `--corrupt` the query is a clean picture: the task makes its input from it, "
        "and the answer is scored against the truth."
    )


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    built_in = [task for task in all_tasks().values() if type(task).__module__.startswith(BUILT_IN)]
    pages = {FOLDER / f"{task.name}.md": render_page(task) for task in built_in}
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    if check:
        for path in stale:
            print(f"out of date: {path}", file=sys.stderr)
        sys.exit(1 if stale else 0)
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(pages[path])
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
