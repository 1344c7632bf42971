"""The result as a table in the terminal, one task a row of three lines or four, at most 80 columns."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lavindit.report import wording
from lavindit.report.figure import BASELINES, Figure
from lavindit.report.latent_cost import Table as PlainTable
from lavindit.report.latent_cost import describe_latent_cost, tables_of
from lavindit.report.schema import RunResult, TaskResult

NAME_WIDTH = 18
HEADS = ("nearest\ntarget", "mean\ntarget", "best\nconst.", "query")  # of BASELINES, as narrow as their numbers


def print_result(result: RunResult, console: Console | None = None) -> None:
    """Print the table and how to read it."""
    console = console or Console()
    if result.modalities:
        _print_latent_cost(result, console)
    else:
        _print_tasks(result, console)
    for note in result.notes:
        console.print(Text(f"Note: {note}"))


def _print_latent_cost(result: RunResult, console: Console) -> None:
    for table in tables_of(result, every_figure=False):
        console.print(Text(table.title, style="bold"))
        console.print(_plain_table(table))
    console.print(Text(describe_latent_cost(result)))
    console.print(
        Text(
            "↑ higher is better, ↓ lower is better. ± standard error over pictures, in brackets their standard "
            "deviation. PCA: as many principal components of 8x8 blocks, and by how much the VAE is better (+) or "
            "worse (-).",
            style="dim",
        )
    )


def _plain_table(content: PlainTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, name in enumerate(content.header):
        left = place == 0 or name == "Metric"
        table.add_column(name, justify="left" if left else "right", overflow="fold", max_width=26)
    for row in content.rows:
        styles = {True: "green", False: "red", None: "dim"}
        table.add_row(*(_stack(Text(cell.text), Text(cell.small, style=styles[cell.good])) for cell in row))
    return table


def _print_tasks(result: RunResult, console: Console) -> None:
    if result.tasks:
        console.print(render_table(result))
    console.print(Text(wording.describe_run(result)))
    if result.tasks:
        console.print(
            Text(
                "↑ higher is better, ↓ lower is better. Below the answer: ± standard error over queries, [standard "
                "deviation over draws of context and noise]. Below a baseline: by how much the answer is better (+) or "
                "worse (-). Below a task: queries, seconds for each.",
                style="dim",
            )
        )


def render_table(result: RunResult) -> Table:
    """The table alone."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)
    table.add_column("task", overflow="fold", min_width=NAME_WIDTH, max_width=28)
    for name in ("answer", *HEADS, "ceiling"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("beats\nboth", no_wrap=True)
    for index, task in enumerate(result.tasks):
        table.add_row(*_row(task), end_section=index == len(result.tasks) - 1)
    return table


def _row(task: TaskResult) -> list[Text]:
    figure = task.headline
    cost = f"n {task.n} · {wording.format_seconds(task.seconds_per_query)} s"
    notes = [wording.format_metric(figure), cost, *(["held out"] if task.held_out else [])]
    return [
        _stack(Text(_broken(task.task), style="bold"), *(Text(note, style="dim") for note in notes)),
        _stack(
            Text(wording.format_number(figure.answer), style="bold"),
            *(Text(text, style="dim") for text in (wording.format_error(figure), wording.format_spread(figure))),
        ),
        *(_baseline(figure, name) for name in BASELINES),
        Text(wording.format_ceiling(figure)),
        _mark(task),
    ]


def _broken(name: str) -> str:
    """A long name in lines that end at an underscore."""
    lines = [""]
    for part in name.replace("_", "_ ").split(" "):
        if len(lines[-1]) + len(part) > NAME_WIDTH and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _baseline(figure: Figure, name: str) -> Text:
    value, margin = wording.format_baseline(figure, name)
    return _stack(Text(value), Text(margin, style="green" if figure.beats(name) else "red"))


def _mark(task: TaskResult) -> Text:
    """Yes, or no and by how much not."""
    verdict = wording.judge(task)
    if verdict == "both":
        warning = "not query" if wording.loses_to_query(task) else "by chance?" if wording.is_uncertain(task) else ""
        return _stack(Text("✓ yes", style="green"), Text(warning, style="yellow"))
    if verdict == "unknown":
        return Text("? unknown", style="yellow")
    missing = wording.format_number(wording.shortfall(task), sign=True, like=task.headline.answer)
    return _stack(Text("✗ no", style="red"), Text(missing, style="red"))


def _stack(first: Text, *others: Text) -> Text:
    return Text("\n").join([first, *(text for text in others if text.plain)])
