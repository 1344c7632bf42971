"""What the VAE's and the J-DiT's training share: networks, optimizer, schedule, average, seeds, export."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from lavindit import __version__
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.models import ModelBundle, save_model
from lavindit.training.checkpoints import FORMAT, FORMAT_KEY, last_checkpoint
from lavindit.training.checks import save_batch, sum_of
from lavindit.training.ema import EMA, averaged_copy
from lavindit.training.parallel import shard
from lavindit.training.schedule import TimeBudget, trapezoid
from lavindit.types import EpisodeBatch, LatentBatch

KIND_KEY = "lavindit_kind"
STEPS_KEY = "lavindit_steps"
UPDATES_KEY = "lavindit_average_updates"
TASKS_KEY = "lavindit_tasks"


class TrainedModule(LightningModule):
    """A LightningModule with one trained network and an average of its weights.

    Validation, test, prediction and the exported model use the average. The random numbers of a training step belong
    to the episodes in it, so that a resumed run repeats an undisturbed one, on any number of processes.

    Args:
        optimizer: Makes the optimizer from the parameters.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the learning rate falls to zero.
        ema_decay: Decay of the weight average.
        seed: Seed of noise and times in training.

    Attributes:
        network: The trained network; None until `configure_model`.
        average: A network with the average of its weights.
        trained_tasks: Names of the tasks that a loaded checkpoint was trained on; None where it does not say.
    """

    kind: str
    network: Any
    average: Any

    def __init__(
        self,
        optimizer: OptimizerCallable,
        warmup_steps: int,
        decay_share: float,
        ema_decay: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.warmup_steps, self.decay_share, self.ema_decay, self.seed = warmup_steps, decay_share, ema_decay, seed
        self.network = self.average = None
        self.ema: EMA | None = None
        self._validation: dict[str, tuple[Tensor | float, int]] = {}
        self._batch: EpisodeBatch | LatentBatch | None = None
        self.trained_steps = self._average_updates = 0
        self.trained_tasks: list[str] | None = None

    def build_network(self) -> nn.Module:
        """A new network with its weights as training starts from them."""
        raise NotImplementedError

    def bundle(self, network: nn.Module) -> ModelBundle:
        """What `export` writes, with the averaged network."""
        raise NotImplementedError

    def measure(self) -> None:
        """Find what an exported model needs beside its weights; every process takes part."""

    def configure_model(self) -> None:
        """Build the network and its average, sharded where the strategy asks for it; once."""
        if self.network is not None:
            return
        network = self.build_network()
        self._spread(network)
        self.average = averaged_copy(network, self.build_empty, self._spread).eval()
        self.network = network

    def averaged(self) -> Any:
        """The network with averaged weights."""
        assert self.average is not None
        return self.average

    def build_empty(self) -> nn.Module:
        """A network of the same structure, whatever its weights."""
        return self.build_network()

    def configure_optimizers(self) -> Any:
        """The optimizer with the schedule, by step."""
        assert self.network is not None
        optimizer = self.make_optimizer(p for p in self.network.parameters() if p.requires_grad)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Start the average, or go on with a stored one; the strategy has placed the networks by now."""
        assert self.network is not None
        assert self.average is not None
        self.ema = EMA(self.network, self.average, self.ema_decay)
        self.ema.updates = self._average_updates

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what is drawn without a seed of its own: skipped sublayers. Keep the batch, should it go wrong."""
        self._batch = batch
        torch.manual_seed(seed_from("step", self.seed, self.micro_step, self.global_rank))

    @property
    def micro_step(self) -> int:
        """Number of the current batch, counted over all sittings."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.ready

    def require_finite(self, value: Tensor, name: str) -> None:
        """Stop the run before a number that is not finite gets into weights, average or checkpoint.

        Args:
            value: Scalar of this process; if one process has a bad one, all stop.
            name: What it is, for the message.

        Raises:
            LavinditError: It is NaN or infinite; the batch lies in RUN/not_finite.
        """
        bad = not bool(torch.isfinite(value))
        if not self.trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        run, step = Path(self.trainer.default_root_dir), self.trainer.global_step
        saved = ""
        if self._batch is not None:  # none before the first step
            path = save_batch(self._batch, run, step, self.global_rank)
            saved = f"; the batch of process {self.global_rank} is in {path}"
        kept = last_checkpoint(run)
        left = f"; {kept} is kept, and the same command goes on from it" if kept.exists() else ""
        raise LavinditError(
            f"the {name} of step {step} is not finite{saved}{left}; lower the learning rate, or clip gradients"
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and average the weights at once: a checkpoint is written before `on_train_batch_end` gets here."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update()

    def train(self, mode: bool = True) -> "TrainedModule":
        """Training mode for the trained network alone."""
        super().train(mode)
        if self.average is not None:
            self.average.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the weights do not tell; weights that are not finite do not take a good checkpoint's place."""
        self.require_finite(sum_of(self.parameters()), "sum of the weights")
        checkpoint[FORMAT_KEY], checkpoint[KIND_KEY] = FORMAT, self.kind
        checkpoint[STEPS_KEY] = self.trainer.global_step
        checkpoint[UPDATES_KEY] = self.ema.updates if self.ema is not None else self._average_updates
        checkpoint[TASKS_KEY] = self.training_info()["tasks"]

    def check_fit(self, checkpoint: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse a checkpoint of another kind or size, before anything of it is loaded.

        Args:
            checkpoint: What it says of itself.
            shapes: Shape of every weight in it.

        Raises:
            LavinditError: It does not fit.
        """
        kind = checkpoint.get(KIND_KEY)
        if kind != self.kind:
            raise LavinditError(f"the checkpoint is of kind {kind!r}, this config trains kind {self.kind!r}")
        own = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        for name in sorted(own.keys() | shapes.keys()):
            found = tuple(shapes[name]) if name in shapes else "missing"
            if found != own.get(name, "unknown"):
                raise LavinditError(
                    f"the checkpoint is of another network: {name} is {found} in it, {own.get(name, 'unknown')} in "
                    "this config; give the config it was trained with, or --restart true"
                )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over where it stood."""
        if "state_dict" in checkpoint:  # a sharded one is checked and loaded by its strategy
            self.check_fit(checkpoint, {name: value.shape for name, value in checkpoint["state_dict"].items()})
        self.trained_steps, self._average_updates = int(checkpoint[STEPS_KEY]), int(checkpoint[UPDATES_KEY])
        self.trained_tasks = checkpoint.get(TASKS_KEY)
        if self.ema is not None:  # some strategies load after the start
            self.ema.updates = self._average_updates

    def export(self, folder: Path) -> None:
        """Write the model with averaged weights as a model directory; every process takes part, the first writes."""
        assert self.average is not None
        weights = get_model_state_dict(
            self.average, options=StateDictOptions(full_state_dict=True, cpu_offload=self.trainer.world_size > 1)
        )
        if self.trainer.is_global_zero:
            with torch.device("meta"):
                network = self.build_empty()
            network.load_state_dict(weights, assign=True)
            save_model(self.bundle(network), folder)

    def _spread(self, network: nn.Module) -> None:
        if self.device_mesh is not None:
            shard(network, self.device_mesh["data_parallel"], mixed=self.trainer.precision == "bf16-mixed")

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

    def log_training(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Log the loss over all processes, and that of each task in this one's batch; losses [B]."""
        self.log("train_loss", losses.detach().mean(), prog_bar=True, batch_size=len(losses), sync_dist=True)
        for task in sorted(set(tasks)):
            chosen = torch.tensor([name == task for name in tasks], device=losses.device)
            self.log(f"train_loss/{task}", losses.detach()[chosen].mean(), batch_size=int(chosen.sum()))

    def on_validation_epoch_start(self) -> None:
        """Start the sums."""
        self._validation = {}

    def add_validation(self, losses: Tensor, tasks: list[str]) -> None:
        """Add the losses [B] of a validation batch to the sums of their tasks."""
        for loss, task in zip(losses.detach().double(), tasks, strict=True):
            total, count = self._validation.get(task, (0.0, 0))
            self._validation[task] = (total + loss, count + 1)

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss, and that of each task, over all processes."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        names = sorted({"input", *(task.name for task in data.trained_tasks)})
        sums = torch.tensor([self._validation.get(name, (0.0, 0)) for name in names], device=self.device)
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        self.log("val_loss", sums[:, 0].sum() / sums[:, 1].sum(), sync_dist=True)
        for name, (total, count) in zip(names, sums, strict=True):
            if count:
                self.log(f"val_loss/{name}", total / count, sync_dist=True)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm over all processes; FSDP1 alone knows its own."""
        if isinstance(self.trainer.strategy, FSDPStrategy) and gradient_clip_val:
            self.trainer.strategy.model.clip_grad_norm_(gradient_clip_val)  # pyright: ignore
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(found)
        self.require_finite(norm.full_tensor() if isinstance(norm, DTensor) else norm, "gradient")

    def _rate(self, step: int, before: int = 0) -> float:
        """Factor on the learning rate at a step of an optimizer that began `before` steps into the run."""
        trainer = self.trainer
        total = trainer.max_steps if trainer.max_steps and trainer.max_steps > 0 else 0
        clock = next((c for c in trainer.callbacks if isinstance(c, TimeBudget)), None)  # pyright: ignore
        progress = max((step + before) / total if total else 0.0, clock.progress if clock else 0.0)
        return trapezoid(progress, step, self.warmup_steps, self.decay_share)


def normal_rows(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal noise [len(seeds), *shape], each row from its own seed."""
    generator = torch.Generator(device)
    return torch.stack(
        [torch.randn(tuple(shape), generator=generator.manual_seed(seed), device=device) for seed in seeds]
    )
