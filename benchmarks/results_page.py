"""Writes docs/results.md from the JSON files of the benchmarks: `python benchmarks/results_page.py`.

Also the plots of results whose scripts draw none, and the released model's figures in README and model card. A result
that is not there is said to be missing, with the command that makes it. With `--check` nothing is written; the exit
code is 1 if a file is missing or out of date.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cells import run_script
from results_sections import SECTIONS, Section
from results_tables import released_table

# isort: split
from lavindit.errors import LavinditError
from lavindit.files import write_atomically

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"
TABLED = (ROOT / "README.md", ROOT / "src" / "lavindit" / "released" / "nano" / "MODEL_CARD.md")
BEGIN, END = "<!-- nano-figures -->\n", "<!-- nano-figures-end -->"
OPTIONS = "[benchmarks/README.md](../benchmarks/README.md)"
INTRODUCTION = """# Results

The nano model beside what one would use instead, and what its quality depends on. Every figure is that of a JSON file
in `benchmarks/results/`, which also has what is left out here, and regenerates from its command
([benchmarks/README.md](../benchmarks/README.md)); no cell is left out because of how it came out. All of it is on the
embedded world at nano size: it says how the ways compare there, and nothing of photographs or of larger models. `±` is
a standard error over the queries. The scores: [metrics.md](metrics.md); the baselines: [benchmark.md](benchmark.md).

This page is written by `python benchmarks/results_page.py`."""


def read(path: Path, section: Section) -> dict[str, Any]:
    """A result.

    Raises:
        LavinditError: It is no JSON.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no record")
    except (OSError, ValueError) as error:
        raise LavinditError(f"cannot read {path} ({error}); make it again: {section.command}") from error
    return found


def render_section(section: Section, results: Path, folder: Path) -> tuple[list[str], str | None]:
    """A section's blocks, links relative to `folder`, and the plot that has to be drawn, if any.

    Raises:
        LavinditError: The result cannot be read.
    """
    path = results / f"{section.stem}.json"
    title = f"## {section.title}"
    if not path.is_file():
        missing = f"Not measured yet: `{path.name}` is missing."
        return [title, f"{missing} `{section.command}`, with the options of {OPTIONS}, makes it."], None
    data = read(path, section)
    try:
        blocks = [title, section.says, *section.render(data)]
        plot = section.draw(data) if section.draw is not None else None
        if plot is not None or path.with_suffix(".svg").is_file():
            where = Path(os.path.relpath(path.with_suffix(".svg"), folder)).as_posix()
            blocks.append(f"![{section.title}]({where})")
        return [*blocks, f"**What it does not show.** {section.limits}", made(data)], plot
    except (KeyError, TypeError, IndexError, AttributeError, StopIteration) as error:
        what = f"{type(error).__name__}: {error}"
        raise LavinditError(
            f"{path} is not as its script writes it ({what}); make it again: {section.command}"
        ) from error


def made(data: dict[str, Any]) -> str:
    """How a result was made."""
    machine, seed = data["machine"], data["seed"]
    hardware = [machine["cpu"], f"{machine['cores']} cores"]
    if machine.get("memory_gib") is not None:
        hardware.append(f"{machine['memory_gib']:g} GiB")
    hardware += [machine["gpu"] or "no GPU", f"Python {machine['python']}", f"torch {machine['torch']}"]
    seeds = ", ".join(map(str, seed)) if isinstance(seed, list) else str(seed)
    name = "Seeds" if isinstance(seed, list) and len(seed) > 1 else "One seed"
    said = [f"Machine: {', '.join(hardware)}.", f"Commit {data['commit'] or 'not known'}.", f"{name}: {seeds}."]
    if data.get("n") is not None:
        said.append(f"n: {number_of(data['n'])}.")
    return " ".join([*said, f"Command: `{data['command']}`"])


def number_of(n: Any) -> str:
    """How many queries, however a result says it."""
    if not isinstance(n, dict):
        return str(n)
    if len(set(n.values())) == 1:
        return f"{next(iter(n.values()))} each"
    return ", ".join(f"{name} {count}" for name, count in n.items())


def render(results: Path, page: Path) -> dict[Path, str]:
    """The page and the plots, by file."""
    blocks, files = [INTRODUCTION], {}
    for section in SECTIONS:
        own, plot = render_section(section, results, page.parent)
        blocks += own
        if plot is not None:
            files[results / f"{section.stem}.svg"] = plot
    return {page: "\n\n".join(block for block in blocks if block) + "\n"} | files


def render_tables(results: Path, tabled: Sequence[Path]) -> dict[Path, str]:
    """Texts with the released model's table between their two marks, by file.

    Raises:
        LavinditError: A text is missing, or a mark in it.
    """
    if not tabled:
        return {}
    section = next(section for section in SECTIONS if section.stem == "nano")
    table, files = released_table(read(results / "nano.json", section)), {}
    for path in tabled:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            raise LavinditError(f"{path} has no place for nano's figures, between {BEGIN.strip()} and {END}")
        files[path] = f"{text.partition(BEGIN)[0]}{BEGIN}{table}\n{END}{text.partition(END)[2]}"
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--tabled", type=Path, nargs="*", help="texts with nano's figures; default: README and card")
    chosen = parser.parse_args(arguments)
    if not chosen.results.is_dir():
        raise LavinditError(f"no folder {chosen.results}; name that of the JSON files with --results")
    files = render(chosen.results.resolve(), chosen.out.resolve())
    own = TABLED if chosen.results == RESULTS else ()  # other results are no reason to change the README
    files |= render_tables(chosen.results.resolve(), own if chosen.tabled is None else chosen.tabled)
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if chosen.check:
            print(f"out of date: {path}", file=sys.stderr)
        else:
            write_atomically(path, files[path].encode())
            print(f"wrote {path}")
    if chosen.check and stale:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
