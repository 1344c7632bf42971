"""The result as Markdown; pictures by relative link, so report.md stays beside them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from lavindit.report import wording
from lavindit.report.latent_cost import (
    LEGEND,
    Cell,
    describe_latent_cost,
    describe_picture,
    name_of,
    parts_of,
    tables_of,
)
from lavindit.report.schema import BASELINES, Application, Figure, RunResult, Strip, TaskResult


def render_markdown(result: RunResult) -> str:
    """The whole of report.md."""
    notes = [f"> {escape(note)}" for note in result.notes]
    if result.modalities:
        blocks = ["# Test report", escape(describe_latent_cost(result)), *notes, *_latent_cost(result)]
    else:
        overview = [_overview(result.tasks)] if result.tasks else []
        blocks = ["# Test report", escape(wording.describe_run(result)), *overview, *notes]
        for task in result.tasks:
            blocks += _task(task)
    if result.applications:
        blocks.append("## Answers on other pictures")
        for application in result.applications:
            blocks += _application(application)
    blocks += _run(result)
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Plain text that Markdown shows as it is, in a table too."""
    text = re.sub(r"([\\`*\[\]<>|&~#])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """A table of cells that are escaped already; columns from `numbers_from` on are set flush right."""
    rule = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def _overview(tasks: Sequence[TaskResult]) -> str:
    header = ["Task", "Metric", "Answer", "Nearest target", "Mean target", "Unchanged query", "Ceiling", "n"]
    rows = []
    for task in tasks:
        name = escape(task.task) + (" (held out)" if task.held_out else "")
        seconds = wording.format_seconds(task.seconds_per_query)
        verdict = wording.VERDICT_NAMES[wording.judge(task)]
        verdict += ", not the query" if wording.loses_to_query(task) else ""
        rows.append([name, *_cells(task.headline), str(task.n), seconds, verdict])
    legend = "\n".join(f"- **{name}**: {meaning}" for name, meaning in wording.LEGEND.items())
    return _table([*header, "s/query", "Verdict"], rows, numbers_from=2) + "\n\n" + legend


def _cells(figure: Figure) -> list[str]:
    """Metric, answer, baselines and ceiling of one figure."""
    values = [wording.format_baseline(figure, name)[0] for name in BASELINES]
    metric = escape(wording.format_metric(figure))
    return [metric, wording.format_answer(figure), *values, wording.format_ceiling(figure)]


def _figures(figures: Sequence[Figure]) -> str:
    header = ["Metric", "Answer", "Nearest target", "Mean target", "Unchanged query", "Ceiling"]
    rows = [_cells(figure) for figure in figures]
    for figure, row in zip(figures, rows, strict=True):
        row[0] = f"**{row[0]}**" if figure.headline else row[0]
    return _table(header, rows)


def _latent_cost(result: RunResult) -> list[str]:
    """Tables of a VAE's test, what their columns mean, and examples."""
    blocks = []
    for table in tables_of(result, every_figure=True):
        rows = [[_cell(cell) for cell in row] for row in table.rows]
        blocks += [f"## {table.title}", _table([escape(name) for name in table.header], rows)]
    blocks.append("\n".join(f"- **{name}**: {escape(meaning)}" for name, meaning in LEGEND.items()))
    for modality in result.modalities:
        if modality.pictures:
            blocks.append(f"## Pictures: {escape(name_of(modality))}")
        for picture in modality.pictures:
            parts, sample = parts_of(picture), escape(picture.sample_id)
            images = [f"![{name} of {sample}]({quote(path)})" for name, path in parts]
            blocks += [escape(describe_picture(picture)), _table([name for name, _ in parts], [images], len(parts))]
    return blocks


def _cell(cell: Cell) -> str:
    return escape(f"{cell.text} ({cell.small})" if cell.small else cell.text)


def _task(task: TaskResult) -> list[str]:
    held_out = " Held out: never trained on." if task.held_out else ""
    blocks = [
        f"## {escape(task.task)}",
        f"{escape(task.summary)} Version {task.version}.{held_out}",
        f"{escape(wording.describe_headline(task))} {escape(wording.describe_verdict(task))}",
        _figures(task.figures),
    ]
    if task.protocol:
        blocks.append(f"Protocol: {escape(task.protocol)}")
    return blocks + [_strip(strip) for strip in task.strips]


def _application(application: Application) -> list[str]:
    blocks = [f"### {escape(application.task)}: {escape(application.sample_id)}"]
    if application.seconds is not None:
        blocks.append(f"Answered in {wording.format_seconds(application.seconds)} s.")
    if application.figures:
        blocks.append(_figures(application.figures))
    return [*blocks, _strip(application.strip)]


def _strip(strip: Strip) -> str:
    pictures: list[tuple[str, str]] = []
    for number, (source, target) in enumerate(strip.context, start=1):
        pictures += [(f"Input {number}", source), (f"Target {number}", target)]
    pictures += [("Query", strip.query), ("Answer", strip.answer)]
    pictures += [("Truth", strip.truth)] if strip.truth is not None else []
    sample = escape(strip.sample_id)
    images = [f"![{name} of {sample}]({quote(path)})" for name, path in pictures]
    return f"Sample {sample}:\n\n" + _table([name for name, _ in pictures], [images], numbers_from=len(pictures))


def _run(result: RunResult) -> list[str]:
    blocks = ["## The run"]
    sections: list[tuple[str, dict[str, Any]]] = [
        ("Model", result.model),
        ("Data", result.data),
        ("Settings", result.settings),
        ("Machine", result.machine),
    ]
    rows = [["Run", escape(key), escape(value)] for key, value in wording.describe_origin(result)]
    for title, values in sections:
        rows += [[title, escape(key), escape(value)] for key, value in wording.flatten(values)]
    blocks.append(_table(["", "What", "Value"], rows, numbers_from=3))
    # Indented, not fenced: whatever the command holds, it cannot end the block.
    return [*blocks, "Command:", "    " + " ".join(result.command.split())]
