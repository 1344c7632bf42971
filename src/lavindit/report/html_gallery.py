"""All tasks at a glance: a query, its answer and the truth of each, with the headline figure."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lavindit.report import wording
from lavindit.report.html_parts import show_thumbnail
from lavindit.report.schema import TaskResult


def render_gallery(tasks: Sequence[TaskResult], run_dir: Path) -> str:
    """A grid of links to the sections of the tasks, whose ids are `task-` and their number."""
    cells = [_glance(task, number, run_dir) for number, task in enumerate(tasks) if task.strips]
    if not cells:
        return ""
    return (
        '<section class="card"><h2>At a glance</h2><p class="small">Of the first sample of each task: query, answer, '
        f'truth; of a clip the middle frame.</p><div class="gallery">{"".join(cells)}</div></section>'
    )


def _glance(task: TaskResult, number: int, run_dir: Path) -> str:
    strip = task.strips[0]
    shown = {"query": strip.query, "answer": strip.answer, "truth": strip.truth}
    pictures = "".join(
        show_thumbnail(run_dir, path, f"{task.task}: {label}") for label, path in shown.items() if path is not None
    )
    figure = task.headline
    metric, verdict = wording.format_metric(figure), wording.VERDICT_NAMES[wording.judge(task)]
    return (
        f'<a class="glance" href="#task-{number}"><span class="thumbnails">{pictures}</span>{escape(task.task)}'
        f'<span class="small">{escape(metric)} {wording.format_number(figure.answer)}, {escape(verdict)}</span></a>'
    )
