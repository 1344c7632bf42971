"""Training and test of the J-DiT in the latent space of a frozen VAE."""

from dataclasses import asdict
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.flow import interpolate, logit_normal_times, shift_times, velocity
from lavindit.inference.sampler import SamplingConfig, answer_batch, encode_batch, join_context, null_context
from lavindit.losses import flow_matching_loss
from lavindit.models import STVAE, JDiT, JDiTConfig, ModelBundle, load_model
from lavindit.models.jdit import every_pair_layout, query_layout
from lavindit.training.base import TrainedModule
from lavindit.training.results import TestRecorder
from lavindit.training.vae import default_optimizer
from lavindit.types import EpisodeBatch, LatentEpisode


class DiTModule(TrainedModule):
    """Trains a J-DiT by flow matching on in-context episodes.

    Args:
        vae: Model directory of the frozen VAE (or of a whole model).
        network: Size and options of the J-DiT.
        optimizer: Makes the optimizer from the parameters.
        targets: "query": the query's target is noised (the paper). "every_pair": so is the target of every pair,
            each seeing only what stands before it; needs `context_attention: causal`.
        noisy_copies: With "every_pair", how many noise levels of each target one pass trains.
        drop_pairs: Probability that an episode loses its pairs, for guidance; "every_pair" needs none, its first
            target has none anyway.
        l1_weight: Weight of the L1 term (the release: 0.1).
        time_shift: Shift of the training times.
        sampling: How validation and test sample.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the learning rate falls to zero.
        ema_decay: Decay of the weight average.
        seed: Seed of noise and times.
        strips: Episodes a task whose pictures the report shows.
    """

    kind = "jdit"

    def __init__(
        self,
        vae: str,
        network: JDiTConfig = JDiTConfig(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable = default_optimizer,
        targets: Literal["query", "every_pair"] = "query",
        noisy_copies: int = 1,
        drop_pairs: float = 0.1,
        l1_weight: float = 0.0,
        time_shift: float = 1.0,
        sampling: SamplingConfig = SamplingConfig(),  # noqa: B008 - frozen
        warmup_steps: int = 50,
        decay_share: float = 0.4,
        ema_decay: float = 0.995,
        seed: int = 0,
        strips: int = 3,
    ) -> None:
        super().__init__(optimizer, warmup_steps, decay_share, ema_decay, seed)
        if targets == "every_pair" and network.context_attention != "causal":
            raise LavinditError("targets: every_pair needs network.context_attention: causal")
        self.vae_path, self.network_config, self.targets, self.noisy_copies = vae, network, targets, noisy_copies
        self.drop_pairs, self.l1_weight, self.time_shift = drop_pairs, l1_weight, time_shift
        self.sampling, self.strips = sampling, strips
        self.vae: STVAE | None = None
        self.jdit: JDiT | None = None
        self.recorder: TestRecorder | None = None
        self.strict_loading = False  # the frozen VAE is not in the checkpoint

    def configure_model(self) -> None:
        """Build the network and load the VAE, once."""
        if self.jdit is None:
            self.vae = load_model(self.vae_path).vae.requires_grad_(False)
            self.jdit = JDiT(self.network_config)

    def trained_network(self) -> JDiT:
        """The J-DiT."""
        self.configure_model()
        assert self.jdit is not None
        return self.jdit

    def frozen_vae(self) -> STVAE:
        """The VAE."""
        self.configure_model()
        assert self.vae is not None
        return self.vae

    def bundle(self) -> ModelBundle:
        """VAE and J-DiT."""
        info = self.training_info() | {"sampling": asdict(self.sampling), "targets": self.targets}
        return ModelBundle(self.frozen_vae(), self.trained_network(), info)

    def train(self, mode: bool = True) -> "DiTModule":
        """Training mode for the J-DiT alone; the frozen VAE stays in eval."""
        super().train(mode)
        if self.vae is not None:
            self.vae.eval()
        return self

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """One step on a batch of episodes."""
        with torch.no_grad():
            latent = encode_batch(self.frozen_vae(), batch)
        losses = self._losses(latent, self.drop_pairs)
        self.log("train_loss", losses.mean(), prog_bar=True, batch_size=len(losses))
        self.log_by_task(losses, batch.tasks, "train")
        return losses.mean()

    def validation_step(self, batch: EpisodeBatch, batch_idx: int) -> None:
        """Loss on held-out episodes, with noise and times that are the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + batch_idx)
            losses = self._losses(encode_batch(self.frozen_vae(), batch), drop_pairs=0.0)
        self.log("val_loss", losses.mean(), batch_size=len(losses), sync_dist=True)
        self.log_by_task(losses, batch.tasks, "val")

    def on_test_start(self) -> None:
        """Prepare the records of the test."""
        super().on_test_start()
        self.recorder = TestRecorder(self, asdict(self.sampling), self.strips)

    def test_step(self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Answer a batch and score it."""
        assert self.recorder is not None
        vae = self.frozen_vae()
        with self.recorder.clock() as clock:
            answers = answer_batch(vae, self.trained_network(), batch, self.sampling)
        rebuilt = vae.to_pictures(vae.to_latent(batch.targets[:, -1]))
        self.recorder.record(batch, answers, rebuilt, clock.seconds)

    def on_test_end(self) -> None:
        """Write the result."""
        super().on_test_end()
        assert self.recorder is not None
        self.recorder.write()

    def predict_step(self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Answers of a batch as pictures [B, 3, T, H, W]."""
        return answer_batch(self.frozen_vae(), self.trained_network(), batch, self.sampling)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen VAE out; it is loaded from its own directory."""
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in weights.items() if not key.startswith("vae.")}

    def _losses(self, latent: LatentEpisode, drop_pairs: float) -> Tensor:
        """Loss of each episode [B]."""
        if self.targets == "every_pair":
            return self._every_pair_losses(latent)
        query, target = latent.inputs[:, -1], latent.targets[:, -1]
        dropped = torch.rand(len(target), device=target.device) < drop_pairs
        losses = target.new_zeros(len(target))
        context, null = join_context(latent), null_context(self.trained_network(), query)
        for clean, chosen in ((context, ~dropped), (null, dropped)):
            if chosen.any():
                losses = losses.index_put((chosen,), self._query_losses(clean[chosen], target[chosen], query.shape[2]))
        return losses

    def _query_losses(self, context: Tensor, target: Tensor, query_frames: int) -> Tensor:
        """Loss of the query's target [B]: context [B, C, Tc, h, w], target [B, C, T, h, w]."""
        model, noise, t = self.trained_network(), torch.randn_like(target), self._draw_times(target, (len(target),))
        layout = query_layout(model.config.context_attention, context.shape[2], target.shape[2], query_frames)
        predicted = model(interpolate(noise, target, t[:, None, None, None, None]), t, context, layout)
        return flow_matching_loss(predicted[:, None], velocity(noise, target)[:, None], self.l1_weight)[:, 0]

    def _every_pair_losses(self, latent: LatentEpisode) -> Tensor:
        """Mean loss [B] over noisy copies of every pair's target and the query's; each has a time of its own."""
        batch, groups, _, frames = latent.targets.shape[:4]
        target = latent.targets.transpose(1, 2).flatten(2, 3).repeat(1, 1, self.noisy_copies, 1, 1)
        t = self._draw_times(target, (batch, groups * self.noisy_copies)).repeat_interleave(frames, dim=1)
        noise = torch.randn_like(target)
        layout = every_pair_layout(groups - 1, latent.inputs.shape[3], frames, self.noisy_copies)
        noisy = interpolate(noise, target, t[:, None, :, None, None])
        predicted = self.trained_network()(noisy, t, join_context(latent), layout)
        by_frame = (predicted.transpose(1, 2), velocity(noise, target).transpose(1, 2))
        return flow_matching_loss(*by_frame, self.l1_weight).mean(1)

    def _draw_times(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        return shift_times(logit_normal_times(shape, device=like.device), self.time_shift)
