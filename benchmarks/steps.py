"""Quality against evaluations of the network, task by task, and the defaults that follow from it.

    python benchmarks/steps.py --model nano --out benchmarks/results/steps.json --write

Euler, Heun and midpoint on even grids and on grids that are tuned to the task, each at the same numbers of evaluations
(NFE: Heun and midpoint take two a step; guidance asks the network twice in each). Grids are tuned on validation
queries, figures are of the test's queries, contexts and metrics. A query is encoded once and its pairs are read once
for all settings, and all start from the same noise. A task's default is the setting of fewest evaluations whose
headline lies within one standard error of the best, or within a share of it that --tolerance states. Tasks whose own
headline lacks weights here keep what the model did before: the figure in its place, PSNR say, prefers the mean of all
possible answers. `--write` records the defaults in the model's config.json (`info.task_sampling`), and for other tasks
the one even grid that is a good choice for most (`info.sampling`). A run that was interrupted goes on after the last
task that is done.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)
from cells import Cells, run_script

# isort: split
import torch
import yaml

from lavindit.cli.tools import use_threads
from lavindit.data import SourceConfig
from lavindit.data.episodes import EpisodeMaker
from lavindit.data.mixture import EpisodeTest
from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.flow import nfe, solve, tune_grids
from lavindit.flow.solvers import SOLVERS
from lavindit.inference import SamplingConfig, TaskScorer, encode_batch, settle
from lavindit.inference.presets import usual_pairs
from lavindit.inference.sampler import PIXELS_A_PASS, start_of, velocity_field
from lavindit.models import STVAE, JDiT, load_engine_model, model_folder
from lavindit.models.store import CONFIG_NAME
from lavindit.report import file_benchmark
from lavindit.report.figure import Figure
from lavindit.task import Task, get_task, give_back_detail
from lavindit.task.context import parse_context
from lavindit.training.protocols import has_clips

DIGITS = 6  # of a tuned time in a file


@dataclass(frozen=True)
class Setting:
    """A solver and its times.

    Attributes:
        solver: Key of `SOLVERS`.
        steps: Its steps.
        times: A tuned grid; None: even steps, shifted as the model's are.
    """

    solver: str
    steps: int
    times: tuple[float, ...] | None = None

    @property
    def nfe(self) -> int:
        """Evaluations."""
        return nfe(self.solver, self.steps)

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.solver}_{'uniform' if self.times is None else 'tuned'}_{self.nfe}"

    def choice(self) -> dict[str, Any]:
        """What a model's config.json says of it."""
        said: dict[str, Any] = {"steps": self.steps, "solver": self.solver}
        return said | ({"grid": "uniform"} if self.times is None else {"times": list(self.times)})

    def over(self, sampling: SamplingConfig) -> SamplingConfig:
        """A model's sampling with this in it."""
        return replace(sampling, steps=self.steps, solver=self.solver, grid="uniform", times=self.times)


@dataclass(frozen=True, eq=False)
class Asked:
    """The model and what it is asked.

    Attributes:
        vae: VAE.
        jdit: Transformer.
        sampling: The model's own; guidance, start and posterior are left as they are.
        source: The scenes.
        pairs: K.
        seed: Of the episodes.
        batch_size: Queries a batch.
    """

    vae: STVAE
    jdit: JDiT
    sampling: SamplingConfig
    source: SourceConfig
    pairs: int
    seed: int
    batch_size: int

    def batches(self, task: Task, split: str, queries: int, batch_size: int) -> EpisodeTest:
        """Queries of a split, with their contexts as a test chooses them."""
        maker = EpisodeMaker(task, split, self.source, parse_context(task.context))
        return EpisodeTest(maker, queries, batch_size, self.pairs, self.seed)

    @property
    def chunk(self) -> int:
        """Pictures a pass of the VAE."""
        return max(1, PIXELS_A_PASS // self.source.resolution**2)


@torch.no_grad()
def tuned_settings(asked: Asked, task: Task, nfes: Sequence[int], queries: int, candidates: int) -> list[Setting]:
    """Tuned grids of every solver at those of the numbers of evaluations that leave times to choose."""
    batch = asked.batches(task, "val", queries, queries)[0]
    latent = encode_batch(asked.vae, batch, asked.sampling.posterior, asked.seed, asked.chunk)
    field = velocity_field(asked.jdit, latent, asked.sampling.guidance)
    start = start_of(latent, batch.sample_ids, asked.sampling)
    found = []
    for solver in SOLVERS:
        wanted = [setting.steps for setting in even_settings(nfes) if setting.solver == solver and setting.steps > 1]
        if not wanted:
            continue
        for steps, grid in tune_grids(field, start, wanted, solver, candidates).items():
            times = tuple(round(float(t), DIGITS) for t in grid)
            found.append(Setting(solver, steps, times))
    return found


def even_settings(nfes: Sequence[int]) -> list[Setting]:
    """Even grids of every solver that can take exactly so many evaluations."""
    found = (Setting(solver, count // nfe(solver, 1)) for count in nfes for solver in SOLVERS)
    return [setting for setting in found if setting.nfe in nfes and setting.steps]


@torch.no_grad()
def measure(asked: Asked, task: Task, settings: Sequence[Setting], queries: int) -> tuple[dict[str, Figure], int]:
    """The headline of each setting on test queries, by name, and their number."""
    scorers = {setting.name: TaskScorer(task, with_ceiling=False) for setting in settings}
    for scorer in scorers.values():
        scorer.baselines.clear()  # a test has them; they do not depend on the setting
    for batch in asked.batches(task, "test", queries, asked.batch_size):
        latent = encode_batch(asked.vae, batch, asked.sampling.posterior, asked.seed, asked.chunk)
        field = velocity_field(asked.jdit, latent, asked.sampling.guidance)
        start = start_of(latent, batch.sample_ids, asked.sampling)
        rebuilt = None
        if task.keeps_detail and asked.sampling.detail:
            rebuilt = asked.vae.to_pictures(latent.inputs[:, -1], asked.chunk)
        for setting in settings:
            config = setting.over(asked.sampling)
            answers = asked.vae.to_pictures(solve(field, start, config.points, config.solver), asked.chunk)
            if rebuilt is not None:
                answers = give_back_detail(answers, batch.inputs[:, -1], rebuilt)
            for episode, answer in zip(batch.episodes, answers, strict=True):
                scorers[setting.name].update(episode, answer, None, 0.0)
    results = {name: scorer.result() for name, scorer in scorers.items()}
    figures = {name: next(f for f in result.figures if f.headline) for name, result in results.items()}
    return figures, max(result.n for result in results.values())


def good_enough(figures: Mapping[str, Figure], tolerance: float | None) -> list[str]:
    """Names of the settings within a share of the best's value, None: one standard error; best first.

    The rule of one standard error is that of Breiman et al., "Classification and Regression Trees", 1984.
    """
    values = {name: f.answer for name, f in figures.items() if f.answer is not None and math.isfinite(f.answer)}
    if not values:
        return []
    upwards = next(iter(figures.values())).direction == "max"
    order = sorted(values, key=lambda name: values[name], reverse=upwards)
    best, error = values[order[0]], figures[order[0]].stderr
    error = error if error is not None and math.isfinite(error) else 0.0
    margin = error if tolerance is None else tolerance * abs(best)
    return [name for name in order if abs(values[name] - best) <= margin]


def chosen_of(good: Sequence[str], settings: Mapping[str, Setting]) -> str:
    """The first of the good ones, best first, that has fewest evaluations."""
    return min(good, key=lambda name: settings[name].nfe)


def has_own_headline(task: Task) -> bool:
    """Whether the figure that a task is judged by can be measured here; another stands in for it if not."""
    return next(column.metric for column in task.columns if column.headline) == task.headline.metric


def common_choice(good: Mapping[str, Sequence[str]], settings: Sequence[Setting]) -> Setting:
    """The even grid that is good enough for most tasks; of several, that of fewest evaluations."""
    counts = {setting: sum(setting.name in names for names in good.values()) for setting in settings}
    return min(settings, key=lambda setting: (-counts[setting], setting.nfe))


def study(asked: Asked, task: Task, chosen: argparse.Namespace) -> dict[str, Any]:
    """All that is filed of a task."""
    began, even = time.perf_counter(), even_settings(chosen.nfe)
    low = [count for count in chosen.nfe if count <= chosen.tune_up_to]
    settings = even + tuned_settings(asked, task, low, chosen.tune_queries, chosen.candidates)
    by_name = {setting.name: setting for setting in settings}
    figures, n = measure(asked, task, settings, chosen.clip_queries if has_clips(task) else chosen.queries)
    good = good_enough(figures, chosen.tolerance) if has_own_headline(task) else []
    any_figure = next(iter(figures.values()))
    rows = {
        name: {"nfe": by_name[name].nfe, **by_name[name].choice(), "answer": f.answer, "stderr": f.stderr}
        for name, f in figures.items()
    }
    kept = {"metric": any_figure.metric, "unit": any_figure.unit, "direction": any_figure.direction, "n": n}
    default = chosen_of(good, by_name) if good else None
    seconds = time.perf_counter() - began
    return kept | {"settings": rows, "good_enough": good, "default": default, "seconds": seconds}


def default_of(own: Mapping[str, Any], before: SamplingConfig) -> dict[str, Any]:
    """What a task's `task_sampling` says: its default, or what the model did before where none was chosen."""
    if own["default"] is None:
        return Setting(before.solver, before.steps, before.times).choice()
    row = own["settings"][own["default"]]
    return {key: value for key, value in row.items() if key in SamplingConfig.__annotations__}


def record(folder: Path, common: dict[str, Any], tasks: Mapping[str, dict[str, Any]]) -> None:
    """Write the defaults into the config.json of a model directory."""
    config = json.loads((folder / CONFIG_NAME).read_text())
    info = config["info"]
    info["sampling"] = {**info.get("sampling", {}), "times": None, **common}
    info["task_sampling"] = {**info.get("task_sampling", {}), **tasks}
    for name in tasks:
        settle(info, task=name)  # what an engine would make of it
    write_atomically(folder / CONFIG_NAME, (json.dumps(config, indent=2) + "\n").encode())


def run_data(folder: Path, info: Mapping[str, Any]) -> tuple[SourceConfig, int]:
    """Scenes and pairs of the run that a model directory lies in; if none, of the embedded world, as many as usual."""
    path = folder.parent / "config.yaml"
    if not path.is_file():
        return SourceConfig(resolution=info.get("resolution", 64), scenes=512, clips=64), usual_pairs(info)
    data = yaml.safe_load(path.read_text())["data"]
    return SourceConfig(**data["source"]), data["eval_pairs"]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="run folder or model directory")
    parser.add_argument("--tasks", nargs="+", help="default: those that the model was trained on")
    parser.add_argument("--nfe", nargs="+", type=int, default=[1, 2, 4, 8, 20])
    parser.add_argument("--queries", type=int, default=64, help="test queries a task")
    parser.add_argument("--clip_queries", type=int, default=24, help="of a task of clips")
    parser.add_argument("--tune_queries", type=int, default=16, help="validation queries that grids are tuned on")
    parser.add_argument("--tune_up_to", type=int, default=8, help="largest NFE of a tuned grid")
    parser.add_argument("--candidates", type=int, default=24, help="times that a tuned grid is chosen from")
    parser.add_argument("--tolerance", type=float, help="share of the best that a default may lose")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: torch's")
    parser.add_argument("--write", action="store_true", help="record the defaults in the model's config.json")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, choose, file and record."""
    chosen = parse(arguments)
    use_threads(chosen.threads)
    folder = model_folder(chosen.model)
    vae, jdit, info = load_engine_model(folder)
    source, pairs = run_data(folder, info)
    asked = Asked(vae, jdit, settle(info).sampling, source, pairs, chosen.seed, chosen.batch_size)
    names = chosen.tasks or info.get("tasks")
    if not names:
        raise LavinditError(f"{folder} does not say its tasks; name them with --tasks")
    options = {name: value for name, value in vars(chosen).items() if name not in ("out", "write", "threads", "tasks")}
    cells = Cells(chosen.out, {**options, "model": str(chosen.model), "trained_steps": info.get("steps")})
    figures = cells.all({name: partial(study, asked, get_task(name), chosen) for name in names})
    common = common_choice({name: own["good_enough"] for name, own in figures.items()}, even_settings(chosen.nfe))
    tasks = {name: default_of(own, settle(info, task=name).sampling) for name, own in figures.items()}
    fields = {"n": {"images": chosen.queries, "clips": chosen.clip_queries},
        "model": {"tasks": info.get("tasks"), "steps": info.get("steps")},
        "sampling": asdict(asked.sampling), "pairs": pairs, "source": asdict(source), "figures": figures,
        "defaults": {"sampling": common.choice(), "task_sampling": tasks}}  # fmt: skip
    file_benchmark(chosen.out, chosen.seed, fields | cells.made)
    cells.forget()
    if chosen.write:
        record(folder, common.choice(), tasks)


if __name__ == "__main__":
    run_script(main)
