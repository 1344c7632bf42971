"""What a test run leaves behind: scores of every task, pictures, and the facts needed to repeat it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lavindit import __version__
from lavindit.data.world import WORLD_VERSION
from lavindit.inference.scorer import TaskScorer
from lavindit.report import current_command, current_commit, describe_machine
from lavindit.report.schema import RESULT_NAME, RunResult, write_result
from lavindit.task import Task
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
        settings: How answers were made, for the result.
        strips: Episodes a task whose pictures are kept.
    """

    __test__ = False

    def __init__(self, module: "TrainedModule", settings: dict[str, Any], strips: int = 3) -> None:
        self.module, self.settings, self.strips = module, settings, strips
        self.data: Any = module.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self.run = Path(module.trainer.default_root_dir)
        self.scorers: dict[str, TaskScorer] = {
            task.name: TaskScorer(task, draws=self.data.context_draws, held_out=self._held_out(task))
            for task in self.data.tasks
        }

    def _held_out(self, task: Task) -> bool:
        """Whether the model never trained on a task, as far as its checkpoint tells."""
        known = self.module.trained_tasks
        return task.held_out or (known is not None and task.name not in known)

    @contextmanager
    def clock(self) -> Iterator[Clock]:
        """Time a block."""
        clock, start = Clock(), time.perf_counter()
        yield clock
        clock.seconds = time.perf_counter() - start

    def record(self, batch: EpisodeBatch, answers: Tensor, rebuilt: Tensor | None, seconds: float) -> None:
        """Score a batch: answers and reconstructed targets [B, 3, T, H, W]."""
        for place, episode in enumerate(batch.episodes):
            scorer = self.scorers[episode.task]
            truth = None if rebuilt is None else rebuilt[place].float().cpu()
            answer = answers[place].float().cpu()
            scorer.update(episode, answer, truth, seconds / len(batch))
            if episode.number < self.strips and episode.draw == 0 and self.module.global_rank == 0:
                scorer.add_strip(episode, answer, self.run)

    def write(self) -> None:
        """Write result.json; every process takes part in reducing the metrics, the first one writes."""
        tasks = [scorer.result() for scorer in self.scorers.values()]
        if self.module.global_rank != 0:
            return
        network = self.module.average
        assert network is not None
        result = RunResult(
            lavindit_version=__version__,
            command=current_command(),
            seed=self.data.seed,
            commit=current_commit(),
            machine=describe_machine(),
            model={
                "kind": self.module.kind,
                "parameters": sum(p.numel() for p in network.parameters()),
                "network": asdict(network.config),
                "steps": self.module.trained_steps,
                "training_seed": self.module.seed,
                "checkpoint": str(self.module.trainer.ckpt_path),
            },
            settings=self.settings
            | {
                "pairs": self.data.eval_pairs,
                "context": self.data.context or {task.name: task.context for task in self.data.tasks},
                "context_draws": self.data.context_draws,
                "precision": str(self.module.trainer.precision),
            },
            data={"world_version": WORLD_VERSION, "split": "test", "source": asdict(self.data.source)},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tasks=tasks,
            notes=self.data.notes(),
        )
        write_result(result, self.run / RESULT_NAME)
