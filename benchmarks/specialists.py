"""Specialists: a U-Net trained on one task alone, beside the answers of a model that does all tasks.

    lavindit benchmark full --model runs/nano --out runs/nano_full
    python benchmarks/specialists.py --result runs/nano_full --run runs/specialists \
        --out benchmarks/results/specialists.json

Each specialist has as many parameters as the model's J-DiT within 3 % (with --vae as J-DiT and VAE together;
--parameters says another number), and trains for --minutes by the clock on the scenes that the nano model was trained
on: picture in, the codec's picture of the truth out, mean of absolute and squared error over valid pixels. It is shown
no pairs. A clip is asked frame by frame: two frames that follow one another are the input, their channels stacked, and
the earlier one's motion is the answer. Where input and target are the same picture but for its damage, the network
learns the difference.

The test is that of the result: the same queries, codecs and metrics. A specialist's answer depends on no pairs, so it
is asked once where the model was asked with several contexts. The gap is that to the model's headline; it is above 0
where the specialist is better.

A training that was interrupted goes on from --run, which keeps its state once a minute. Without --result it trains
only, for a test that is not there yet.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from cells import Row, run_script
from specialist import BATCH, CLIP_BATCH, Setup, Specialist
from studies import headline_row, score

# isort: split
import torch

from lavindit.cli.tools import find_device, use_threads
from lavindit.data import SourceConfig
from lavindit.data.world import WORLD_VERSION
from lavindit.errors import LavinditError
from lavindit.models import JDiT, JDiTConfig, load_model
from lavindit.report import file_benchmark
from lavindit.report.schema import RESULT_NAME, RunResult, TaskResult, read_result
from lavindit.task import get_task
from lavindit.training.protocols import Protocol
from unet import TOLERANCE, count_parameters

TASKS = ["depth_estimation", "normal_estimation", "foreground_segmentation", "edge_detection", "deraining",
    "optical_flow_estimation"]  # fmt: skip
NANO = JDiTConfig(width=192, depth=6, heads=4, context_attention="causal")
"""The J-DiT of configs/experiment/nano.yaml."""


def compare(specialist: TaskResult, ours: TaskResult) -> Row:
    """A specialist's headline beside the model's, in one unit.

    Raises:
        LavinditError: The model's result has no such figure, or is of another version of the task.
    """
    if ours.version != specialist.version:
        raise LavinditError(f"the result has version {ours.version} of {ours.task}, here is {specialist.version}")
    own = specialist.headline
    other = next((figure for figure in ours.figures if figure.metric == own.metric), None)
    if other is None:
        raise LavinditError(f"the result has no {own.metric} of {ours.task}; test the model on this machine")
    error, their_error, answers = own.stderr, other.stderr, {figure.metric: figure.answer for figure in ours.figures}
    return {
        **headline_row(specialist),
        "metrics": {f.metric: {"specialist": f.answer, "ours": answers.get(f.metric)} for f in specialist.figures},
        "held_out": ours.held_out,
        "ours": {"answer": other.answer, "stderr": other.stderr, "draw_std": other.draw_std, "ceiling": other.ceiling,
            "n": ours.n, "draws": ours.draws, "pairs": ours.pairs, "baselines": other.baselines},
        "gap": own.gain_over(other.answer),
        "gap_stderr": None if error is None or their_error is None else math.hypot(error, their_error),
    }  # fmt: skip


def read_ours(path: Path, names: Sequence[str]) -> RunResult:
    """The model's result, if it can be compared with.

    Raises:
        LavinditError: It cannot be read, is of no benchmark, of another world, or lacks a task.
    """
    result = read_result(path / RESULT_NAME if path.is_dir() else path)
    if "protocol" not in result.settings:
        raise LavinditError(f"{path} is no result of `lavindit benchmark`")
    if result.data.get("world_version") != WORLD_VERSION:
        found = result.data.get("world_version")
        raise LavinditError(f"{path} is of version {found} of the embedded world, this is {WORLD_VERSION}")
    lacking = sorted(set(names) - {task.task for task in result.tasks})
    if lacking:
        raise LavinditError(f"{path} has no task {lacking[0]}: `lavindit benchmark --task {lacking[0]}`")
    return result


def test_specialist(specialist: Specialist, result: RunResult) -> Row:
    """A trained specialist's row."""
    task, protocol = specialist.task, Protocol(**{**result.settings["protocol"], "draws": 1})
    (scorer,) = score(task, SourceConfig(**result.data["source"]), protocol, specialist.answer).values()
    ours = next(one for one in result.tasks if one.task == task.name)
    return compare(scorer.result(), ours)


def parameters_asked(chosen: argparse.Namespace, result: RunResult | None) -> int:
    """How many parameters a specialist shall have.

    Raises:
        LavinditError: No VAE lies where one is named.
    """
    if chosen.parameters is not None:
        return chosen.parameters
    with torch.device("meta"):
        nano = count_parameters(JDiT(NANO))  # pyright: ignore[reportArgumentType] - a network, too
    ours = nano if result is None else int(result.model["parameters"])
    return ours + (0 if chosen.vae is None else count_parameters(load_model(chosen.vae).vae))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, help="run folder or result.json of `lavindit benchmark`")
    parser.add_argument("--run", type=Path, required=True, help="folder of the specialists' states")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each")
    parser.add_argument("--parameters", type=int, help="default: those of the result's J-DiT, else of nano's")
    parser.add_argument("--vae", help="model directory whose VAE's parameters are added to the J-DiT's")
    parser.add_argument("--photos", help="folder of photographs; default: those inside scikit-image")
    parser.add_argument("--scenes", type=int, default=16384, help="training scenes, as of experiment/nano.yaml")
    parser.add_argument("--clips", type=int, default=1024)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--fold", type=int, choices=(1, 2, 4), default=4, help="pixels that become channels, a side")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not trained, test, file."""
    chosen = parse(arguments)
    use_threads(chosen.threads)
    result = None if chosen.result is None else read_ours(chosen.result, chosen.tasks)
    source = SourceConfig(
        resolution=chosen.resolution, scenes=chosen.scenes, clips=chosen.clips, photo_share=0.3, photos=chosen.photos
    )  # fmt: skip
    wanted = parameters_asked(chosen, result)
    setup = Setup(wanted, source, chosen.minutes, chosen.lr, chosen.seed, find_device(chosen.device), chosen.fold)
    rows: dict[str, Row] = {}
    for specialist in specialists(chosen, setup):
        trained = specialist.train()
        print(f"{specialist.task.name}: {trained['steps']} steps in {trained['minutes']:.1f} minutes", flush=True)
        rows[specialist.task.name] = trained | ({} if result is None else test_specialist(specialist, result))
    if result is None:
        print(f"trained; with --result the states in {chosen.run} are tested and filed")
        return
    model = {key: result.model.get(key) for key in ("name", "fingerprint", "parameters", "steps", "tasks")}
    fields = {
        "settings": {"minutes": chosen.minutes, "parameters": wanted, "tolerance": TOLERANCE, "lr": chosen.lr,
            "batch_size": BATCH, "clip_batch_size": CLIP_BATCH, "fold": chosen.fold, "scenes": chosen.scenes,
            "clips": chosen.clips, "resolution": chosen.resolution, "threads": torch.get_num_threads(),
            "device": setup.device.type, "with_vae": chosen.vae is not None, "photographs": chosen.photos is not None},
        "ours": model | {"protocol": result.settings["protocol"], "commit": result.commit, "machine": result.machine},
        "n": {name: row["n"] for name, row in rows.items()},
        "figures": rows,
    }  # fmt: skip
    file_benchmark(chosen.out, chosen.seed, fields)


def specialists(chosen: argparse.Namespace, setup: Setup) -> Iterator[Specialist]:
    """One after the other, so that one network is in memory."""
    for name in chosen.tasks:
        task = get_task(name)
        yield Specialist(task, setup, chosen.run / f"{task.name}.pt")


if __name__ == "__main__":
    run_script(main)
