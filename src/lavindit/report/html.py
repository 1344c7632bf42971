"""The result as one HTML file that needs nothing else: no script, no outside address, pictures inlined."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lavindit.report import wording
from lavindit.report.figure import BASELINES, Figure
from lavindit.report.html_gallery import render_gallery
from lavindit.report.html_parts import SHOWN_PX, make_badge, make_table, show_picture
from lavindit.report.html_vae import render_latent_cost
from lavindit.report.latent_cost import describe_latent_cost
from lavindit.report.reference import CAVEAT, TITLE, describe_references, references_of
from lavindit.report.schema import Application, RunResult, Strip, TaskResult
from lavindit.report.style import CSS

PAIR_PX = 64
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_html(result: RunResult, run_dir: Path) -> str:
    """The whole of report.html; `run_dir` is what the paths of the pictures are relative to."""
    name = escape(str(result.model.get("name", "")))
    title = f"Test report: {name}" if name else "Test report"
    if result.modalities:
        lead, findings = describe_latent_cost(result), render_latent_cost(result, run_dir)
    else:
        lead = wording.describe_run(result)
        findings = [render_gallery(result.tasks, run_dir), _overview(result)] if result.tasks else []
        findings += [_task(task, number, run_dir, result) for number, task in enumerate(result.tasks)]
    body = [
        f'<h1>{title}</h1><p class="lead">{escape(lead)}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in result.notes),
        *findings,
        *([_applications(result.applications, run_dir)] if result.applications else []),
        _facts(result),
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>",
            *body,
            "</main>\n</body>\n</html>\n",
        ]
    )


def _facts(result: RunResult) -> str:
    sections = [
        ("Model", wording.flatten(result.model)),
        ("Data", wording.flatten(result.data)),
        ("Settings", wording.flatten(result.settings)),
        ("Machine", wording.flatten(result.machine)),
        ("Run", wording.describe_origin(result)),
    ]
    lists = []
    for title, rows in sections:
        items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows)
        lists.append(f'<div><h2 class="minor">{title}</h2><dl>{items}</dl></div>' if items else "")
    return (
        f'<section class="card"><h2>How it was made</h2><div class="facts">{"".join(lists)}</div>'
        f'<h2 class="minor">Command</h2><pre><code>{escape(result.command)}</code></pre></section>'
    )


def _overview(result: RunResult) -> str:
    rows = []
    for number, task in enumerate(result.tasks):
        held_out = f" {make_badge('held out', '')}" if task.held_out else ""
        metric = escape(wording.format_metric(task.headline))
        published = escape(describe_references(result, task.task, task.headline.metric))
        rows.append(
            f'<tr><th scope="row"><a href="#task-{number}">{escape(task.task)}</a>'
            f'<span class="small">{metric}{held_out}</span></th><td class="verdict">{_verdict(task)}</td>'
            f'{_cells(task.headline, BASELINES)}<td class="published">{published}</td><td>{task.n}</td>'
            f"<td>{wording.format_seconds(task.seconds_per_query)}</td></tr>"
        )
    legend = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in wording.LEGEND.items())
    header = ("Task", "Verdict", *_header(BASELINES)[1:], TITLE, "Queries", "s / query")
    return (
        f'<section class="card overview"><h2>All tasks</h2>{make_table(header, rows)}'
        '<p class="small">↑ higher is better, ↓ lower is better. Below a baseline: by how much the answer is '
        f"better (+) or worse (-).</p><details><summary>What the columns mean</summary><dl>{legend}</dl></details>"
        "</section>"
    )


def _header(baselines: Sequence[str]) -> list[str]:
    return ["Metric", "Answer", *map(wording.title_of, baselines), "Ceiling"]


def _cells(figure: Figure, baselines: Sequence[str]) -> str:
    """Answer, baselines with their margins, ceiling."""
    error = f"{wording.format_error(figure)} {wording.format_spread(figure)}".strip()
    cells = [wording.format_number(figure.answer) + (f'<span class="small">{error}</span>' if error else "")]
    for baseline in baselines:
        cell, margin = wording.format_baseline(figure, baseline)
        tone = {True: "good", False: "bad", None: ""}[figure.beats(baseline)]
        cells.append(cell + (f'<span class="small {tone}">{margin}</span>' if margin else ""))
    return "".join(f"<td>{cell}</td>" for cell in [*cells, wording.format_ceiling(figure)])


def _figures(figures: Sequence[Figure]) -> str:
    baselines = wording.columns_of(figures)
    rows = [
        f'<tr{" class=headline" if figure.headline else ""}><th scope="row">'
        f"{escape(wording.format_metric(figure))}</th>{_cells(figure, baselines)}</tr>"
        for figure in figures
    ]
    return make_table(_header(baselines), rows)


def _verdict(task: TaskResult) -> str:
    verdict = wording.judge(task)
    warning = f" {make_badge('not the query', 'one')}" if wording.loses_to_query(task) else ""
    return make_badge(wording.VERDICT_NAMES[verdict], verdict) + warning


def _task(task: TaskResult, number: int, run_dir: Path, result: RunResult) -> str:
    held_out = f" {make_badge('held out', '')}" if task.held_out else ""
    protocol = (
        f"<details><summary>Protocol, version {task.version}</summary><p>{escape(task.protocol)}</p>"
        f"{_parameters(task)}</details>"
        if task.protocol or task.parameters
        else ""
    )
    strips = "".join(_strip(strip, task.task, f"Sample {strip.sample_id}", run_dir) for strip in task.strips)
    return (
        f'<section class="card" id="task-{number}"><h2>{escape(task.task)} {_verdict(task)}{held_out}</h2>'
        f"<p>{escape(task.summary)}</p><p><strong>{escape(wording.describe_headline(task))}</strong> "
        f"{escape(wording.describe_verdict(task))}</p>{_bars(task.headline)}{_figures(task.figures)}"
        f'<p class="small">{escape(wording.describe_making(task))}</p>'
        f"{_published(task, result)}{protocol}{strips}</section>"
    )


def _parameters(task: TaskResult) -> str:
    """Sizes and ranges that the inputs are made with."""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in wording.flatten(task.parameters))
    return f"<p>Parameters of the input:</p><dl>{rows}</dl>" if rows else ""


def _published(task: TaskResult, result: RunResult) -> str:
    """What others have published of such a task."""
    rows = [
        f'<tr><th scope="row">{escape(r.metric)}</th><td>{r.lavin_dit:g}</td><td>{r.lvm:g}</td>'
        f"<td>{escape(r.data)}</td></tr>"
        for r in references_of(result, task.task)
    ]
    if not rows:
        return ""
    table = make_table(("Metric", "LaVin-DiT 3.4B", "LVM-7B", "Data"), rows)
    return f'<details><summary>{TITLE}</summary>{table}<p class="small">{escape(CAVEAT)}</p></details>'


def _applications(applications: Sequence[Application], run_dir: Path) -> str:
    parts = []
    for application in applications:
        said = wording.describe_asking(application)
        caption = f"{application.task}: {application.sample_id}" + (f", {said}" if said else "")
        parts.append(_strip(application.strip, application.task, caption, run_dir))
        if application.figures:
            parts.append(_figures(application.figures))
    return f'<section class="card"><h2>Answers on other pictures</h2>{"".join(parts)}</section>'


def _bars(figure: Figure) -> str:
    """The headline figure beside what it is compared with, as one small SVG; 480 units wide."""
    known = [
        ("answer", figure.answer, "answer"),
        *((wording.BASELINE_NAMES[name], figure.baselines.get(name), "rival") for name in wording.columns_of([figure])),
        ("ceiling", figure.ceiling, "top"),
    ]
    rows = [(label, value, kind) for label, value, kind in known if value is not None]
    if not rows:
        return ""
    values = [value for _, value, _ in rows]
    shown = [wording.format_number(value, like=figure.answer) for value in values]
    tips = [*values, figure.answer + (figure.stderr or 0.0)] if figure.answer is not None else values
    low, high = min(0.0, *values), max(0.0, *tips)
    left, width, pitch = 152.0, 252.0, 24
    scale = width / (high - low or 1.0)
    zero = left - low * scale
    parts = [f'<line class="axis" x1="{zero:.1f}" y1="0" x2="{zero:.1f}" y2="{pitch * len(rows)}"/>']
    for row, (label, value, kind) in enumerate(rows):
        y, end = row * pitch, zero + value * scale
        parts.append(f'<text class="label" x="{left - 10}" y="{y + 16}" text-anchor="end">{label}</text>')
        x, length = min(zero, end), max(abs(end - zero), 1.0)
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y + 4}" width="{length:.1f}" height="16" rx="3"/>')
        if kind == "answer" and figure.stderr:
            reach = figure.stderr * scale
            start, stop = max(left, end - reach), min(left + width, end + reach)
            parts.append(f'<line x1="{start:.1f}" y1="{y + 12}" x2="{stop:.1f}" y2="{y + 12}"/>')
        parts.append(f'<text x="{left + width + 8}" y="{y + 16}">{shown[row]}</text>')
    spoken = "; ".join(f"{label} {number}" for (label, _, _), number in zip(rows, shown, strict=True))
    better = "longer" if figure.direction == "max" else "shorter"
    metric = escape(wording.format_metric(figure))
    return (
        f'<figure class="bars"><figcaption>{metric}: {better} is better</figcaption>'
        f'<svg viewBox="0 0 480 {pitch * len(rows)}" role="img" aria-label="{metric}: {escape(spoken)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _strip(strip: Strip, task: str, caption: str, run_dir: Path) -> str:
    arrow = '<span class="arrow" aria-hidden="true">→</span>'

    def show(label: str, path: str, kind: str = "", size: int = SHOWN_PX) -> str:
        return show_picture(run_dir, path, label, f"{task}, {strip.sample_id}: {label}", kind, size)

    pairs = [
        f'<div class="group">{show(f"input {number}", source, size=PAIR_PX)}{arrow}'
        f"{show(f'target {number}', target, size=PAIR_PX)}</div>"
        for number, (source, target) in enumerate(strip.context, start=1)
    ]
    truth = show("truth", strip.truth) if strip.truth is not None else ""
    asked = f"{show('query', strip.query)}{arrow}{show('answer', strip.answer, 'answer')}{truth}"
    return (
        f'<figure class="strip"><figcaption>{escape(caption)}</figcaption><div class="group asked">{asked}</div>'
        f"<details><summary>The pairs shown with it: {len(pairs)}</summary>"
        f'<div class="pictures">{"".join(pairs)}</div></details></figure>'
    )
