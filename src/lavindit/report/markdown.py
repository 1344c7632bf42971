"""The result as Markdown; pictures by relative link, so report.md stays beside them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from lavindit.report import wording
from lavindit.report.figure import BASELINES, Figure
from lavindit.report.latent_cost import (
    LEGEND,
    Cell,
    describe_latent_cost,
    describe_picture,
    name_of,
    parts_of,
    tables_of,
)
from lavindit.report.reference import CAVEAT, TITLE, describe_references, references_of
from lavindit.report.schema import Application, RunResult, Strip, TaskResult


def render_markdown(result: RunResult) -> str:
    """The whole of report.md."""
    notes = [f"> {escape(note)}" for note in result.notes]
    if result.modalities:
        blocks = ["# Test report", escape(describe_latent_cost(result)), *notes, *_latent_cost(result)]
    else:
        overview = [_overview(result)] if result.tasks else []
        blocks = ["# Test report", escape(wording.describe_run(result)), *overview, *notes]
        for task in result.tasks:
            blocks += _task(task, result)
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


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """A table of cells that are escaped already; columns from `numbers_from` on are set flush right."""
    rule = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def _overview(result: RunResult) -> str:
    header = [
        "Task",
        "Metric",
        "Answer",
        *map(wording.title_of, BASELINES),
        "Ceiling",
        TITLE,
        "n",
        "s/query",
        "Verdict",
    ]
    rows = []
    for task in result.tasks:
        name = escape(task.task) + (" (held out)" if task.held_out else "")
        seconds = wording.format_seconds(task.seconds_per_query)
        verdict = wording.VERDICT_NAMES[wording.judge(task)]
        verdict += ", not the query" if wording.loses_to_query(task) else ""
        published = escape(describe_references(result, task.task, task.headline.metric))
        cells = _cells(task.headline, BASELINES)
        rows.append([name, *cells, published, str(task.n), seconds, verdict])
    legend = "\n".join(f"- **{name}**: {meaning}" for name, meaning in wording.LEGEND.items())
    return make_table(header, rows, numbers_from=2) + "\n\n" + legend


def _cells(figure: Figure, baselines: Sequence[str]) -> list[str]:
    """Metric, answer, baselines and ceiling of one figure."""
    values = [wording.format_baseline(figure, name)[0] for name in baselines]
    metric = escape(wording.format_metric(figure))
    return [metric, wording.format_answer(figure), *values, wording.format_ceiling(figure)]


def _figures(figures: Sequence[Figure]) -> str:
    baselines = wording.columns_of(figures)
    header = ["Metric", "Answer", *map(wording.title_of, baselines), "Ceiling"]
    rows = [_cells(figure, baselines) for figure in figures]
    for figure, row in zip(figures, rows, strict=True):
        row[0] = f"**{row[0]}**" if figure.headline else row[0]
    return make_table(header, rows)


def _latent_cost(result: RunResult) -> list[str]:
    """Tables of a VAE's test, what their columns mean, and examples."""
    blocks = []
    for table in tables_of(result, every_figure=True):
        rows = [[_cell(cell) for cell in row] for row in table.rows]
        blocks += [f"## {table.title}", make_table([escape(name) for name in table.header], rows)]
    blocks.append("\n".join(f"- **{name}**: {escape(meaning)}" for name, meaning in LEGEND.items()))
    for modality in result.modalities:
        if modality.pictures:
            blocks.append(f"## Pictures: {escape(name_of(modality))}")
        for picture in modality.pictures:
            parts, sample = parts_of(picture), escape(picture.sample_id)
            images = [f"![{name} of {sample}]({quote(path)})" for name, path in parts]
            blocks += [escape(describe_picture(picture)), make_table([name for name, _ in parts], [images], len(parts))]
    return blocks


def _cell(cell: Cell) -> str:
    return escape(f"{cell.text} ({cell.small})" if cell.small else cell.text)


def _task(task: TaskResult, result: RunResult) -> list[str]:
    held_out = " Held out: never trained on." if task.held_out else ""
    blocks = [
        f"## {escape(task.task)}",
        f"{escape(task.summary)} Version {task.version}.{held_out}",
        f"{escape(wording.describe_headline(task))} {escape(wording.describe_verdict(task))}",
        _figures(task.figures),
        *_published(task, result),
    ]
    if made := wording.describe_making(task):
        blocks.append(escape(made))
    if task.protocol:
        blocks.append(f"Protocol: {escape(task.protocol)}")
    if task.parameters:
        rows = [[escape(key), escape(value)] for key, value in wording.flatten(task.parameters)]
        blocks.append(make_table(["Parameter of the input", "Value"], rows))
    return blocks + [_strip(strip) for strip in task.strips]


def _published(task: TaskResult, result: RunResult) -> list[str]:
    """What others have published of such a task."""
    rows = [[r.metric, f"{r.lavin_dit:g}", f"{r.lvm:g}", escape(r.data)] for r in references_of(result, task.task)]
    table = make_table([TITLE, "LaVin-DiT 3.4B", "LVM-7B", "Data"], rows)
    return [table, escape(CAVEAT)] if rows else []


def _application(application: Application) -> list[str]:
    blocks = [f"### {escape(application.task)}: {escape(application.sample_id)}"]
    said = wording.describe_asking(application)
    if said:
        blocks.append(escape(f"{said[:1].upper()}{said[1:]}."))
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
    return f"Sample {sample}:\n\n" + make_table([name for name, _ in pictures], [images], numbers_from=len(pictures))


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
    blocks.append(make_table(["", "What", "Value"], rows, numbers_from=3))
    # Indented, not fenced: whatever the command holds, it cannot end the block.
    return [*blocks, "Command:", "    " + " ".join(result.command.split())]
