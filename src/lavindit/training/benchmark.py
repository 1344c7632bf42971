"""The benchmark: a model directory tested task by task as a protocol of a fixed name says, on the embedded world.

It is `lavindit test` without a config: the same module, episodes, scores and result. RUN/result.json is written after
every task, so that an interrupted benchmark goes on where it stopped. Tasks may be measured side by side.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lavindit import __version__
from lavindit.data import EpisodeData, SourceConfig
from lavindit.errors import LavinditError
from lavindit.inference import Engine, load, settle
from lavindit.inference.prompt_file import fingerprint
from lavindit.inference.sampler import PIXELS_A_PASS
from lavindit.report import current_command, current_commit
from lavindit.report.schema import RESULT_NAME, RunResult, TaskResult, read_result, write_result
from lavindit.task import Task
from lavindit.training.benchmark_workers import measure_side_by_side
from lavindit.training.dit import DiTModule
from lavindit.training.protocols import Protocol, has_clips
from lavindit.types import CLIP_FRAMES, EpisodeBatch

BATCH, CLIP_BATCH = 16, 4
SPARE = 4  # times as many test scenes as queries, since a task may pass some over
STRIPS = 2
Progress = Callable[[int, int], None]
"""Told the answers given and their total."""


class BenchmarkModule(DiTModule):
    """A module whose result is handed on and not written: it is of one task of several."""

    result: RunResult | None = None

    def on_test_end(self) -> None:
        """Reduce the metrics."""
        assert self.recorder is not None
        self.result = self.recorder.result()


class Benchmark:
    """A model, a protocol, tasks, and the folder of the run.

    Args:
        folder: The model directory.
        name: What results call the model.
        protocol: Given the model's info, how it is tested.
        tasks: Names, plugin files or folders of pairs.
        run: Folder of the run.
        device: Where the model computes.
        precision: Lightning's name of it: "32-true", "bf16-mixed".

    Attributes:
        task: Name of the task that is tested now.

    Raises:
        LavinditError: The model cannot be read, or a task is not known or comes twice.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        protocol: Callable[[Mapping[str, Any]], Protocol],
        tasks: Sequence[str],
        run: Path,
        device: torch.device,
        precision: str = "32-true",
    ) -> None:
        engine = load(folder)
        self.folder, self.name, self.run, self.names = folder, name, run, list(tasks)
        self.protocol = protocol(engine.info)
        self.device, self.precision, self.commit = device, precision, current_commit()
        self.source = SourceConfig(
            resolution=engine.settings.resolution,
            scenes=self.protocol.scenes,
            clips=self.protocol.scene_clips,
            test_scenes=SPARE * self.protocol.images,
            test_clips=SPARE * self.protocol.clips,
        )
        self.all = self._data(self.names)
        self.tasks = dict(zip(self.names, self.all.tasks, strict=True))
        self.model = {"name": name, "fingerprint": fingerprint(engine), "tasks": engine.info.get("tasks")}
        # The fingerprint is of weights and networks; how they are sampled is said apart, in the model's info.
        chosen = {t.name: settle(engine.info, seed=self.protocol.seed, task=t.name).sampling for t in self.all.tasks}
        self.samplings = {name: json.loads(json.dumps(asdict(sampling))) for name, sampling in chosen.items()}
        self.module = self._module(engine)
        self.done: list[TaskResult] = []
        self.task, self.workers = "", 1

    def resume(self, restart: bool = False) -> list[str]:
        """Take over the tasks that an earlier sitting of the same benchmark has finished; their names.

        Args:
            restart: Take over nothing, whatever lies there.

        Raises:
            LavinditError: The run folder has the result of something else.
        """
        path = self.run / RESULT_NAME
        if restart or not path.exists():
            return []
        result = read_result(path)
        found = self._identity(result.settings, result.model, result.lavindit_version, result.commit)
        wanted = self._identity(self._settings(), self.model, __version__, self.commit)
        found["data"], wanted["data"] = result.data.get("source"), asdict(self.source)
        differing = [what for what, value in wanted.items() if found[what] != value]
        differing += [
            f"sampling of {t.task}" for t in result.tasks if self.samplings.get(t.task, t.sampling) != t.sampling
        ]
        if self.commit is not None and self.commit.endswith("-dirty"):
            differing.append("code, which no commit names,")
        if differing:
            what = differing[0]
            told = _told_apart(found[what], wanted[what]) if what in wanted else ""
            raise LavinditError(
                f"{path} is of something else (the {what} may differ{told}): name another --out, or --restart to "
                "replace it"
            )
        versions = {task.name: task.version for task in self.all.tasks}
        self.done = [task for task in result.tasks if versions.get(task.task, task.version) == task.version]
        return [task.task for task in self.done]

    def measure(self, progress: Progress = lambda done, total: None, workers: int = 1) -> RunResult:
        """Test the tasks that are not done yet; RUN/result.json is written after each of them.

        Args:
            progress: Told the answers given and their total; with several workers after each task.
            workers: Tasks that are tested at a time, each in a process with its share of the threads.

        Raises:
            LavinditError: A task fails, or the run folder cannot be written to.
        """
        finished = {task.task for task in self.done}
        waiting = {name: task for name, task in self.tasks.items() if task.name not in finished}
        count = _Count(progress, sum(map(self._answers, waiting.values())))
        self.workers = max(1, min(workers, len(waiting)))
        for result in self._side_by_side(waiting, count) if self.workers > 1 else self._in_turn(waiting, count):
            self.done += result.tasks
            write_result(self._joined(result), self.run / RESULT_NAME)
        return read_result(self.run / RESULT_NAME)

    def measure_task(self, name: str) -> RunResult:
        """The result of one of the tasks, which is written nowhere."""
        return next(self._in_turn({name: self.tasks[name]}, _Count(lambda done, total: None, 0)))

    def _in_turn(self, waiting: Mapping[str, Task], count: "_Count") -> Iterator[RunResult]:
        trainer = self._trainer(count)
        for name, task in waiting.items():
            self.task = task.name
            self._test(trainer, name, task)
            assert self.module.result is not None
            yield self.module.result

    def _side_by_side(self, waiting: Mapping[str, Task], count: "_Count") -> Iterator[RunResult]:
        make = partial(
            _bench_of, self.folder, self.name, self.protocol, self.names, self.run, self.device, self.precision
        )
        names = sorted(waiting, key=lambda name: not has_clips(waiting[name]))  # clips take longest
        for result in measure_side_by_side(make, names, self.workers):
            self.task = result.tasks[0].task
            yield result
            count.add(self._answers(next(task for task in waiting.values() if task.name == self.task)))

    def _answers(self, task: Task) -> int:
        return self.protocol.queries(task) * self.protocol.draws

    def _test(self, trainer: Trainer, name: str, task: Task) -> None:
        try:
            trainer.test(self.module, datamodule=self._data([name], task), verbose=False)
        except SystemExit:
            # Lightning ends an interrupted run by exit(1).
            raise KeyboardInterrupt from None

    def _joined(self, newest: RunResult) -> RunResult:
        """The result of all tasks so far, in the order they are named in, from that of the newest one."""
        path = self.run / RESULT_NAME
        kept = read_result(path).applications if path.exists() else []
        order = [task.name for task in self.tasks.values()]
        measured = {task.task for task in self.done}
        left = sum(name not in measured for name in order)
        notes = self.all.notes()
        if left:
            notes.append(
                f"Not finished: {left} of {left + len(self.done)} tasks are missing; the same command goes on."
            )
        model = {key: value for key, value in newest.model.items() if key != "checkpoint"}
        return replace(
            newest,
            command=current_command(),  # a worker does not know it
            commit=self.commit,
            model=self.model | model,
            settings=newest.settings | self._settings(),
            tasks=sorted(self.done, key=lambda task: order.index(task.task) if task.task in order else -1),
            applications=kept,
            notes=notes,
        )

    def _settings(self) -> dict[str, Any]:
        """What a result says of how it was measured."""
        return {
            "protocol": asdict(self.protocol),
            "context": {task.name: task.context for task in self.all.tasks},
            "precision": self.precision,
            "device": self.device.type,
            "workers": self.workers,
        }

    @staticmethod
    def _identity(
        settings: Mapping[str, Any], model: Mapping[str, Any], version: str, commit: str | None
    ) -> dict[str, Any]:
        """What two sittings of one benchmark have in common."""
        named = {name: settings.get(name) for name in ("protocol", "precision", "device")}
        return {"model": model.get("fingerprint"), "version of lavindit": version, "code": commit, **named}

    def _data(self, names: list[str], task: Task | None = None) -> EpisodeData:
        """Episodes of tasks, in the sizes of one of them."""
        clips = task is not None and has_clips(task)
        return EpisodeData(
            tasks=names,
            source=self.source,
            eval_pairs=self.protocol.pairs,
            context_draws=self.protocol.draws,
            test_samples=self.protocol.clips if clips else self.protocol.images,
            eval_batch_size=CLIP_BATCH if clips else BATCH,
            seed=self.protocol.seed,
        )

    def _module(self, engine: Engine) -> BenchmarkModule:
        return BenchmarkModule(
            vae=str(self.folder),
            network=engine.jdit.config,
            sampling=settle(engine.info, seed=self.protocol.seed).sampling,
            seed=int(engine.info.get("seed", 0)),
            strips=STRIPS,
            init_from=str(self.folder),
            vae_chunk=max(1, PIXELS_A_PASS // (CLIP_FRAMES * self.source.resolution**2)),
        )

    def _trainer(self, count: "_Count") -> Trainer:
        kind = "gpu" if self.device.type == "cuda" else self.device.type
        return Trainer(
            accelerator=kind,
            devices=[self.device.index or 0] if kind == "gpu" else 1,
            precision=self.precision,  # pyright: ignore[reportArgumentType] - one of Lightning's
            logger=False,
            callbacks=[count],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=str(self.run),
        )


def _told_apart(found: Any, wanted: Any) -> str:
    """The first value that is not the same in both, the name of the protocol among them."""
    pairs = ((key, found.get(key), wanted[key]) for key in wanted) if isinstance(found, Mapping) else ()
    return next((f": {key} is {one} there, {other} here" for key, one, other in pairs if one != other), "")


def _bench_of(
    folder: Path, name: str, protocol: Protocol, names: list[str], run: Path, device: torch.device, precision: str
) -> Benchmark:
    """The benchmark again, in a worker's process."""
    return Benchmark(folder, name, lambda info: protocol, names, run, device, precision)


class _Count(Callback):
    """Counts answers."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.count = progress, total, 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EpisodeBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self.add(len(batch))

    def add(self, answers: int) -> None:
        """Tell the new count."""
        self.count += answers
        self.progress(self.count, self.total)
