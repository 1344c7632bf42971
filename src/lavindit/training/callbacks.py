"""Callbacks and plugins that every run gets."""

import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.training.base import TrainedModule
from lavindit.types import EpisodeBatch

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
MODEL = "model"
REPORT_EVERY_S = 10.0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written under a temporary name and renamed, and read without running any code of theirs."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Write whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, temporary)
            os.replace(temporary, path)
        except OSError as error:
            raise LavinditError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error

    def load_checkpoint(
        self, path: _PATH, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values only."""
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except FileNotFoundError:
            raise LavinditError(f"no checkpoint {path}") from None
        except pickle.UnpicklingError:
            raise LavinditError(
                f"{path} is no checkpoint, or holds more than tensors and plain values; it is not read"
            ) from None
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LavinditError(f"cannot read the checkpoint {path}: {reason}") from error
        if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
            raise LavinditError(f"{path} is a torch file, but no checkpoint of a lavindit run")
        return checkpoint


def last_checkpoint(run: Path | str) -> Path:
    """Where a run keeps its newest checkpoint."""
    return Path(run) / CHECKPOINTS / LAST


def checkpoint_callback(run: Path | str, every_n_steps: int) -> ModelCheckpoint:
    """Keeps the newest state of a run, and its state at the end, in one file."""
    return ModelCheckpoint(
        dirpath=Path(run) / CHECKPOINTS,
        filename=LAST.removesuffix(".ckpt"),
        every_n_train_steps=every_n_steps,
        save_top_k=1,
        enable_version_counter=False,
        save_on_exception=False,
    )


class FinalState(Callback):
    """At the end of training, stores the last checkpoint and exports the model with averaged weights.

    An interrupted step may be half done, so an interruption stores nothing: it says where the run goes on from.
    """

    interrupted = False
    trained = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that this sitting took a step."""
        FinalState.trained = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new sitting."""
        FinalState.trained = FinalState.interrupted = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what is left of an interrupted run."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            FinalState.interrupted = True
            path = last_checkpoint(trainer.default_root_dir)
            left = f"{path} is kept; the same command goes on from it" if path.is_file() else "no checkpoint yet"
            print(f"\nlavindit: interrupted at step {trainer.global_step}; {left}", file=sys.stderr)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write RUN/checkpoints/last.ckpt and RUN/model."""
        if not FinalState.trained:
            return
        run = Path(trainer.default_root_dir)
        trainer.save_checkpoint(last_checkpoint(run), weights_only=False)  # the optimizer, too
        if trainer.is_global_zero and isinstance(pl_module, TrainedModule):
            pl_module.export(run / MODEL)


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
        now = time.monotonic()
        if now - self._said < REPORT_EVERY_S or not trainer.is_global_zero:
            return
        self._said = now
        done = trainer.global_step - self._first_step
        loss = trainer.callback_metrics.get("train_loss")
        total = f"/{trainer.max_steps}" if trainer.max_steps and trainer.max_steps > 0 else ""
        pace = (now - self._started) / max(done, 1)
        shown = f" loss {float(loss):.4f}" if loss is not None else ""
        print(f"step {trainer.global_step}{total}{shown}  {pace:.2f} s a step", file=sys.stderr, flush=True)


class PredictionWriter(Callback):
    """Writes the answers of `lavindit predict` to RUN/predictions, named by sample id."""

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
            name = sample_id.replace("/", "_") + ".png"
            save_picture(picture, Path(trainer.default_root_dir) / "predictions" / name)
