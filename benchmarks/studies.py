"""What the studies share: a model tested on episodes of one's own choice, trainings that go on where they stopped."""

import argparse
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
from lightning import Trainer
from torch import Tensor

from cells import Row
from drawing import Panel, note_of
from lavindit.cli import main as lavindit_command
from lavindit.cli.train import cpu_precision
from lavindit.data import EpisodeData, EpisodeMaker, SourceConfig
from lavindit.data.episodes import collate
from lavindit.data.mixture import EpisodeTest
from lavindit.errors import LavinditError
from lavindit.inference import Engine, LatentCache, TaskScorer, answer_batch, load
from lavindit.inference.sampler import pictures_a_pass
from lavindit.models import model_folder
from lavindit.report.figure import QUERY
from lavindit.report.schema import TaskResult
from lavindit.task import Task, get_task
from lavindit.task.context import parse_context
from lavindit.training import DiTModule
from lavindit.training.benchmark import BATCH, CLIP_BATCH, SPARE
from lavindit.training.checkpoints import last_checkpoint, read_checkpoint
from lavindit.training.protocols import PROTOCOLS, Protocol, has_clips
from lavindit.types import EpisodeBatch

MODEL = "model"
HELD_OUT_SHIFT = 3.0  # of the times of a held-out loss, whatever that of a training is
KEPT = ("metric", "unit", "direction", "answer", "stderr", "draw_std", "baselines")
Answer = Callable[[EpisodeBatch], Tensor]
"""Pictures [B, 3, T', H, W] that answer a batch of one task."""


def training_parser(description: str | None, run: Path | None = None) -> argparse.ArgumentParser:
    """The options that all studies with trainings of their own have.

    Args:
        description: Of the script.
        run: Where the trainings go if nothing else is said; None: it must be said.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )  # fmt: skip
    parser.add_argument("--run", type=Path, required=run is None, default=run, help="folder of the trainings")
    parser.add_argument("--config", default="experiment/nano.yaml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of trainings")
    parser.add_argument("--queries", type=int, default=64, help="test queries a task; of images, where clips are apart")
    parser.add_argument("--test_seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    return parser


def make_protocol(images: int, clips: int, draws: int, seed: int, pairs: int = 1) -> Protocol:
    """The protocol "full" of `lavindit benchmark` with other numbers; its name says that it is another one."""
    return replace(
        PROTOCOLS["full"], name="study", images=images, clips=clips, draws=draws, seed=seed, pairs=pairs
    )  # fmt: skip


def source_of(protocol: Protocol, resolution: int) -> SourceConfig:
    """The scenes that `lavindit benchmark` tests on by a protocol."""
    return SourceConfig(
        resolution=resolution, scenes=protocol.scenes, clips=protocol.scene_clips,
        test_scenes=SPARE * protocol.images, test_clips=SPARE * protocol.clips,
    )  # fmt: skip


def score(
    task: Task, source: SourceConfig, protocol: Protocol, answer: Answer, pairs: Sequence[int] = ()
) -> dict[int, TaskScorer]:
    """Scores of answers to a task's test queries by number of pairs, as of a test, beside what needs no network.

    An episode is made once, with the most pairs: a shorter context has the first of them, and the same colours where
    they are drawn.

    Args:
        task: The task.
        source: Its scenes.
        protocol: Queries, draws, seed.
        answer: Answers a batch.
        pairs: Numbers of pairs; none: the protocol's.
    """
    counts = list(pairs) or [protocol.pairs]
    maker = EpisodeMaker(task, "test", source, parse_context(task.context))
    batch_size = CLIP_BATCH if has_clips(task) else BATCH
    test = EpisodeTest(
        maker, protocol.queries(task), batch_size, max(counts), protocol.seed, protocol.draws
    )  # fmt: skip
    scorers = {count: TaskScorer(task, with_ceiling=False, draws=protocol.draws) for count in counts}
    for place in range(len(test)):
        whole = test[place]
        for count, scorer in scorers.items():
            batch = collate([replace(episode, pairs=episode.pairs[:count]) for episode in whole.episodes])
            for episode, picture in zip(batch.episodes, answer(batch).float().cpu(), strict=True):
                scorer.update(episode, picture, None, 0.0)
    return scorers


def answer_of(engine: Engine, task: Task, seed: int = 0, cache: LatentCache | None = None) -> Answer:
    """How a model answers a task's queries: sampled as its directory says of the task."""
    sampling, device = engine.settle(task=task, seed=seed).sampling, next(engine.jdit.parameters()).device

    def answer(batch: EpisodeBatch) -> Tensor:
        chunk = pictures_a_pass(batch.inputs, batch.targets)
        models, kept = (engine.vae, engine.jdit), task.keeps_detail
        return answer_batch(*models, batch.to(device), sampling, chunk, cache, keeps_detail=kept)

    return answer


def headline_row(result: TaskResult) -> Row:
    """What a study files of a task: its headline, and n."""
    figure = asdict(result.headline)
    return {key: figure[key] for key in KEPT} | {"n": result.n, "draws": result.draws}


def headlines(
    engine: Engine, tasks: Sequence[Task], protocol: Protocol, pairs: Sequence[int]
) -> dict[str, dict[str, Row]]:
    """Headlines by task and by number of pairs, as text, as JSON has its keys."""
    source = source_of(protocol, engine.settings.resolution)

    def rows(task: Task) -> dict[str, Row]:
        answer = answer_of(engine, task, protocol.seed, LatentCache())
        found = score(task, source, protocol, answer, pairs)
        return {str(count): headline_row(scorer.result()) for count, scorer in found.items()}

    return {task.name: rows(task) for task in tasks}


def gain(row: Mapping[str, Any], other: float | None) -> float | None:
    """By how much a row's answer is better than another value, in its unit; None if either is unknown."""
    if row["answer"] is None or other is None:
        return None
    return row["answer"] - other if row["direction"] == "max" else other - row["answer"]


def beyond_noise(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a row is better than another by more than the standard error of the difference.

    Queries are shared and the errors taken as independent, which is on the safe side.
    """
    found, errors = gain(row, other["answer"]), (row["stderr"], other["stderr"])
    return found is not None and None not in errors and found > math.hypot(*errors)


@dataclass(frozen=True)
class Training:
    """A `lavindit fit` of a study.

    Attributes:
        run: Its run folder, but for a hash of the options behind its name: other options are another training.
        config: File or name of a shipped config.
        steps: Optimizer steps; at most, where minutes are given.
        options: Further options of `lavindit fit`; they have the last word.
        seed: Of weights, episodes and noise.
        minutes: Of training; None: as long as the steps take.
    """

    run: Path
    config: str
    steps: int
    options: tuple[str, ...] = ()
    seed: int = 0
    minutes: float | None = None

    def arguments(self) -> list[str]:
        """The command, without `lavindit`."""
        never = 10**9  # steps between validations: the study makes its own, when training is over
        return [
            "fit", "--config", self.config, f"--trainer.max_steps={self.steps}",
            f"--trainer.val_check_interval={never}", "--checkpoint_every=50",
            f"--budget.minutes={'null' if self.minutes is None else self.minutes}",
            f"--seed_everything={self.seed}", f"--model.init_args.seed={self.seed}", f"--data.seed={self.seed}",
            *self.options,
        ]  # fmt: skip

    @property
    def folder(self) -> Path:
        """The run folder."""
        told = hashlib.sha256("\n".join(self.arguments()).encode()).hexdigest()
        return self.run.with_name(f"{self.run.name}_{told[:8]}")

    def train(self) -> Row:
        """Train, or go on with what the run folder has; steps, seconds and parameters.

        Raises:
            LavinditError: The run folder holds a training of other length.
        """
        torch.compiler.reset()  # compiled blocks of another size would count against this one's
        lavindit_command([*self.arguments(), f"--trainer.default_root_dir={self.folder}"])
        state = read_checkpoint(last_checkpoint(self.folder))
        elapsed = state["callbacks"]["TimeBudget"]["elapsed_s"]
        if self.minutes is None and state["global_step"] != self.steps:
            raise LavinditError(
                f"{self.folder} was trained to step {state['global_step']}, asked are {self.steps}: remove it, or "
                "name another --run"
            )
        return {"steps": state["global_step"], "train_s": elapsed}

    @property
    def model(self) -> Path:
        """The model directory that it leaves."""
        return model_folder(self.folder / MODEL)


def held_out_loss(engine: Engine, folder: Path, data: EpisodeData, time_shift: float, precision: str) -> Row:
    """The flow-matching loss of the query's target, given all pairs: by task, and "all".

    The episodes are those of `data`'s validation; noise and times belong to the episode, so they are the same for every
    model.

    Args:
        engine: The model, loaded.
        folder: The model directory that it was loaded from.
        data: The episodes.
        time_shift: Shift of the times.
        precision: Lightning's name of it.
    """
    module = DiTModule(str(folder), engine.jdit.config, time_shift=time_shift, init_from=str(folder))
    trainer = Trainer(
        accelerator="gpu" if next(engine.jdit.parameters()).is_cuda else "cpu", devices=1, logger=False,
        precision=precision,  # pyright: ignore[reportArgumentType] - one of Lightning's
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    losses = trainer.validate(module, data, verbose=False)[0]
    return {name.removeprefix("val_loss").removeprefix("/") or "all": value for name, value in losses.items()}


def train_and_test(
    training: Training,
    protocol: Protocol,
    pairs: int,
    val_samples: int,
    device: torch.device,
    tasks: Sequence[str] | None = None,
) -> tuple[Row, Engine]:
    """Train, or go on; what a study files of it: held-out loss, headlines, steps, seconds, parameters.

    Args:
        training: The training.
        protocol: Of the test.
        pairs: Shown with each query, and of the held-out loss.
        val_samples: Episodes a task of the held-out loss.
        device: Where the model is tested.
        tasks: Names; None: those that it was trained on.
    """
    trained, engine = training.train(), load(training.model, device)
    names = list(tasks or engine.info["tasks"])
    data = EpisodeData(
        names, source=source_of(protocol, engine.settings.resolution), eval_pairs=pairs, val_samples=val_samples,
        eval_batch_size=4,
    )  # fmt: skip
    loss = held_out_loss(engine, training.model, data, HELD_OUT_SHIFT, precision_of(device))
    found = headlines(engine, [get_task(name) for name in names], protocol, [pairs])
    rows = {name: own[str(pairs)] for name, own in found.items()}
    return trained | {"parameters": parameters_of(engine), "held_out_loss": loss, "tasks": rows}, engine


def parameters_of(engine: Engine) -> int:
    """Of the transformer."""
    return sum(weight.numel() for weight in engine.jdit.parameters())


def precision_of(device: torch.device) -> str:
    """The faster precision of a training on that device, for Lightning."""
    return cpu_precision() if device.type == "cpu" else "bf16-mixed"


def panel_of(title: str, rows: Mapping[str, Mapping[str, Row]], baselines: Sequence[str] = ()) -> Panel:
    """A task's headline by pairs.

    Args:
        title: The task's name.
        rows: By name of a model, rows by number of pairs.
        baselines: Also shown, as they come with the first model's rows, if they do.
    """
    lines: dict[str, list[Any]] = {
        name: [(int(count), row["answer"], row["stderr"]) for count, row in own.items()] for name, own in rows.items()
    }
    first = next(iter(rows.values()))
    for name in baselines:
        points = [(int(count), row["baselines"].get(name)) for count, row in first.items()]
        if any(value is not None for _, value in points):
            lines["unchanged query" if name == QUERY else name.replace("_", " ")] = points
    any_row = next(iter(first.values()))
    return Panel(title, lines, "pairs", note_of(any_row))
