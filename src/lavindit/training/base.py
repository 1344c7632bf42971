"""What the VAE's and the J-DiT's training share: optimizer, schedule, EMA, seeds, export."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lavindit import __version__
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.models import ModelBundle, save_model
from lavindit.training.ema import EMA
from lavindit.training.schedule import TimeBudget, trapezoid

EMA_KEY = "lavindit_ema"
KIND_KEY = "lavindit_kind"
STEPS_KEY = "lavindit_steps"


class TrainedModule(LightningModule):
    """A LightningModule with one trained network and an average of its weights.

    Validation, test, prediction and the exported model use the average. Every training step draws its random
    numbers from (seed, step, process), so a resumed run repeats an undisturbed one.

    Args:
        optimizer: Makes the optimizer from the parameters.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the learning rate falls to zero.
        ema_decay: Decay of the weight average.
        seed: Seed of noise and times in training.
    """

    kind: str

    def __init__(
        self, optimizer: OptimizerCallable, warmup_steps: int, decay_share: float, ema_decay: float, seed: int
    ) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.warmup_steps, self.decay_share, self.ema_decay, self.seed = warmup_steps, decay_share, ema_decay, seed
        self.ema: EMA | None = None
        self._ema_state: dict[str, Any] | None = None
        self.trained_steps = 0

    def trained_network(self) -> nn.Module:
        """The network whose weights are trained, averaged and stored."""
        raise NotImplementedError

    def bundle(self) -> ModelBundle:
        """What `export` writes."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        """The optimizer with the schedule, by step."""
        optimizer = self.make_optimizer(p for p in self.trained_network().parameters() if p.requires_grad)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Start the average, or go on with a stored one."""
        self._ready_ema()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        step = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        torch.manual_seed(seed_from("step", self.seed, step, self.global_rank))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and average the weights at once: a checkpoint is written before `on_train_batch_end` gets here."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update()

    def on_validation_start(self) -> None:
        """Validate with the average."""
        self._swap()

    def on_validation_end(self) -> None:
        """Train on with the live weights."""
        self._swap()

    def on_test_start(self) -> None:
        """Test with the average."""
        self._swap()

    def on_test_end(self) -> None:
        """Put the live weights back."""
        self._swap()

    def on_predict_start(self) -> None:
        """Predict with the average."""
        self._swap()

    def on_predict_end(self) -> None:
        """Put the live weights back."""
        self._swap()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the average beside the live weights."""
        checkpoint[KIND_KEY] = self.kind
        checkpoint[STEPS_KEY] = self.trainer.global_step
        if self.ema is not None:
            checkpoint[EMA_KEY] = self.ema.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the average over; refuse a checkpoint of another kind."""
        kind = checkpoint.get(KIND_KEY)
        if kind != self.kind:
            raise LavinditError(f"the checkpoint is of kind {kind!r}, this config trains kind {self.kind!r}")
        self._ema_state = checkpoint.get(EMA_KEY)
        self.trained_steps = int(checkpoint.get(STEPS_KEY, 0))

    def export(self, folder: Path) -> None:
        """Write the model with averaged weights as a model directory."""
        if self.ema is None:
            save_model(self.bundle(), folder)
            return
        with self.ema.swapped_in():
            save_model(self.bundle(), folder)

    def training_info(self) -> dict[str, Any]:
        """Where the exported weights come from."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        return {
            "lavindit_version": __version__,
            "resolution": data.source.resolution,
            "tasks": sorted(task.name for task in data.trained_tasks),
            "steps": self.trainer.global_step,
            "seed": self.seed,
        }

    def log_by_task(self, losses: Tensor, tasks: list[str], stage: str) -> None:
        """Log the mean loss of each task that is in the batch; losses [B]."""
        for task in sorted(set(tasks)):
            chosen = torch.tensor([name == task for name in tasks], device=losses.device)
            self.log(f"{stage}_loss/{task}", losses.detach()[chosen].mean(), batch_size=int(chosen.sum()))

    def _rate(self, step: int) -> float:
        trainer = self.trainer
        total = trainer.max_steps if trainer.max_steps and trainer.max_steps > 0 else 0
        clock = next((c for c in trainer.callbacks if isinstance(c, TimeBudget)), None)  # pyright: ignore
        progress = max(step / total if total else 0.0, clock.progress if clock else 0.0)
        return trapezoid(progress, step, self.warmup_steps, self.decay_share)

    def _ready_ema(self) -> None:
        if self.ema is None:
            self.ema = EMA(self.trained_network().named_parameters(), self.ema_decay)
        if self._ema_state is not None:
            self.ema.load_state_dict(self._ema_state)
            self._ema_state = None

    def _swap(self) -> None:
        if self.ema is None and self._ema_state is not None:
            self._ready_ema()
        if self.ema is not None:
            self.ema.swap()
