"""A comparison in the terminal and as Markdown."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lavindit.report.compare import Comparison, Difference, Mark
from lavindit.report.markdown import escape, make_table
from lavindit.report.wording import format_answer, format_metric, format_number

STYLES: dict[Mark, str] = {"better": "green", "worse": "red", "within noise": "dim", "not known": "yellow"}
RULE = (
    "A difference counts beyond 2 sqrt(e_A^2 + e_B^2), e^2 being the squared standard error over queries plus the "
    "variance between draws divided by their number."
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, at most 80 columns wide, and how to read it."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("task", overflow="fold", min_width=18)
    for name in ("A", "B", "B better by", "noise"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is")
    for difference in comparison.differences:
        head = Text("\n").join(
            [Text(difference.task, style="bold"), Text(format_metric(difference.after), style="dim")]
        )
        numbers = (difference.before.answer, difference.after.answer)
        values = [format_number(number, like=difference.after.answer) for number in numbers]
        table.add_row(head, *values, *_judged(difference), Text(difference.mark, style=STYLES[difference.mark]))
    console.print(table)
    for line in (*_facts(comparison), RULE):
        console.print(Text(line))


def render_comparison(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    header = ["Task", "Metric", "A", "B", "B better by", "Noise", "B is"]
    rows = []
    for difference in comparison.differences:
        name = escape(difference.task) + (" (held out)" if difference.held_out else "")
        answers = [format_answer(figure) for figure in (difference.before, difference.after)]
        rows.append([name, escape(format_metric(difference.after)), *answers, *_judged(difference), difference.mark])
    facts = [f"- {escape(line)}" for line in _facts(comparison)]
    return (
        "\n\n".join(["# Comparison", "\n".join(facts), make_table(header, rows, numbers_from=2), escape(RULE)]) + "\n"
    )


def _judged(difference: Difference) -> list[str]:
    """By how much B is better, and the noise."""
    like = difference.after.answer
    gain = format_number(difference.gain, sign=True, like=like)
    return [gain, f"±{format_number(difference.noise, like=like)}" if difference.noise is not None else "n/a"]


def _facts(comparison: Comparison) -> list[str]:
    """Who A and B are, and how often B is what."""
    lines = []
    for letter, name, result in zip("AB", comparison.names, comparison.results, strict=True):
        model = result.model.get("name") or "no name"
        lines.append(f"{letter}: {name} (model {model}, commit {result.commit or 'n/a'}, {result.created})")
    counts = ", ".join(f"{comparison.count(mark)} {mark}" for mark in STYLES if comparison.count(mark))
    lines.append(f"Of {len(comparison.differences)} tasks B is: {counts}.")
    for letter, names in zip("AB", comparison.only, strict=True):
        if names:
            lines.append(f"Only in {letter}: {', '.join(names)}.")
    return lines
