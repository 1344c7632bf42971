"""`lavindit apply | report`."""

import argparse
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import torch

from lavindit import __version__
from lavindit.clips import is_clip
from lavindit.errors import LavinditError
from lavindit.inference import PRESETS, Engine, Options, Settings, load, write_strip
from lavindit.inference.engine import Answer
from lavindit.inference.presets import find_preset
from lavindit.inference.sampler import Posterior
from lavindit.inference.scorer import score_application
from lavindit.pictures import Fit
from lavindit.report import current_command, current_commit, describe_machine, write_report
from lavindit.report.schema import RESULT_NAME, Application, RunResult, read_result, write_result
from lavindit.report.terminal import print_result
from lavindit.task import Task, get_task
from lavindit.task.context import CHOICES

MODEL_VARIABLE = "LAVINDIT_MODEL"
DEFAULT_MODEL = Path("runs/demo/model")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Parser(argparse.ArgumentParser):
    """Tells mistakes in one line, as everything here does."""

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise instead of printing the usage."""
        raise LavinditError(f"{message}; see `{self.prog} --help`")


def run_report(arguments: list[str]) -> None:
    """Print a run's result and write its Markdown and HTML pages."""
    parser = Parser("lavindit report", description="Tables and one self-contained HTML page from RUN/result.json.")
    parser.add_argument("run", type=Path, help="run folder of `lavindit test` or `lavindit apply`")
    chosen = parser.parse_args(arguments)
    pages = write_report(chosen.run)
    print_result(read_result(chosen.run / RESULT_NAME))
    for path in pages.values():
        print(f"wrote {path}")


def run_apply(arguments: list[str]) -> None:
    """Answer a person's own pictures."""
    chosen = _apply_parser().parse_args(arguments)
    if chosen.preset is not None:
        find_preset(chosen.preset)  # a slip is told before anything is loaded
    task = get_task(chosen.task)
    files = _answer_files(chosen, task)
    engine = load(find_model(chosen.model), find_device(chosen.device), PRECISIONS[chosen.precision])
    options = Options(
        pairs=chosen.pairs,
        context=chosen.context,
        resolution=chosen.resolution,
        fit=chosen.fit,
        steps=chosen.steps,
        guidance=chosen.guidance,
        posterior=chosen.posterior,
    )
    settings = engine.settle(chosen.preset, chosen.seed, **options)
    _print_notes(engine, task, settings, asked_size=chosen.resolution is not None)
    answers = engine.apply_all(
        task, chosen.query, seed=chosen.seed, corrupt=chosen.corrupt, preset=chosen.preset, **options
    )
    run = chosen.report or chosen.out
    applications = []
    for answer, path in zip(answers, files, strict=True):
        answer.prediction.save(path, native=chosen.native)
        print(f"wrote {path}{_size_note(answer, settings)}")
        episode = answer.episode
        figures = score_application(task, episode, answer.square) if chosen.corrupt else []
        for figure in (figure for figure in figures if figure.answer is not None):
            unchanged = figure.baselines.get("query")
            beside = f", the query unchanged {unchanged:.4g}" if unchanged is not None else ""
            print(f"  {figure.metric} {figure.answer:.4g}{beside}")
        strip = write_strip(episode, answer.square, run, "pictures/applied", with_truth=chosen.corrupt)
        applications.append(Application(episode.task, episode.sample_id, strip, answer.prediction.seconds, figures))
    used = _flat(settings) | {"context": settings.context or task.context, "precision": chosen.precision}
    _record_applications(run, applications, engine, used)
    print(f"added to {run / RESULT_NAME}; `lavindit report {run}` makes pages of it")


def _print_notes(engine: Engine, task: Task, settings: Settings, asked_size: bool) -> None:
    """What a person should know before waiting for an answer."""
    trained, wanted = engine.info.get("resolution", settings.resolution), settings.resolution
    if task.name not in engine.info.get("tasks", [task.name]):
        note = f"this model was not trained on {task.name}; it has the pairs alone to go by"
        print(f"lavindit: note: {note}", file=sys.stderr)
    if trained != wanted and not asked_size:
        note = f"preset {settings.preset} asks at {wanted} px, this model is of {trained} px: --resolution {trained}"
        print(f"lavindit: note: {note}", file=sys.stderr)


def answer_file(out: Path, query: Path, task: Task) -> Path:
    """Where the answer to a query goes: an image, a video, or for a folder of frames a folder of frames."""
    video = ".mp4" if is_clip(query) or task.target_frames > 1 else ".png"
    suffix = "" if query.is_dir() else video
    name = f"{query.stem}_{task.name}"
    return out / (name + suffix if suffix else name.replace(".", "_"))  # a folder's name must look like one


def _answer_files(chosen: argparse.Namespace, task: Task) -> list[Path]:
    """A free file for each answer."""
    files = [answer_file(chosen.out, query, task) for query in chosen.query]
    clashing = sorted({str(path) for path in files if files.count(path) > 1})
    if clashing:
        raise LavinditError(f"two queries would be written to {clashing[0]}; give them different names")
    taken = [path for path in files if path.exists()]
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
    parser.add_argument("--task", required=True, help="a task, a plugin file or a folder of pairs")
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
    parser.add_argument("--model", type=Path, help=f"model directory; default: ${MODEL_VARIABLE}, else {DEFAULT_MODEL}")
    known = ", ".join(PRESETS)
    parser.add_argument("--preset", metavar="NAME", help=f"{known}: what the options below start from")
    parser.add_argument("--pairs", type=int, metavar="K", help="context pairs (default 4)")
    parser.add_argument(
        "--context", metavar="HOW", help=f"how they are chosen: {', '.join(CHOICES)} (default: as the task says)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="solver steps (default: the model's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the model's)")
    parser.add_argument(
        "--resolution", type=int, metavar="PX", help="side of the model's square (default: the model's)"
    )
    parser.add_argument(
        "--fit",
        choices=get_args(Fit),
        help="pad: keep the aspect ratio and give the query's size back; stretch: neither (default pad)",
    )
    parser.add_argument(
        "--posterior", choices=get_args(Posterior), help="what the VAE's posterior is taken at (default mean)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of context, noise and samples (default 0)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto: cuda where there is one")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="type of the weights (default float32)"
    )
    parser.add_argument(
        "--corrupt", action="store_true", help="make the task's input from clean pictures first, and score the answer"
    )
    parser.add_argument("--native", action="store_true", help="also write the values in native units as .npy")
    parser.add_argument("--overwrite", action="store_true", help="replace answers that exist")
    parser.add_argument("--report", type=Path, metavar="RUN", help="add the answers to this run's result")
    return parser


def find_device(named: str) -> torch.device:
    """The device of a name; "auto" is cuda where there is one.

    Raises:
        LavinditError: It cannot be used.
    """
    if named == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=named).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise LavinditError(f"cannot use the device {named!r} ({reason}); try --device cpu") from error


def find_model(named: Path | None) -> Path:
    """The model directory that is named, else the environment's, else the demo's.

    Raises:
        LavinditError: There is none.
    """
    if named is not None:
        return named
    variable = os.environ.get(MODEL_VARIABLE)
    if variable:
        return Path(variable)
    if (DEFAULT_MODEL / "config.json").is_file():
        return DEFAULT_MODEL
    raise LavinditError(
        f"no model: name one with --model or ${MODEL_VARIABLE}, or train one: "
        "`make demo` in a checkout, `lavindit fit --config experiment/demo_vae.yaml` and then demo_jdit.yaml anywhere"
    )


def _flat(settings: Settings) -> dict[str, Any]:
    """Settings as a result lists them: the sampling among the rest, as a test's result has it."""
    chosen = asdict(settings)
    return chosen.pop("sampling") | chosen


def _record_applications(run: Path, applications: list[Application], engine: Engine, settings: dict[str, Any]) -> None:
    """Add applications to a run's result, in place of earlier ones of the same task and query."""
    path = run / RESULT_NAME
    if path.exists():
        result = read_result(path)
    else:
        result = RunResult(
            lavindit_version=__version__,
            command=current_command(),
            seed=settings["seed"],
            commit=current_commit(),
            machine=describe_machine(),
            model={"kind": "jdit", **engine.info},
            settings=settings,
            data={},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tasks=[],
        )
    new = {application.sample_id for application in applications}
    result.applications[:] = [a for a in result.applications if a.sample_id not in new] + applications
    write_result(result, path)
