"""What several commands share: a parser, options, device and model. And `lavindit report`."""

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

import torch

from lavindit.errors import LavinditError
from lavindit.inference import PRESETS, Engine, Options, Settings, load
from lavindit.inference.presets import find_preset
from lavindit.inference.sampler import Posterior
from lavindit.models.released import RELEASED_DEFAULT, released_folder
from lavindit.pictures import Fit
from lavindit.report import write_report
from lavindit.report.schema import RESULT_NAME, read_result
from lavindit.report.terminal import print_result
from lavindit.task import Task
from lavindit.task.context import CHOICES

MODEL_VARIABLE = "LAVINDIT_MODEL"
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


def add_model_options(parser: Parser) -> None:
    """--model, --device, --precision and --threads, as `load_chosen` reads them."""
    text = f"released model, model directory or run folder; default: ${MODEL_VARIABLE}, else {RELEASED_DEFAULT}"
    parser.add_argument("--model", type=Path, metavar="DIR", help=text)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto: cuda where there is one")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="type of the weights (default float32)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's own)")


def load_chosen(chosen: argparse.Namespace) -> tuple[Engine, Path]:
    """The engine of the options of `add_model_options`, and its folder."""
    use_threads(chosen.threads)
    folder = find_model(chosen.model)
    return load(folder, find_device(chosen.device), PRECISIONS[chosen.precision]), folder


def model_name(named: Path) -> str:
    """What results call a model: its folder, or the run's where that is called `model`."""
    return named.absolute().parent.name if named.name == "model" else named.name or str(named)


def print_notes(engine: Engine, task: Task, settings: Settings, asked_size: bool) -> None:
    """What a person should know before waiting for an answer."""
    trained, wanted = engine.info.get("resolution", settings.resolution), settings.resolution
    if task.name not in engine.info.get("tasks", [task.name]):
        note = f"this model was not trained on {task.name}; it has the pairs alone to go by"
        print(f"lavindit: note: {note}", file=sys.stderr)
    if trained != wanted and not asked_size:
        note = f"preset {settings.preset} asks at {wanted} px, this model is of {trained} px: --resolution {trained}"
        print(f"lavindit: note: {note}", file=sys.stderr)


def add_plugin_option(parser: Parser) -> None:
    """The file that a prompt may not choose itself."""
    text = "of a prompt whose task is a plugin's: that plugin's file"
    parser.add_argument("--plugin", type=Path, metavar="FILE", help=text)


def add_pair_options(parser: Parser) -> None:
    """How the pairs of a task are chosen and encoded, and the preset, as `pair_options` reads them."""
    known = ", ".join(PRESETS)
    parser.add_argument("--preset", metavar="NAME", help=f"{known}: what the options below start from")
    parser.add_argument(
        "--pairs", type=int, metavar="K", help="context pairs (default 8 for a model trained with as many, else 4)"
    )
    parser.add_argument(
        "--context", metavar="HOW", help=f"how they are chosen: {', '.join(CHOICES)} (default: as the task says)"
    )
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


def pair_options(chosen: argparse.Namespace) -> Options:
    """The options of `add_pair_options`, but for the preset, whose name is checked.

    Raises:
        LavinditError: There is no such preset.
    """
    if chosen.preset is not None:
        find_preset(chosen.preset)  # a slip is told before anything is loaded
    return Options(
        pairs=chosen.pairs,
        context=chosen.context,
        resolution=chosen.resolution,
        fit=chosen.fit,
        posterior=chosen.posterior,
    )


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


def use_threads(count: int | None) -> None:
    """Compute in so many threads; None: as many as torch takes.

    Raises:
        LavinditError: Less than one.
    """
    if count is not None and count < 1:
        raise LavinditError(f"--threads must be at least 1, got {count}")
    if count is not None:
        torch.set_num_threads(count)


def find_model(named: Path | None) -> Path:
    """The model that is named, else the environment's, else the released default.

    Raises:
        LavinditError: None is named, and the released one is missing.
    """
    if named is not None:
        return named
    variable = os.environ.get(MODEL_VARIABLE)
    return Path(variable) if variable else released_folder(RELEASED_DEFAULT)
