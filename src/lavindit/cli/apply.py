"""`lavindit apply`."""

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lavindit import __version__
from lavindit.cli.tools import (
    Parser,
    add_model_options,
    add_pair_options,
    add_plugin_option,
    load_chosen,
    model_name,
    pair_options,
    print_notes,
)
from lavindit.clips import is_clip
from lavindit.errors import LavinditError
from lavindit.inference import Engine, PromptFile, Settings, resettle, write_strip
from lavindit.inference.answer import Answer
from lavindit.inference.queries import check_truths
from lavindit.inference.scorer import score_application
from lavindit.report import current_command, current_commit, describe_machine
from lavindit.report.schema import RESULT_NAME, Application, RunResult, read_result, write_result
from lavindit.task import Task, get_task, refuse_twins
from lavindit.types import native_file


def run_apply(arguments: list[str]) -> None:
    """Answer a person's own pictures, by each of the tasks or by a prompt."""
    chosen = _apply_parser().parse_args(arguments)
    if chosen.plugin is not None and chosen.prompt is None:
        raise LavinditError("--plugin goes with --prompt; a plugin's task is named with --task")
    file = PromptFile(chosen.prompt, chosen.plugin) if chosen.prompt is not None else None
    tasks = [get_task(name) for name in chosen.task] if file is None else [file.task()]
    files = _answer_files(chosen, tasks)
    options = pair_options(chosen)
    options |= {"steps": chosen.steps, "guidance": chosen.guidance}
    if file is None:
        engine, folder = load_chosen(chosen)
        settings = [engine.settle(chosen.preset, chosen.seed or 0, task=task, **options) for task in tasks]
        shown = tasks
    else:
        settings = [resettle(file.description.settings, chosen.preset, chosen.seed, **options)]
        engine, folder = load_chosen(chosen)
        shown = [file.load(engine)]
    ways = {"seed": chosen.seed, "corrupt": chosen.corrupt, "truths": chosen.truth, "preset": chosen.preset}
    answers = [engine.apply_all(one, chosen.query, **ways, **options) for one in shown]
    for task, used, found in zip(tasks, settings, answers, strict=True):
        if file is None:  # after all that may be refused, which is told in one line
            print_notes(engine, task, used, asked_size=chosen.resolution is not None)
        asked = {"model": model_name(folder)} | _flat(used, task) | {"precision": chosen.precision}
        _write(chosen, engine, task, used, asked, dict(zip(files[task.name], found, strict=True)))
    run = chosen.report or chosen.out
    print(f"added to {run / RESULT_NAME}; `lavindit report {run}` makes pages of it")


def _write(
    chosen: argparse.Namespace,
    engine: Engine,
    task: Task,
    settings: Settings,
    asked: dict[str, Any],
    found: dict[Path, Answer],
) -> None:
    """The answers of a task: pictures, values where they are asked for, and their places in the run's result."""
    run = chosen.report or chosen.out
    applications = []
    for path, answer in found.items():
        answer.prediction.save(path, native=chosen.native)
        print(f"wrote {path}{_size_note(answer, settings)}")
        if chosen.native:
            shape, unit = list(answer.prediction.native.shape), answer.prediction.unit
            print(f"wrote {native_file(path)} (shape {shape}, unit {unit})")
        applications.append(_application(answer, task, run, chosen.corrupt or bool(chosen.truth), asked))
    _record(run, applications, engine, asked)


def _application(answer: Answer, task: Task, run: Path, known: bool, asked: dict[str, Any]) -> Application:
    """An answer as a result lists it; its figures, where the truth is known, are printed."""
    episode = answer.episode
    figures = score_application(task, episode, answer.square) if known else []
    for figure in (figure for figure in figures if figure.answer is not None):
        compared = (("query", "the query unchanged"), ("mean_target", "the mean of the pairs' targets"))
        others = [(text, value) for key, text in compared if (value := figure.baselines.get(key)) is not None]
        beside = "".join(f", {text} {value:.4g}" for text, value in others[:1])
        print(f"  {figure.metric} {figure.answer:.4g}{beside}")
    strip = write_strip(episode, answer.square, run, "pictures/applied", with_truth=known)
    shown = {"pairs": len(episode.pairs)} if episode.pairs else {}  # a small folder has fewer than were asked for
    return Application(episode.task, episode.sample_id, strip, answer.prediction.seconds, figures, asked | shown)


def answer_file(out: Path, query: Path, task: Task) -> Path:
    """Where the answer to a query goes: an image, a video, or for a folder of frames a folder of frames."""
    video = ".mp4" if is_clip(query) or task.target_frames > 1 else ".png"
    suffix = "" if query.is_dir() else video
    name = f"{query.stem}_{task.name}"
    return out / (name + suffix if suffix else name.replace(".", "_"))  # a folder's name must look like one


def _answer_files(chosen: argparse.Namespace, tasks: list[Task]) -> dict[str, list[Path]]:
    """A free file for each answer, by the task's name; nothing is loaded or written yet."""
    check_truths(chosen.query, chosen.truth, chosen.corrupt)
    for option, folder in (("out", chosen.out), ("report", chosen.report)):
        standing = next((path for path in (folder, *folder.parents) if path.exists()), None) if folder else None
        if standing is not None and not standing.is_dir():
            raise LavinditError(f"--{option} {folder}: {standing} is a file; name a folder")
    refuse_twins(tasks)
    files = {task.name: [answer_file(chosen.out, query, task) for query in chosen.query] for task in tasks}
    pictures = [path for paths in files.values() for path in paths]
    written = [*pictures, *map(native_file, pictures)] if chosen.native else pictures
    clashing = sorted({str(path) for path in written if written.count(path) > 1})
    if clashing:
        raise LavinditError(f"two queries would be written to {clashing[0]}; give them different names")
    taken = [path for path in written if path.exists()]
    if taken and not chosen.overwrite:
        raise LavinditError(f"{taken[0]} exists; choose another --out or add --overwrite")
    return files


def _size_note(answer: Answer, settings: Settings) -> str:
    """What became of the query's size on its way through the model."""
    height, width = answer.prediction.image.shape[2:]
    square = f"{settings.resolution}x{settings.resolution}"
    if settings.fit == "stretch":
        return f" (the query stretched to {square}, the answer left so)"
    if height == width == settings.resolution:
        return ""
    way = "resized" if height == width else "resized and padded"
    return f" ({width}x{height}, {way} to {square} to be answered)"


def _apply_parser() -> Parser:
    parser = Parser("lavindit apply", description="Answer your own pictures, as the task's pairs show.")
    shown = parser.add_mutually_exclusive_group(required=True)
    text = "a task, a plugin file or a folder of pairs; may be repeated"
    shown.add_argument("--task", action="append", metavar="T", help=text)
    shown.add_argument(
        "--prompt",
        type=Path,
        metavar="FILE",
        help="a prompt of `lavindit compile`; it has fixed --pairs, --context, --resolution, --fit and --posterior",
    )
    add_plugin_option(parser)
    parser.add_argument(
        "--query",
        required=True,
        nargs="+",
        action="extend",
        type=Path,
        metavar="FILE",
        help="images, videos or folders of frames (400 at most), of any size",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the answers")
    add_pair_options(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="solver steps (default: the model's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the model's)")
    parser.add_argument(
        "--seed", type=int, help="seed of context, noise and samples (default 0; with --prompt the prompt's)"
    )
    add_model_options(parser)
    parser.add_argument(
        "--corrupt", action="store_true", help="make the task's input from clean pictures first, and score the answer"
    )
    parser.add_argument(
        "--truth",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="true values of each query in native units (.npy, NaN where unknown), of its size: scores the answer",
    )
    parser.add_argument("--native", action="store_true", help="also write the values in native units as .npy")
    parser.add_argument("--overwrite", action="store_true", help="replace answers that exist")
    parser.add_argument("--report", type=Path, metavar="RUN", help="add the answers to this run's result")
    return parser


def _flat(settings: Settings, task: Task) -> dict[str, Any]:
    """Settings as a result lists them: the sampling among the rest, as a test's result has it."""
    chosen = asdict(settings)
    return chosen.pop("sampling") | chosen | {"context": settings.context or task.context}


def _record(run: Path, applications: list[Application], engine: Engine, asked: dict[str, Any]) -> None:
    """Add applications to a run's result, in place of earlier ones of the same task and query."""
    path = run / RESULT_NAME
    if path.exists():
        result = read_result(path)
    else:
        result = RunResult(
            lavindit_version=__version__,
            command=current_command(),
            seed=asked["seed"],
            commit=current_commit(),
            machine=describe_machine(),
            model={"kind": "jdit", **engine.info},
            settings={name: value for name, value in asked.items() if name != "model"},
            data={},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tasks=[],
        )
    new = {application.sample_id for application in applications}
    result.applications[:] = [a for a in result.applications if a.sample_id not in new] + applications
    write_result(result, path)
