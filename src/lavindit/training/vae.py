"""Training of the ST-VAE."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.losses import reconstruction_loss
from lavindit.models import STVAE, ModelBundle, STVAEConfig
from lavindit.training.base import TrainedModule, normal_rows
from lavindit.training.results import TestRecorder
from lavindit.types import EpisodeBatch

STATISTICS_MOMENTUM = 0.99


def default_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """AdamW as the experiments start from; a config names another."""
    return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)


class VAEModule(TrainedModule):
    """Trains a VAE on every picture of the mixture's episodes: inputs and targets alike.

    Loss: MSE + l1_weight L1 + kl_weight KL, the KL summed over the latent and averaged over the batch, as in
    the paper. Statistics of the latents are measured along the way and stored with the weights.

    Args:
        network: Size and options of the VAE.
        optimizer: Makes the optimizer from the parameters.
        kl_weight: Weight of the KL term.
        l1_weight: Weight of the L1 term.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the learning rate falls to zero.
        ema_decay: Decay of the weight average.
        seed: Seed of the posterior samples.
        kl_omits_width: Leave the latent's width out of the KL's sum, as the release does.
    """

    kind = "vae"
    network: STVAE | None
    average: STVAE | None
    latent_moments: Tensor

    def __init__(
        self,
        network: STVAEConfig = STVAEConfig(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable = default_optimizer,
        kl_weight: float = 1e-6,
        l1_weight: float = 0.0,
        warmup_steps: int = 50,
        decay_share: float = 0.4,
        ema_decay: float = 0.99,
        seed: int = 0,
        kl_omits_width: bool = False,
    ) -> None:
        super().__init__(optimizer, warmup_steps, decay_share, ema_decay, seed)
        self.network_config, self.kl_weight, self.l1_weight = network, kl_weight, l1_weight
        self.kl_omits_width = kl_omits_width
        self.recorder: TestRecorder | None = None
        self.register_buffer("latent_moments", torch.zeros(3, network.latent_channels))

    def build_network(self) -> STVAE:
        """A VAE with new weights."""
        return STVAE(self.network_config)

    def configure_model(self) -> None:
        """Build the networks; a VAE is small enough to be whole in every process."""
        if self.device_mesh is not None:
            raise LavinditError("the VAE trains on one device or under DDP: trainer.strategy: ddp")
        super().configure_model()

    def bundle(self, network: nn.Module) -> ModelBundle:
        """The VAE with the latent statistics measured so far."""
        assert isinstance(network, STVAE)
        weight, first, second = self.latent_moments.cpu()
        if weight.max() > 0:
            mean = first / weight
            std = (second / weight - mean**2).clamp(min=1e-6).sqrt()
            network.latent_shift = mean
            network.latent_scale = 1 / std
        return ModelBundle(network, info=self.training_info())

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """One step on the queries' inputs and targets of a batch."""
        assert self.network is not None
        seeds = [seed_from("train", self.seed, number) for number in batch.numbers]
        losses, means = self._losses(self.network, batch, seeds)
        self._measure(means)
        self.log_training(losses, _names_of(batch))
        return losses.mean()

    def validation_step(self, batch: EpisodeBatch, batch_idx: int) -> None:
        """Loss on held-out pictures."""
        seeds = [seed_from("val", self.seed, sample_id) for sample_id in batch.sample_ids]
        losses, _ = self._losses(self.averaged(), batch, seeds)
        self.add_validation(losses, _names_of(batch))

    def on_test_start(self) -> None:
        """Prepare the records of the test."""
        super().on_test_start()
        self.recorder = TestRecorder(self, {"mode": "reconstruction of the task's targets by the VAE"})

    def test_step(self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score the reconstruction of each task's targets in native units."""
        assert self.recorder is not None
        vae = self.averaged()
        with self.recorder.clock() as clock:
            rebuilt = self._reconstruct(vae, batch.targets[:, -1])
        self.recorder.record(batch, rebuilt, None, clock.seconds)

    def on_test_end(self) -> None:
        """Write the result."""
        super().on_test_end()
        assert self.recorder is not None
        self.recorder.write()

    @staticmethod
    def _reconstruct(vae: STVAE, pictures: Tensor) -> Tensor:
        return ((vae.decode(vae.encode(pictures * 2 - 1).mean) + 1) / 2).clamp(0, 1)

    def _losses(self, vae: STVAE, batch: EpisodeBatch, seeds: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Loss of each picture [N] of a batch, its inputs first, and the posterior means [*, C, t, h, w].

        Each of the `seeds` [B] gives the noise of an episode's inputs, then that of its targets.
        """
        parts = [batch.inputs.flatten(0, 1), batch.targets.flatten(0, 1)]
        shapes = [vae.latent_shape(part) for part in parts]
        sizes = [batch.inputs.shape[1] * math.prod(shape) for shape in shapes]
        noise = normal_rows(seeds, (sum(sizes),), batch.inputs.device).split(sizes, 1)
        noises = [rows.reshape(-1, *shape) for rows, shape in zip(noise, shapes, strict=True)]
        if shapes[0] == shapes[1]:
            parts, noises = [torch.cat(parts)], [torch.cat(noises)]
        found = [self._losses_of(vae, *part) for part in zip(parts, noises, strict=True)]
        return torch.cat([losses for losses, _ in found]), [mean.detach() for _, mean in found]

    def _losses_of(self, vae: STVAE, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each picture [N], and the posterior mean; pictures [N, 3, T, H, W], noise [N, C, t, h, w]."""
        pixels = pictures * 2 - 1
        posterior = vae.encode(pixels)
        loss = reconstruction_loss(vae.decode(posterior.at(noise)), pixels, self.l1_weight)
        return loss + self.kl_weight * posterior.kl(self.kl_omits_width), posterior.mean

    @torch.no_grad()
    def _measure(self, means: Sequence[Tensor]) -> None:
        """Running moments of the latents [*, C, t, h, w], by channel: weight, first and second moment."""
        values = torch.cat([mean.transpose(0, 1).flatten(1) for mean in means], 1)
        moments = torch.stack([torch.ones_like(values[:, 0]), values.mean(1), values.square().mean(1)])
        moments = self.trainer.strategy.reduce(moments, reduce_op="mean")
        self.latent_moments.lerp_(moments.to(self.latent_moments), 1 - STATISTICS_MOMENTUM)


def _names_of(batch: EpisodeBatch) -> list[str]:
    """What each picture of a batch is, inputs first: "input" or its task."""
    repeats = batch.inputs.shape[1]
    return ["input"] * (len(batch) * repeats) + [task for task in batch.tasks for _ in range(repeats)]
