"""Short trainings of a tiny VAE, for tests."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lavindit.data import EpisodeData, SourceConfig
from lavindit.models import STVAEConfig
from lavindit.models.discriminator import DiscriminatorConfig
from lavindit.training import VAEModule
from lavindit.training.checkpoints import AtomicCheckpointIO
from lavindit.training.vae_losses import AdversarialConfig

NETWORK = {"widths": (16, 16, 16), "decoder_blocks": 1, "norm_groups": 8, "patch": 4, "conv": "2+1d"}
NETWORK |= {"linear_shortcut": True}
SOURCE = SourceConfig(resolution=32, scenes=8, test_scenes=8, clips=2, test_clips=2)
IMAGES = ["colorization", "depth_estimation"]
MIXED = [*IMAGES, "video_depth_estimation"]
SMALL = DiscriminatorConfig(width=8, layers=1)
sgd = partial(torch.optim.SGD, lr=0.05)


def make_data(tasks: Sequence[str] = IMAGES, **options: Any) -> EpisodeData:
    plain = {"source": SOURCE, "batch_size": 4, "clip_batch_size": 2, "min_pairs": 0, "max_pairs": 0}
    return EpisodeData(list(tasks), **(plain | options))


def make_module(adversary: dict[str, Any] | None = None, network: dict[str, Any] | None = None, **options: Any):
    plain = {"warmup_steps": 1, "decay_share": 0.0, "ema_decay": 0.9, "statistics_batches": 1}
    if adversary is not None:
        options["adversarial"] = AdversarialConfig(**({"weight": 0.1, "discriminator": SMALL} | adversary))
    return VAEModule(STVAEConfig(**(NETWORK | (network or {}))), **(plain | options))


class Course(Callback):
    """What happened in each batch."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.metrics: list[dict[str, float]] = []
        self.steps: list[int] = []
        self.frames: list[int] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._keep(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.losses.append(self.metrics[-1]["train_loss"])
        self.steps.append(trainer.global_step)
        self.frames.append(batch.targets.shape[3])
        self._keep(pl_module)

    def _keep(self, module: Any) -> None:
        self.weights.append({name: value.detach().clone() for name, value in module.named_parameters()})

    def moves(self, part: str) -> list[float]:
        """How far the weights of a part went in each batch."""
        own = [name for name in self.weights[0] if name.startswith(f"{part}.")]
        return [
            float(torch.cat([(after[name] - before[name]).flatten() for name in own]).norm())
            for before, after in zip(self.weights, self.weights[1:], strict=False)
        ]


def fit(
    module: VAEModule,
    data: EpisodeData,
    steps: int,
    run: Path,
    callbacks: Sequence[Callback] = (),
    resume: Path | None = None,
    seed: int = 0,
    **options: Any,
) -> Trainer:
    torch.manual_seed(seed)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        default_root_dir=run,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **options,
    )
    trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else str(resume))
    return trainer


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the bit, all the way down."""
    assert type(a) is type(b), where
    if isinstance(a, Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for place, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}/{place}")
    else:
        assert a == b, where
