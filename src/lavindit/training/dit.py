"""Training and test of the J-DiT in the latent space of a frozen VAE."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lavindit.data.latents import LatentsConfig
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference.latent_cache import LatentCache
from lavindit.inference.presets import settle
from lavindit.inference.sampler import Posterior, SamplingConfig, answer_batch, encode_batch
from lavindit.models import STVAE, JDiT, JDiTConfig, ModelBundle, load_engine_model, load_model
from lavindit.task import Task, check_task_names, keep_known
from lavindit.training.base import TrainedModule
from lavindit.training.checks import check_loss_weights, check_start
from lavindit.training.latents import check_vae, latent_sizes, latents_of
from lavindit.training.results import TestRecorder
from lavindit.training.targets import Drops, NoisyTargets, Which
from lavindit.training.vae import default_optimizer
from lavindit.types import EpisodeBatch, LatentBatch, LatentEpisode

# What may differ from the network of `init_from`, since the weights mean the same with it.
FREE_TO_CHANGE = {"context_attention", "drop_path"}


class DiTModule(TrainedModule):
    """Trains a J-DiT by flow matching on in-context episodes.

    Args:
        vae: Model directory of the frozen VAE (or of a whole model).
        network: Size and options of the J-DiT.
        optimizer: Makes the optimizer from the parameters.
        targets: "query": the query's target is noised (the paper). "every_pair": so is the target of every pair,
            each seeing only what stands before it; needs `context_attention: causal`.
        noisy_copies: How many noise levels of each target one pass over the context trains; a "joint" context sees
            the noise, so it serves one.
        drop_pairs: Probability that an episode loses its pairs, for guidance; "every_pair" needs none, its first
            target has none anyway.
        l1_weight: Weight of the L1 term (the release: 0.1).
        loss_weights: Weight of a task's loss in training by its name; 1 where not named. Latents of depth vary less
            than those of edges, and so do their losses.
        time_shift: Shift of the training times.
        sampling: How validation and test sample.
        task_sampling: What differs from it in the test of single tasks, by name; None: what the model directory in
            `init_from` says of them, where that model is what is tested.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the learning rate falls to zero.
        ema_decay: Decay of the weight average.
        seed: Seed of noise and times.
        strips: Episodes a task whose pictures the report shows.
        init_from: Model directory whose J-DiT training starts from, or whose J-DiT is tested where there is no
            checkpoint; None: new weights.
        posterior: Latents of the pictures: the "mean" of the VAE's posterior, or a "sample" (the release).
        vae_chunk: Pictures in one pass of the VAE; None: all of a batch. Bounds memory at high resolutions.
        keep_latents: Encode a picture once and keep its latent, up to 1 GiB where the VAE is: for tasks whose pictures
            come again and again, as a folder's do. Needs posterior: mean.
        checkpoint_blocks: Compute each block again in the backward pass instead of keeping what is in it.
        compile_blocks: Compile each block with torch.compile.
    """

    kind = "jdit"
    network: JDiT | None
    average: JDiT | None

    def __init__(
        self,
        vae: str,
        network: JDiTConfig = JDiTConfig(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable = default_optimizer,
        targets: Which = "query",
        noisy_copies: int = 1,
        drop_pairs: float = 0.1,
        l1_weight: float = 0.0,
        loss_weights: dict[str, float] | None = None,
        time_shift: float = 1.0,
        sampling: SamplingConfig = SamplingConfig(),  # noqa: B008 - frozen
        task_sampling: dict[str, dict[str, Any]] | None = None,
        warmup_steps: int = 50,
        decay_share: float = 0.4,
        ema_decay: float = 0.995,
        seed: int = 0,
        strips: int = 3,
        init_from: str | None = None,
        posterior: Posterior = "mean",
        vae_chunk: int | None = None,
        keep_latents: bool = False,
        checkpoint_blocks: bool = False,
        compile_blocks: bool = False,
    ) -> None:
        super().__init__(optimizer, warmup_steps, decay_share, ema_decay, seed)
        self.targets = NoisyTargets(targets, noisy_copies, l1_weight, time_shift)
        self.targets.check(network.context_attention)
        self.loss_weights = loss_weights or {}
        check_loss_weights(self.loss_weights)
        self.vae_path, self.network_config, self.drop_pairs = vae, network, drop_pairs
        self.sampling, self.task_sampling, self.strips = sampling, task_sampling, strips
        self.init_from, self.vae_chunk = init_from, vae_chunk
        self.posterior: Posterior = posterior
        self.checkpoint_blocks, self.compile_blocks = checkpoint_blocks, compile_blocks
        if keep_latents and posterior != "mean":
            raise LavinditError(f"keep_latents keeps means, and posterior is {posterior}; take one of the two")
        self.recorder: TestRecorder | None = None
        self._latents = LatentCache() if keep_latents else None
        self._pairs_of_test = LatentCache()
        # Out of the module's sight: it is neither trained nor sharded nor stored with a checkpoint.
        self._vae: tuple[STVAE, ...] = ()
        # The task sampling of `init_from`, until training changes the weights.
        self._started_with: Mapping[str, Any] = {}

    def build_network(self) -> JDiT:
        """A J-DiT with new weights, or with those of `init_from`."""
        network = self.build_empty()
        if self.init_from is not None:
            _, start, info = load_engine_model(self.init_from)
            check_start(self.init_from, self.network_config, start.config, FREE_TO_CHANGE)
            network.load_state_dict(start.state_dict())
            # Who is tested without a checkpoint is this model; one that is loaded later says its own.
            self.trained_tasks, self.trained_steps = info.get("tasks"), int(info.get("steps", 0))
            self._started_with = info.get("task_sampling", {})
        return network

    def build_empty(self) -> JDiT:
        """A J-DiT, whatever its weights."""
        network = JDiT(self.network_config)
        network.checkpointing = self.checkpoint_blocks
        return network

    def frozen_vae(self) -> STVAE:
        """The VAE, where this module computes."""
        if not self._vae:
            self._vae = (load_model(self.vae_path).vae.requires_grad_(False).eval(),)
        return self._vae[0].to(self.device)

    def bundle(self, network: nn.Module) -> ModelBundle:
        """VAE and J-DiT."""
        assert isinstance(network, JDiT)
        info = self.training_info() | {"sampling": asdict(self.sampling), "targets": self.targets.which}
        info |= {"task_sampling": self.task_sampling} if self.task_sampling else {}
        return ModelBundle(self.frozen_vae(), network, info)

    def training_info(self) -> dict[str, Any]:
        """Where the exported weights come from, and how many pairs they have been shown at most."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        return super().training_info() | {"max_pairs": data.pairs[1]}

    def configure_model(self) -> None:
        """Find the VAE before any work is done, then build the networks."""
        if self.network is not None:
            return
        self.frozen_vae()
        super().configure_model()
        if self.compile_blocks:
            for block in cast(JDiT, self.network).blocks:
                block.compile(dynamic=False)  # a few shapes, each with code of its own: images, clips, images to clips

    def on_fit_start(self) -> None:
        """What a model directory says of its sampling is of weights that are now changed; weights must be of tasks."""
        super().on_fit_start()
        self._started_with = {}
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        check_task_names("loss_weights", self.loss_weights, {task.name for task in data.tasks})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Likewise of those of a checkpoint."""
        super().on_load_checkpoint(checkpoint)
        self._started_with = {}

    def sampling_of(self, task: str) -> SamplingConfig:
        """How a task is answered in test and prediction.

        Raises:
            LavinditError: What is said of it makes no sense.
        """
        own = self._started_with if self.task_sampling is None else self.task_sampling
        said = {"sampling": asdict(self.sampling), "task_sampling": own}
        return settle(said, seed=self.sampling.seed, task=task).sampling

    def check_latents(self, folder: str, config: LatentsConfig) -> None:
        """Refuse stored latents that this training cannot start from.

        Raises:
            LavinditError: They are of another VAE, or have no standard deviations where samples are wanted.
        """
        check_vae(folder, config, self.vae_path, self.posterior)

    def training_step(self, batch: EpisodeBatch | LatentBatch, batch_idx: int) -> Tensor:
        """One step on a batch of episodes, or of their latents."""
        assert self.network is not None
        seeds = [seed_from("train", self.seed, number) for number in batch.numbers]
        drops = self._drops(batch.numbers)
        losses = self.losses(self.network, self._encode(batch, self.micro_step), seeds, drops)
        return self.step_loss(losses, batch.tasks)

    def step_loss(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """What a step lowers: the mean of its episodes' losses [B], weighted by task; they are logged as they are."""
        weights = losses.new_tensor([self.loss_weights.get(task, 1.0) for task in tasks])
        loss = (weights * losses).mean()
        self.require_finite(loss, "loss")
        self.log_training(losses, tasks)
        return loss

    def step_cost(self, batch: EpisodeBatch | LatentBatch) -> tuple[int, int, float]:
        """Episodes, tokens and model FLOPs of a training step on a batch, for `Throughput`."""
        pairs, frames_in, frames_out, pixels = latent_sizes(batch)
        per_frame = pixels // self.network_config.patch**2
        tokens, flops = self.targets.cost(self.network_config, pairs, frames_in, frames_out, per_frame, self.drop_pairs)
        return len(batch), round(len(batch) * tokens), len(batch) * flops

    def validation_step(self, batch: EpisodeBatch, batch_idx: int) -> None:
        """Loss on held-out episodes, with noise and times that are the same every time."""
        seeds = [seed_from("val", self.seed, sample_id) for sample_id in batch.sample_ids]
        losses = self.losses(self.averaged(), self._encode(batch, self.seed), seeds)
        self.add_validation(losses, batch.tasks)

    def on_test_start(self) -> None:
        """Prepare the records of the test."""
        super().on_test_start()
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        samplings = {task.name: self.sampling_of(task.name) for task in data.tasks}
        self.recorder = TestRecorder(self, asdict(self.sampling), samplings, self.strips)

    def test_step(self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Answer a batch and score it; pairs that other queries of the task were shown are not encoded again."""
        assert self.recorder is not None
        if batch_idx == 0:  # each task on its own, so that its figures are the same whatever was tested before
            self._pairs_of_test.clear()
        with self.recorder.clock() as clock:
            answers = self._answer(batch, self._pairs_of_test)
        self.recorder.record(batch, answers, clock.seconds, self._rebuild)

    def on_test_end(self) -> None:
        """Write the result."""
        super().on_test_end()
        self._pairs_of_test.clear()
        assert self.recorder is not None
        self.recorder.write()

    def predict_step(self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Answers of a batch as pictures [B, 3, T, H, W]."""
        tasks = self._tasks_by_name()
        answers = zip(batch.tasks, batch.inputs[:, -1], self._answer(batch), strict=True)
        return torch.stack([keep_known(tasks[name], query, answer) for name, query, answer in answers])

    def _answer(self, batch: EpisodeBatch, cache: LatentCache | None = None) -> Tensor:
        task = self._tasks_by_name()[batch.tasks[0]]  # a batch of a test is of one task
        models, rest = (self.frozen_vae(), self.averaged()), (self.sampling_of(task.name), self.vae_chunk, cache)
        return answer_batch(*models, batch, *rest, keeps_detail=task.keeps_detail)

    def _tasks_by_name(self) -> dict[str, Task]:
        return {task.name: task for task in self.trainer.datamodule.tasks}  # pyright: ignore[reportAttributeAccessIssue]

    def _rebuild(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, T, H, W] through the VAE and back."""
        vae = self.frozen_vae()
        return vae.to_pictures(vae.to_latent(pictures, chunk=self.vae_chunk), self.vae_chunk)

    @torch.no_grad()
    def _encode(self, batch: EpisodeBatch | LatentBatch, seed: int) -> LatentEpisode:
        if isinstance(batch, LatentBatch):
            return latents_of(batch, self.posterior, seed)
        return encode_batch(self.frozen_vae(), batch, self.posterior, seed, self.vae_chunk, self._latents)

    def _drops(self, numbers: Sequence[int]) -> Drops:
        """Which episodes of this process lose their pairs, and which branches any process runs."""
        share, rank = len(numbers), self.global_rank
        first = numbers[0] - rank * share
        everywhere = range(first, first + share * self.trainer.world_size)
        drawn = [_uniform(seed_from("drop", self.seed, n)) < self.drop_pairs for n in everywhere]
        own = drawn[rank * share : (rank + 1) * share]
        return Drops(tuple(own), with_pairs=not all(drawn), without=any(drawn))

    def losses(self, model: JDiT, latent: LatentEpisode, seeds: Sequence[int], drops: Drops | None = None) -> Tensor:
        """Loss of each episode [B], with noise and times from its seed."""
        return self.targets.losses(model, latent, seeds, drops)


def _uniform(seed: int) -> float:
    """A number in [0, 1) from a 63-bit seed."""
    return seed / 2**63
