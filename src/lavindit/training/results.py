"""What a test run leaves behind: scores of every task, pictures, and the facts needed to repeat it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lavindit import __version__
from lavindit.data.world import WORLD_VERSION
from lavindit.inference.baselines import best_constant
from lavindit.inference.sampler import SamplingConfig
from lavindit.inference.scorer import TaskScorer
from lavindit.report import current_command, current_commit, describe_machine
from lavindit.report.figure import QUERY_VAE
from lavindit.report.schema import RESULT_NAME, RunResult, TaskResult, write_result
from lavindit.task import Task, give_back_detail
from lavindit.types import EpisodeBatch

if TYPE_CHECKING:
    from lavindit.training.base import TrainedModule


@dataclass
class Clock:
    """Seconds that a `with` block took."""

    seconds: float = 0.0


class TestRecorder:
    """Collects the answers of a test run by task and writes result.json.

    Args:
        module: The module under test, attached to its trainer.
        settings: How answers were made where a task has no sampling of its own, for the result.
        samplings: How each task was answered.
        strips: Episodes a task whose pictures are kept.
    """

    __test__ = False

    def __init__(
        self,
        module: "TrainedModule",
        settings: dict[str, Any],
        samplings: Mapping[str, SamplingConfig],
        strips: int = 3,
    ) -> None:
        self.module, self.settings, self.samplings, self.strips = module, settings, samplings, strips
        self.data: Any = module.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self.run = Path(module.trainer.default_root_dir)
        self.scorers: dict[str, TaskScorer] = {
            task.name: TaskScorer(
                task,
                draws=self.data.context_draws,
                held_out=is_held_out(module, task),
                find_constant=partial(best_constant, task, self.data.source, self.data.seed),
            )
            for task in self.data.tasks
        }

    @contextmanager
    def clock(self) -> Iterator[Clock]:
        """Time a block."""
        clock, start = Clock(), time.perf_counter()
        yield clock
        clock.seconds = time.perf_counter() - start

    def record(self, batch: EpisodeBatch, answers: Tensor, seconds: float, rebuild: Callable[[Tensor], Tensor]) -> None:
        """Score a batch.

        Args:
            batch: Of one task and one draw.
            answers: Pictures [B, 3, T, H, W].
            seconds: Time they took.
            rebuild: Takes pictures [B, 3, T, H, W] through the VAE and back.
        """
        scorer = self.scorers[batch.tasks[0]]
        keeps_detail = scorer.task.keeps_detail and self.samplings[batch.tasks[0]].detail
        truths = queries = None
        if batch.episodes[0].draw == 0:  # query and truth are the same in all draws
            truths, inputs = rebuild(batch.targets[:, -1]).float().cpu(), batch.inputs[:, -1]
            if keeps_detail or QUERY_VAE in scorer.task.baselines:
                queries = rebuild(inputs).float().cpu()
                truths = give_back_detail(truths, inputs.float().cpu(), queries) if keeps_detail else truths
        for place, episode in enumerate(batch.episodes):
            answer = answers[place].float().cpu()
            truth, query = (None if part is None else part[place] for part in (truths, queries))
            scorer.update(episode, answer, truth, seconds / len(batch), query)
            if episode.number < self.strips and episode.draw == 0 and self.module.global_rank == 0:
                scorer.add_strip(episode, answer, self.run)

    def result(self) -> RunResult | None:
        """What was found; every process takes part in reducing the metrics, the first one has the result."""
        found = [(name, scorer.result()) for name, scorer in self.scorers.items()]
        tasks = [replace(result, sampling=asdict(self.samplings[name])) for name, result in found]
        return describe_test(self.module, self.settings, tasks) if self.module.global_rank == 0 else None

    def write(self) -> None:
        """Write result.json."""
        result = self.result()
        if result is not None:
            write_result(result, self.run / RESULT_NAME)


def is_held_out(module: "TrainedModule", task: Task) -> bool:
    """Whether a model never trained on a task, as far as its checkpoint tells."""
    known = module.trained_tasks
    return task.held_out or (known is not None and task.name not in known)


def describe_test(module: "TrainedModule", settings: dict[str, Any], tasks: list[TaskResult]) -> RunResult:
    """The result of a test with all that is needed to run it again.

    Args:
        module: The module under test, attached to its trainer.
        settings: How answers were made.
        tasks: What was found.
    """
    data: Any = module.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    network = module.average
    assert network is not None
    return RunResult(
        lavindit_version=__version__,
        command=current_command(),
        seed=data.seed,
        commit=current_commit(),
        machine=describe_machine(),
        model={
            "kind": module.kind,
            "parameters": sum(p.numel() for p in network.parameters()),
            "network": asdict(network.config),
            "steps": module.trained_steps,
            "training_seed": module.seed,
            "checkpoint": str(module.trainer.ckpt_path),
        },
        settings=settings
        | {
            "pairs": data.eval_pairs,
            "context": data.context or {task.name: task.context for task in data.tasks},
            "context_draws": data.context_draws,
            "precision": str(module.trainer.precision),
        },
        data={"world_version": WORLD_VERSION, "split": "test", "source": asdict(data.source)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tasks=tasks,
        notes=data.notes(),
    )
