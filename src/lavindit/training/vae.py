"""Training of the ST-VAE."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.models import STVAE, Discriminator, ModelBundle, STVAEConfig, load_model
from lavindit.models.stvae.statistics import LatentMoments, measure_latents
from lavindit.training.adversary_watch import AdversaryWatch
from lavindit.training.base import TrainedModule, normal_rows
from lavindit.training.checks import check_start
from lavindit.training.vae_losses import (
    AdversarialConfig,
    PerceptualConfig,
    Rebuilt,
    Terms,
    VAEObjective,
    refuse_negative,
)
from lavindit.training.vae_results import VAERecorder, ask_alone
from lavindit.types import EpisodeBatch

ONE_DEVICE = "the VAE trains on one device or under DDP; trainer.strategy: ddp_find_unused_parameters_true"
WATCH_KEY = "lavindit_adversary_watch"
# What may differ from the network of `init_from`, since the weights mean the same with it.
FREE_TO_CHANGE = {"norm"}


def default_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """AdamW as the experiments start from; a config names another."""
    return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)


def default_adversary_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """Adam with the short memory that discriminators like."""
    return torch.optim.AdamW(parameters, lr=2e-4, betas=(0.5, 0.9), weight_decay=0.0)


class VAEModule(TrainedModule):
    """Trains a VAE on every picture of the mixture's episodes: inputs and targets alike.

    Loss: MSE + l1_weight L1 + perceptual + adversarial + kl_weight KL, as in the paper: the KL is summed over the
    latent and averaged over the batch. Two optimizers take turns, so optimization is manual; clipping, accumulation,
    schedule and resuming are as the trainer's options say all the same, and `global_step` counts the VAE's steps.

    At the end of training the statistics of the latents are measured over the training mixture, with the averaged
    weights, and stored with them.

    Args:
        network: Size and options of the VAE.
        optimizer: Makes the VAE's optimizer from its parameters.
        adversary_optimizer: Makes the discriminator's.
        kl_weight: Weight of the KL term.
        l1_weight: Weight of the L1 term.
        perceptual: The perceptual term.
        adversarial: The adversarial term.
        init_from: Model directory whose VAE training starts from (stage 2 from stage 1's), or that is tested where
            there is no checkpoint; None: new weights.
        warmup_steps: Steps of linear warm-up.
        decay_share: Share of the run over which the learning rate falls to zero.
        ema_decay: Decay of the weight average.
        seed: Seed of the posterior samples.
        kl_omits_width: Leave the latent's width out of the KL's sum, as the release does.
        statistics_batches: Steps' batches of the training mixture that the latents are measured on.
        strips: Pictures of a kind that a test's report shows.
        pca_pictures: About how many training pictures a test fits the principal components on.
    """

    kind = "vae"
    network: STVAE | None
    average: STVAE | None

    def __init__(
        self,
        network: STVAEConfig = STVAEConfig(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable = default_optimizer,
        adversary_optimizer: OptimizerCallable = default_adversary_optimizer,
        kl_weight: float = 1e-6,
        l1_weight: float = 0.0,
        perceptual: PerceptualConfig = PerceptualConfig(),  # noqa: B008 - frozen
        adversarial: AdversarialConfig = AdversarialConfig(),  # noqa: B008 - frozen
        init_from: str | None = None,
        warmup_steps: int = 50,
        decay_share: float = 0.4,
        ema_decay: float = 0.99,
        seed: int = 0,
        kl_omits_width: bool = False,
        statistics_batches: int = 64,
        strips: int = 3,
        pca_pictures: int = 2000,
    ) -> None:
        super().__init__(optimizer, warmup_steps, decay_share, ema_decay, seed)
        for name, weight in (("kl_weight", kl_weight), ("l1_weight", l1_weight)):
            refuse_negative(name, weight)
        self.automatic_optimization = False
        self.make_adversary_optimizer = adversary_optimizer
        self.network_config, self.init_from = network, init_from
        self.objective = VAEObjective(l1_weight, kl_weight, kl_omits_width, perceptual, adversarial)
        self.adversarial, self.statistics_batches = adversarial, statistics_batches
        self.discriminator: Discriminator | None = None
        self.watch = AdversaryWatch()
        self.strips, self.pca_pictures = strips, pca_pictures
        self.recorder: VAERecorder | None = None
        self._clip_norm: float | None = None
        self._accumulate = 1
        self._moments: LatentMoments | None = None

    def build_network(self) -> STVAE:
        """A VAE with new weights, or with those of `init_from`."""
        network = self.build_empty()
        if self.init_from is not None:
            start = load_model(self.init_from)
            check_start(self.init_from, self.network_config, start.vae.config, FREE_TO_CHANGE)
            network.load_state_dict(start.vae.state_dict())
            # Who is tested without a checkpoint is this model; one that is loaded later says its own.
            if start.jdit is None:
                self.trained_tasks, self.trained_steps = start.info.get("tasks"), int(start.info.get("steps", 0))
        return network

    def build_empty(self) -> STVAE:
        """A VAE, whatever its weights."""
        return STVAE(self.network_config)

    def configure_model(self) -> None:
        """Build the networks; a VAE is small enough to be whole in every process."""
        if self.device_mesh is not None:
            raise LavinditError(ONE_DEVICE)
        built = self.network is not None
        super().configure_model()
        if not built and self.adversarial.weight:  # after the VAE, whose first weights are the same without it
            self.discriminator = Discriminator(self.adversarial.discriminator)

    def configure_callbacks(self) -> list[Any]:
        """Take clipping and accumulation over from the trainer, which cannot do them beside manual optimization."""
        trainer = self.trainer
        if isinstance(trainer.strategy, FSDPStrategy):
            raise LavinditError(ONE_DEVICE)
        if trainer.gradient_clip_val is not None or trainer.accumulate_grad_batches != 1:
            if trainer.gradient_clip_algorithm == "value":
                raise LavinditError("the VAE clips gradients by their norm; set trainer.gradient_clip_algorithm: norm")
            self._clip_norm, self._accumulate = trainer.gradient_clip_val, trainer.accumulate_grad_batches
            trainer.gradient_clip_val, trainer.accumulate_grad_batches = None, 1
        if trainer.precision in ("16-mixed", "16-true"):
            raise LavinditError("the VAE trains in float32 or bf16; trainer.precision: bf16-mixed")
        return []

    def configure_optimizers(self) -> Any:
        """The VAE's optimizer with the schedule, and the discriminator's, which warms up late and ends with it."""
        of_vae = super().configure_optimizers()
        if self.discriminator is None:
            return of_vae
        optimizer = self.make_adversary_optimizer(self.discriminator.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(self._rate, before=self.adversarial.start))
        return [of_vae, {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}]

    def on_fit_start(self) -> None:
        """Start the average; refuse what would fail later: gradients waited for in vain, pictures too small."""
        super().on_fit_start()
        smallest = self.adversarial.discriminator.smallest_px
        side = self.trainer.datamodule.source.resolution  # pyright: ignore[reportAttributeAccessIssue]
        if self.discriminator is not None and side < smallest:
            raise LavinditError(
                f"a discriminator of {self.adversarial.discriminator.layers} layers needs pictures of {smallest} px, "
                f"not {side}; set model.init_args.adversarial.discriminator.layers"
            )
        strategy = self.trainer.strategy
        waits = isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters")
        if waits and (self.discriminator is not None or self.network_config.conv == "2+1d"):
            raise LavinditError(
                "some steps give a part of this VAE's parameters no gradient; under DDP it needs "
                "trainer.strategy: ddp_find_unused_parameters_true"
            )

    def bundle(self, network: nn.Module) -> ModelBundle:
        """The VAE with the latent statistics."""
        assert isinstance(network, STVAE)
        if self._moments is not None:
            network.latent_shift, network.latent_scale = self._moments.shift, self._moments.scale
        return ModelBundle(network, info=self.training_info())

    def on_train_end(self) -> None:
        """Measure the latents of the averaged weights over the training mixture; each process takes its share."""
        if self._batch is None:
            return  # no step was taken
        self.measure()

    def measure(self) -> None:
        """Measure the latents, for the model that is exported."""
        loader = self.trainer.datamodule.train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]
        own = measure_latents(self.averaged(), loader, self.statistics_batches)
        rows: Any = self.all_gather(own.to_tensor().to(self.device))
        self._moments = LatentMoments.from_tensors(rows.reshape(-1, 1 + 2 * len(own.mean)))

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> Tensor:
        """One step on the queries' inputs and targets of a batch: of the VAE, then of the discriminator."""
        assert self.network is not None
        seeds = [seed_from("train", self.seed, number) for number in batch.numbers]
        groups = self._rebuild(self.network, batch, seeds)
        terms = [self.objective.terms(group, self.micro_step) for group in groups]
        losses = torch.cat([term.total for term in terms])
        loss, step = losses.mean(), self.trainer.global_step
        adversary = self.discriminator if step >= self.adversarial.start else None
        if adversary is None:
            self._learn(0, loss)
        else:
            adversary.requires_grad_(False)
            loss, weight = self.objective.against(terms, groups, adversary, self.network.decoder.head.weight)
            self._learn(0, loss)
            adversary.requires_grad_(True)
            self._train_adversary(adversary, groups, weight, step)
        self._log_terms(terms)
        self.log_training(losses, _names_of(batch))
        return loss.detach()

    def validation_step(self, batch: EpisodeBatch, batch_idx: int) -> None:
        """Loss on held-out pictures, the adversary left out."""
        seeds = [seed_from("val", self.seed, sample_id) for sample_id in batch.sample_ids]
        terms = [self.objective.terms(group, 0) for group in self._rebuild(self.averaged(), batch, seeds)]
        self.add_validation(torch.cat([term.total for term in terms]), _names_of(batch))

    def _learn(self, which: int, loss: Tensor) -> None:
        """Go backward; where this batch completes a step, clip and take it. 0 is the VAE, 1 its discriminator."""
        whose = "discriminator's " if which else ""
        self.require_finite(loss, f"{whose}loss")
        self.manual_backward(loss / self._accumulate)
        if self.micro_step % self._accumulate:
            return
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        optimizer = optimizers[which] if isinstance(optimizers, list) else optimizers
        schedule: Any = schedules[which] if isinstance(schedules, list) else schedules
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self._clip_norm or math.inf)
        self.require_finite(norm, f"{whose}gradient")
        if which:
            optimizer.optimizer.step()  # past Lightning, which would count it as another step of training
        else:
            optimizer.step()
            if self.ema is not None:
                self.ema.update()
        optimizer.zero_grad()
        schedule.step()

    def _train_adversary(self, adversary: Discriminator, groups: Sequence[Rebuilt], weight: Tensor, step: int) -> None:
        """The discriminator's turn in a step; every process hears the same of how it goes."""
        found = self.objective.of_adversary(groups, adversary, step)
        self._learn(1, found.total)
        numbers = torch.stack([found.real, found.fake, found.hinge, weight])
        real, fake, hinge, factor = self.trainer.strategy.reduce(numbers, reduce_op="mean").tolist()
        self.watch.update(real, fake, hinge, factor)
        logged = {"real": real, "fake": fake, "loss": hinge, "weight": factor}
        self.log_dict({f"adversary/{name}": value for name, value in logged.items()})

    def _log_terms(self, terms: Sequence[Terms]) -> None:
        parts = {"pixel": [t.pixel for t in terms], "kl": [t.kl for t in terms]}
        if self.objective.perceptual is not None:
            parts[self.objective.perceptual.name] = [t.perceptual for t in terms if t.perceptual is not None]
        self.log_dict({f"train_term/{name}": torch.cat(values).detach().mean() for name, values in parts.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how the game with the discriminator stands, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[WATCH_KEY] = self.watch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over where it stood."""
        super().on_load_checkpoint(checkpoint)
        if WATCH_KEY not in checkpoint:  # and its count of steps is where this training does not look
            raise LavinditError("the checkpoint was written by an older lavindit; --restart true starts anew")
        self.watch.load_state_dict(checkpoint[WATCH_KEY])

    def setup(self, stage: str) -> None:
        """Validation and test show no pairs and ask once, whatever the config says; before any loader is made."""
        ask_alone(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        if stage != "test":
            _ = self.objective.perceptual  # what is wrong with its weights is told before training

    def on_test_start(self) -> None:
        """Prepare the records of the test."""
        super().on_test_start()
        self.recorder = VAERecorder(self, self.strips, self.pca_pictures)

    def test_step(self, batch: EpisodeBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score what the VAE makes of a batch's queries, inputs and targets."""
        assert self.recorder is not None
        self.recorder.record(batch, partial(self._reconstruct, self.averaged()))

    def on_test_epoch_end(self) -> None:
        """Score photographs, of which no task consists."""
        assert self.recorder is not None
        with self.trainer.precision_plugin.test_step_context():
            self.recorder.record_photographs(partial(self._reconstruct, self.averaged()))

    def on_test_end(self) -> None:
        """Write the result."""
        super().on_test_end()
        assert self.recorder is not None
        self.recorder.write()

    @staticmethod
    def _reconstruct(vae: STVAE, pictures: Tensor) -> Tensor:
        return ((vae.decode(vae.encode(pictures * 2 - 1).mean) + 1) / 2).clamp(0, 1)

    def _rebuild(self, vae: STVAE, batch: EpisodeBatch, seeds: Sequence[int]) -> list[Rebuilt]:
        """What the VAE makes of all pictures of a batch, its inputs first; two groups where targets differ in frames.

        Each of the `seeds` [B] gives the noise of an episode's inputs, then that of its targets.
        """
        parts = [batch.inputs.flatten(0, 1), batch.targets.flatten(0, 1)]
        shapes = [vae.latent_shape(part) for part in parts]
        sizes = [batch.inputs.shape[1] * math.prod(shape) for shape in shapes]
        noise = normal_rows(seeds, (sum(sizes),), batch.inputs.device).split(sizes, 1)
        noises = [rows.reshape(-1, *shape) for rows, shape in zip(noise, shapes, strict=True)]
        if shapes[0] == shapes[1]:
            parts, noises = [torch.cat(parts)], [torch.cat(noises)]
        found = []
        for pictures, draw in zip(parts, noises, strict=True):
            pixels = pictures * 2 - 1
            posterior = vae.encode(pixels)
            found.append(Rebuilt(pixels, vae.decode(posterior.at(draw)), posterior))
        return found


def _names_of(batch: EpisodeBatch) -> list[str]:
    """What each picture of a batch is, inputs first: "input" or its task."""
    repeats = batch.inputs.shape[1]
    return ["input"] * (len(batch) * repeats) + [task for task in batch.tasks for _ in range(repeats)]
