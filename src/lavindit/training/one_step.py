"""One-step training: a J-DiT whose single Euler step is the answer, judged as a picture.

Legend: B batch, C latent channels, T frames, H W pixels, t h w latent size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lavindit.data.latents import LatentsConfig
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference.sampler import SamplingConfig, join_context
from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import query_layout
from lavindit.training.base import normal_rows
from lavindit.training.dit import DiTModule
from lavindit.training.vae import default_optimizer
from lavindit.types import EpisodeBatch, LatentBatch, LatentEpisode

ONE_STEP = SamplingConfig(steps=1, start="zeros")


class OneStepModule(DiTModule):
    """Trains a J-DiT end to end to answer in one step, for tasks that have one right answer.

    x = x_0 + v(x_0, 0) is decoded by the frozen VAE and compared with the target picture where its truth is known. A
    squared error asks for the mean of all answers that are possible: right where there is one, a blur where there are
    many (colours, filled holes). The exported model says `steps: 1`, so it answers in this way without being told.

    Source: Garcia et al., "Fine-Tuning Image-Conditional Diffusion Models is Easier than You Think", 2024, where a
    fixed start of zeros, the mean of the noise, did better than noise.

    Args:
        vae: Model directory of the frozen VAE (or of a whole model).
        init_from: Model directory whose J-DiT training starts from. It must be a trained one: to a new one zeros are
            tokens of zeros, and no gradient comes past them.
        network: Size and options of the J-DiT, those of the model in `init_from`.
        optimizer: Makes the optimizer from the parameters.
        sampling: How it trains, and so how validation, test and the exported model sample: one Euler step without
            guidance; `start` is "zeros" or "noise".
        l1_weight: Weight of the L1 term between pictures.
        latent_weight: Weight of the squared error between latents; 0: pictures alone count.
        **others: As `DiTModule`. `vae_chunk` pictures go through the decoder at a time, each part computed again in
            the backward pass; None: all at once.
    """

    def __init__(
        self,
        vae: str,
        init_from: str,
        network: JDiTConfig = JDiTConfig(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable = default_optimizer,
        sampling: SamplingConfig = ONE_STEP,
        l1_weight: float = 0.0,
        latent_weight: float = 0.0,
        **others: Any,
    ) -> None:
        said = {name: getattr(sampling, name) for name in ("steps", "solver", "guidance", "times")}
        wanted = {name: getattr(ONE_STEP, name) for name in said}
        for name, value in said.items():
            if value != wanted[name]:
                raise LavinditError(f"one-step training needs sampling.{name}: {wanted[name]}, got {value}")
        # What concerns drawn times and the branch without pairs has no say here, so it cannot be named either.
        super().__init__(
            vae,
            network,
            optimizer,
            targets="query",
            noisy_copies=1,
            drop_pairs=0.0,
            time_shift=1.0,
            sampling=sampling,
            task_sampling={},
            init_from=init_from,
            **others,
        )
        self.l1_weight, self.latent_weight = l1_weight, latent_weight

    def check_latents(self, folder: str, config: LatentsConfig) -> None:
        """Refuse all stored latents.

        Raises:
            LavinditError: Always.
        """
        raise LavinditError(
            f"one-step training compares pictures, and the latents in {folder} hold none; leave data.latents out"
        )

    def training_step(self, batch: EpisodeBatch | LatentBatch, batch_idx: int) -> Tensor:
        """One step on a batch of episodes."""
        assert self.network is not None
        assert isinstance(batch, EpisodeBatch)  # `check_latents` has seen to it
        seeds = [seed_from("train", self.seed, number) for number in batch.numbers]
        losses = self.picture_losses(self.network, batch, self._encode(batch, self.micro_step), seeds)
        return self.step_loss(losses, batch.tasks)

    def validation_step(self, batch: EpisodeBatch, batch_idx: int) -> None:
        """Loss on held-out episodes."""
        seeds = [seed_from("val", self.seed, sample_id) for sample_id in batch.sample_ids]
        losses = self.picture_losses(self.averaged(), batch, self._encode(batch, self.seed), seeds)
        self.add_validation(losses, batch.tasks)

    def picture_losses(self, model: JDiT, batch: EpisodeBatch, latent: LatentEpisode, seeds: Sequence[int]) -> Tensor:
        """Loss of each episode [B] between the picture of one step and the query's target."""
        answer = self.one_step(model, latent, seeds)
        valid = torch.stack([episode.query.valid for episode in batch.episodes]).to(answer.device)
        losses = masked_loss(self._decode(answer), 2 * batch.targets[:, -1] - 1, valid, self.l1_weight)
        if self.latent_weight:
            error = answer.float() - latent.targets[:, -1].float()
            losses = losses + self.latent_weight * error.square().flatten(1).mean(1)
        return losses

    def one_step(self, model: JDiT, latent: LatentEpisode, seeds: Sequence[int]) -> Tensor:
        """Latents of the answers [B, C, t, h, w] after one Euler step over the whole of time."""
        query, target = latent.inputs[:, -1], latent.targets[:, -1]
        if self.sampling.start == "zeros":
            start = torch.zeros_like(target)
        else:
            start = normal_rows(seeds, target.shape[1:], target.device).to(target)
        context = join_context(latent)
        layout = query_layout(model.config.context_attention, context.shape[2], target.shape[2], query.shape[2])
        return start + model(start, start.new_zeros(len(start)), context, layout)

    def _decode(self, latent: Tensor) -> Tensor:
        """Pixels [B, 3, T, H, W], about [-1, 1], with the gradient that `to_pictures` cuts where it clamps."""
        vae = self.frozen_vae()
        z = vae.denormalise(latent)
        if self.vae_chunk is None or not z.requires_grad:
            return torch.cat([vae.decode(part) for part in z.split(self.vae_chunk or len(z))])
        parts = [checkpoint(vae.decode, part, use_reentrant=False) for part in z.split(self.vae_chunk)]
        return torch.cat([part for part in parts if isinstance(part, Tensor)])


def masked_loss(output: Tensor, pixels: Tensor, valid: Tensor, l1_weight: float = 0.0) -> Tensor:
    """Mean squared error over valid pixels, plus `l1_weight` times the mean absolute one, a sample.

    Args:
        output: [B, 3, T, H, W].
        pixels: Same shape.
        valid: bool [B, 1, T, H, W].
        l1_weight: Weight of the L1 term.

    Returns:
        [B]; 0 for a sample without a valid pixel.
    """
    # Chosen and not multiplied: where nothing is known, a picture may hold anything.
    error = torch.where(valid, output.float() - pixels.float(), 0.0).flatten(1)
    count = (valid.flatten(1).sum(1) * output.shape[1]).clamp_min(1)
    loss = error.square().sum(1) / count
    return loss + l1_weight * error.abs().sum(1) / count if l1_weight else loss
