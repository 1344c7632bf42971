"""Callbacks and plugins that every run gets."""

import sys
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from lavindit.clips import save_clip
from lavindit.interrupts import PatientInterrupt, interrupt_on_sigterm
from lavindit.models.store import CONFIG_NAME, read_description
from lavindit.pictures import save_picture
from lavindit.training.base import TrainedModule
from lavindit.training.checkpoints import CHECKPOINTS, LAST, last_checkpoint
from lavindit.types import EpisodeBatch

MODEL = "model"
REPORT_EVERY_S = 10.0


def checkpoint_callback(run: Path | str, every_n_steps: int) -> ModelCheckpoint:
    """Keeps the newest state of a run, and its state at the end, under one name."""
    return _NewestState(
        dirpath=Path(run) / CHECKPOINTS,
        filename=LAST.removesuffix(".ckpt"),
        every_n_train_steps=every_n_steps,
        save_top_k=1,
        enable_version_counter=False,
        save_on_exception=False,
    )


class _NewestState(ModelCheckpoint):
    """Stores only what an optimizer step has just made; where a run is interrupted, the step that it is in.

    Lightning's callback forgets in a resumed run that the step it starts from is stored, and would store it again after
    the next batch; under accumulation that batch's gradients are in no checkpoint.

    Several processes do not get a signal in the same step, so a run of several ends at once when it is interrupted,
    and goes on from the checkpoint before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interrupt = PatientInterrupt("lavindit: interrupted; this step is finished and stored (again: at once)")
        self._step, self._stored = 0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know the step that the run goes on from."""
        super().on_train_start(trainer, pl_module)
        self._step = self._last_global_step_saved = trainer.global_step
        if trainer.world_size == 1:
            self._interrupt.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store what is due, and of an interrupted run the step that it was in; the loggers get that after this."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        before, self._step = self._step, trainer.global_step
        self._stored = self._interrupt.asked and self._step > before
        if self._stored and self._last_global_step_saved != self._step:
            trainer.save_checkpoint(last_checkpoint(trainer.default_root_dir), weights_only=False)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End an interrupted run."""
        self._end()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As before a batch."""
        self._end()

    def _end(self) -> None:
        if self._stored:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Interruptions end the run at once again."""
        self._interrupt.stop()
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self._interrupt.stop()
        super().on_exception(trainer, pl_module, exception)


class FinalState(Callback):
    """At the end of training, stores the last checkpoint and exports the model with averaged weights.

    Of an interruption, it says where the run goes on from.
    """

    trained = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that this sitting took a step."""
        FinalState.trained = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new sitting."""
        FinalState.trained = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what is left of an interrupted run."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            path = last_checkpoint(trainer.default_root_dir)
            left = f"{path} is kept; the same command goes on from it" if path.exists() else "no checkpoint yet"
            print(f"\nlavindit: interrupted at step {trainer.global_step}; {left}", file=sys.stderr)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write RUN/checkpoints/last.ckpt and RUN/model, also where an earlier sitting ended just before it could."""
        run = Path(trainer.default_root_dir)
        if not FinalState.trained:
            if trainer.global_step == 0 or _steps_of(run / MODEL) == trainer.global_step:
                return
            FinalState.trained = True
            if isinstance(pl_module, TrainedModule):
                pl_module.measure()
        trainer.save_checkpoint(last_checkpoint(run), weights_only=False)  # the optimizer, too
        if isinstance(pl_module, TrainedModule):
            pl_module.export(run / MODEL)


def _steps_of(model: Path) -> int | None:
    """Steps that a model directory was trained for; None if there is none."""
    return read_description(model).info.get("steps") if (model / CONFIG_NAME).is_file() else None


class ProgressBar(RichProgressBar):
    """Rich's bar without the epoch: training is one stream of steps."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The losses, without the logger's version."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class ProgressLines(Callback):
    """One line of progress every ten seconds, where a progress bar cannot be drawn."""

    def __init__(self) -> None:
        self._started = self._said = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = self._said = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far training is."""
        if not self._is_due(trainer):
            return
        done = trainer.global_step - self._first_step
        loss = trainer.callback_metrics.get("train_loss")
        total = f"/{trainer.max_steps}" if trainer.max_steps and trainer.max_steps > 0 else ""
        pace = (self._said - self._started) / max(done, 1)
        shown = f" loss {float(loss):.4f}" if loss is not None else ""
        print(f"step {trainer.global_step}{total}{shown}  {pace:.2f} s a step", file=sys.stderr, flush=True)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EpisodeBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say which task is tested, and how far."""
        if not self._is_due(trainer):
            return
        batches = trainer.num_test_batches
        place = f"task {dataloader_idx + 1} of {len(batches)}, batch {batch_idx + 1} of {batches[dataloader_idx]}"
        print(f"testing {batch.tasks[0]}: {place}", file=sys.stderr, flush=True)

    def _is_due(self, trainer: Trainer) -> bool:
        """Whether ten seconds have passed since the last line, which this one then is."""
        now = time.monotonic()
        if now - self._said < REPORT_EVERY_S or not trainer.is_global_zero:
            return False
        self._said = now
        return True


class TerminationHandler(Callback):
    """Ends a run that gets SIGTERM as one that gets Ctrl-C.

    Lightning's handler broadcasts from within the signal, so that processes that get it at once, as from a scheduler,
    may wait for each other for ever.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place that Lightning has just taken; it gives back what was there before it."""
        interrupt_on_sigterm()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As for training, but within a training, which waits for its step."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            interrupt_on_sigterm()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As for training."""
        interrupt_on_sigterm()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As for training."""
        interrupt_on_sigterm()


class PredictionWriter(Callback):
    """Writes the answers of `lavindit predict` to RUN/predictions, named by sample id; a clip as a folder of frames."""

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EpisodeBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a batch."""
        for sample_id, picture in zip(batch.sample_ids, outputs, strict=True):
            path = Path(trainer.default_root_dir) / "predictions" / sample_id.replace("/", "_")
            if picture.shape[1] > 1:
                save_clip(picture, path)
            else:
                save_picture(picture, path.with_name(path.name + ".png"))
