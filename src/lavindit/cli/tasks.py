"""`lavindit tasks`: all of them, one of them, its budget, a new one."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lavindit.cli.progress import show_progress
from lavindit.cli.scaffold import write_scaffold
from lavindit.cli.tools import MODEL_VARIABLE, Parser, find_model
from lavindit.data import SourceConfig
from lavindit.data.readers import LAYOUTS
from lavindit.errors import LavinditError
from lavindit.inference.budget import Budget, load_vae, measure_budget
from lavindit.metrics.networks import available, remedy
from lavindit.models.released import RELEASED_DEFAULT
from lavindit.task import FolderTask, Task, all_tasks, get_task

SAMPLES = 32
CHECKED_PX = 64
CONTEXT_SCENES, CONTEXT_CLIPS = 64, 16
SPARE = 4  # times as many scenes as are wanted, since a task may pass some over
BUDGET_OPTIONS = ("model", "samples", "resolution", "root", "layout", "fold")


def run_tasks(arguments: list[str]) -> None:
    """List all tasks, tell about one, measure its budget, or begin a new one."""
    if arguments[:1] == ["new"]:
        _run_new(arguments[1:])
        return
    chosen = _parser().parse_args(arguments)
    console = Console()
    given = [f"--{name}" for name in BUDGET_OPTIONS if getattr(chosen, name) is not None]
    if given and not chosen.budget:
        raise LavinditError(f"{given[0]} is given without --budget")
    if chosen.name is None and chosen.budget:
        raise LavinditError("--budget needs a task: lavindit tasks NAME --budget")
    if chosen.name is None:
        _print_all(console)
    elif chosen.budget:
        _run_budget(chosen, console)
    else:
        _print_task(get_task(chosen.name), console)


def _parser() -> Parser:
    parser = Parser(
        "lavindit tasks",
        description="The registered tasks, or one of them. `lavindit tasks new NAME` begins a new one.",
    )
    parser.add_argument("name", nargs="?", help="a task, a plugin file or a folder of pairs")
    parser.add_argument(
        "--budget",
        action="store_true",
        help="what the truth itself scores: through the codec, through 8 bits a channel, through the VAE",
    )
    text = f"model whose VAE is measured; default: ${MODEL_VARIABLE}, else {RELEASED_DEFAULT}, else none"
    parser.add_argument("--model", type=Path, metavar="DIR", help=text)
    parser.add_argument("--samples", type=int, metavar="N", help=f"test scenes (default {SAMPLES})")
    text = "side of the pictures (default: the model's, else 64)"
    parser.add_argument("--resolution", type=int, metavar="PX", help=text)
    parser.add_argument("--root", type=Path, metavar="PATH", help="a public data set in place of the embedded world")
    parser.add_argument("--layout", help=f"which one it is: {', '.join(LAYOUTS)} (default: as its files tell)")
    parser.add_argument("--fold", type=int, metavar="N", help="its fold, of a data set that has folds (default 0)")
    return parser


def _run_new(arguments: list[str]) -> None:
    """Write a task that works as it stands, and its test."""
    parser = Parser("lavindit tasks new", description="Write a working task and its test, to be changed into yours.")
    parser.add_argument("name", help="name of the task, in lower_snake_case")
    parser.add_argument("--video", action="store_true", help="a task of clips")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder (default: the current one)")
    chosen = parser.parse_args(arguments)
    plugin, test = write_scaffold(chosen.name, chosen.out, chosen.video)
    print(f"wrote {plugin}\nwrote {test}\nCheck it with `pytest {test}`, look at it with `lavindit tasks {plugin}`.")


def _print_all(console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "of", "headline"):
        table.add_column(heading, no_wrap=True)
    table.add_column("summary")
    for task in all_tasks().values():
        column = task.headline
        arrow = "↑" if column.direction == "max" else "↓"
        kind = {"image": "images", "video": "clips"}[task.modality]
        summary = task.summary + (" Held out." if task.held_out and "held out" not in task.summary.lower() else "")
        table.add_row(task.name, kind, f"{column.metric} {arrow}", summary)
    console.print(table)


def _print_task(task: Task, console: Console) -> None:
    console.print(f"[bold]{task.name}[/bold] (version {task.version}, {task.modality})")
    console.print(task.summary)
    for column in task.columns:
        best = "higher is better" if column.direction == "max" else "lower is better"
        unit = "" if column.unit == "1" else f" {column.unit}"
        headline = ", headline" if column.metric == task.headline.metric else ""
        lacking = "" if not column.needs or available(column.needs) else f"; not measured, lacks {column.needs}"
        console.print(f"  {column.metric}{unit}: {best}{headline}{lacking}")
    for label, text in (
        ("frames", f"{task.input_frames} in, {task.target_frames} out"),
        ("needs", ", ".join(sorted(task.requires - {"target"})) or "pictures only"),
        ("training", "held out" if task.held_out else "joins the mixture of a config that names it"),
        ("context", task.context),
        ("protocol", task.protocol),
        ("source", task.citation),
    ):
        if text:
            console.print(f"{label}: {text}")
    if isinstance(task, FolderTask):
        console.print(f"pairs: {_count_readable(task)}, all of them read")


def _count_readable(task: FolderTask) -> int:
    """Read every pair of a folder, so that a damaged one is told before it is drawn by chance."""
    sources = {id(source): source for source in (task.make_source(split, CHECKED_PX) for split in ("train", "test"))}
    for source in sources.values():
        for index in range(len(source)):
            source[index]
    return sum(map(len, sources.values()))


def _run_budget(chosen: argparse.Namespace, console: Console) -> None:
    task, model = get_task(chosen.name), _model_or_none(chosen.model)
    vae, trained = (None, None) if model is None else load_vae(model)
    samples = SAMPLES if chosen.samples is None else chosen.samples
    if samples < 1:
        raise LavinditError(f"--samples {samples} must be at least 1")
    config = SourceConfig(
        resolution=chosen.resolution or trained or SourceConfig.resolution,
        scenes=CONTEXT_SCENES,
        clips=CONTEXT_CLIPS,
        test_scenes=SPARE * samples,
        test_clips=SPARE * samples,
        root=None if chosen.root is None else str(chosen.root),
        layout=chosen.layout,
        fold=chosen.fold or 0,
    )
    with show_progress("scenes", lambda done, total: f"{done} of {total} scenes") as progress:
        budget = measure_budget(task, samples, config, vae, progress)
    _print_budget(budget, console)
    if model is None:
        print(f"VAE: none; name a model directory with --model or ${MODEL_VARIABLE}")
    else:
        print(f"VAE: {model}")
    for name in sorted({column.needs for column in task.columns if column.needs and not available(column.needs)}):
        lacking = ", ".join(column.metric for column in task.columns if column.needs == name)
        print(f"not measured: {lacking}. {remedy(name)}")


def _print_budget(budget: Budget, console: Console) -> None:
    console.print(f"[bold]{budget.task}[/bold] (version {budget.version}): what the truth itself scores")
    table = Table(box=None, pad_edge=False)
    table.add_column("figure")
    with_vae = budget.rows[0].vae is not None
    for heading in ("ideal", "codec", "8 bit", *(["VAE"] if with_vae else [])):
        table.add_column(heading, justify="right")
    for row in budget.rows:
        arrow, unit = "↑" if row.direction == "max" else "↓", "" if row.unit == "1" else f" {row.unit}"
        values = [row.ideal, row.exact, row.eight_bit, row.vae]
        shown = [f"{value:.4g}" for value in values if value is not None]
        table.add_row(f"{row.metric}{unit} {arrow}{' (headline)' if row.headline else ''}", *shown)
    console.print(table)
    print(f"n = {budget.n}, test scenes at {budget.resolution} px")


def _model_or_none(named: Path | None) -> Path | None:
    """The model directory that `apply` would take, if there is one."""
    try:
        return find_model(named)
    except LavinditError:
        return None
