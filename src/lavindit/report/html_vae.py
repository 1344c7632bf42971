"""The test of a VAE as parts of the HTML report."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lavindit.report.html_parts import make_table, show_picture
from lavindit.report.latent_cost import LEGEND, Cell, Table, describe_picture, name_of, parts_of, tables_of
from lavindit.report.schema import ModalityResult, Reconstruction, RunResult


def render_latent_cost(result: RunResult, run_dir: Path) -> list[str]:
    """What the latent space costs: tables, then pictures beside what became of them."""
    legend = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in LEGEND.items())
    tables = [_table(table) for table in tables_of(result, every_figure=True)]
    hints = (
        '<p class="small">↑ higher is better, ↓ lower is better.</p>'
        f"<details><summary>What the columns mean</summary><dl>{legend}</dl></details>"
    )
    return [
        f'<section class="card"><h2>What the latent space costs</h2>{"".join(tables)}{hints}</section>',
        *(_pictures(modality, run_dir) for modality in result.modalities if modality.pictures),
    ]


def _table(table: Table) -> str:
    rows = ["".join(_cell(cell, first=place == 0) for place, cell in enumerate(row)) for row in table.rows]
    content = make_table(table.header, [f"<tr>{row}</tr>" for row in rows])
    return f'<h2 class="minor">{escape(table.title)}</h2>{content}'


def _cell(cell: Cell, first: bool) -> str:
    tone = {True: "good", False: "bad", None: ""}[cell.good]
    small = f'<span class="small {tone}">{escape(cell.small)}</span>' if cell.small else ""
    tag, end = ('th scope="row"', "th") if first else ("td", "td")
    return f"<{tag}>{escape(cell.text)}{small}</{end}>"


def _pictures(modality: ModalityResult, run_dir: Path) -> str:
    name = escape(name_of(modality))
    tasks = f"<p>Of {escape(', '.join(modality.tasks))}.</p>" if modality.tasks else ""
    return f'<section class="card"><h2>{name}</h2>{tasks}{_examples(modality.pictures, name, run_dir)}</section>'


def _examples(pictures: Sequence[Reconstruction], name: str, run_dir: Path) -> str:
    figures = []
    for picture in pictures:
        shown = "".join(
            show_picture(run_dir, path, label, f"{name}, {picture.sample_id}: {label}")
            for label, path in parts_of(picture)
        )
        caption = escape(describe_picture(picture))
        figures.append(
            f'<figure class="strip"><figcaption>{caption}</figcaption><div class="pictures">'
            f'<div class="group">{shown}</div></div></figure>'
        )
    return "".join(figures)
