"""What the VAE is trained on: fidelity, likeness to a network's eye, the adversary, and the latent's size."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.losses import (
    PerceptualLoss,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    r1_penalty,
    reconstruction_loss,
)
from lavindit.models import Discriminator, DiscriminatorConfig
from lavindit.models.stvae import DiagonalGaussian


def refuse_negative(name: str, value: float) -> None:
    """Refuse a weight that would reward what it is to prevent."""
    if not value >= 0:
        raise LavinditError(f"{name} {value} must be 0 or more")


@dataclass(frozen=True)
class PerceptualConfig:
    """The perceptual term.

    Attributes:
        weight: Its weight; 0: no such term, and no network is read.
        weights: "lpips": LPIPS's VGG16, where torchvision's weights are in torch hub's cache. A path: a VGG16 in a
            safetensors file, which makes a proxy of it.
        stages: How many of VGG16's five stages are compared, finest first. Fewer are cheaper, and no longer LPIPS.
        frames: How many frames of a clip are looked at in a step; None: all.
    """

    weight: float = 0.0
    weights: str = "lpips"
    stages: int = 5
    frames: int | None = 4

    def __post_init__(self) -> None:
        refuse_negative("perceptual: weight", self.weight)

    def make(self) -> PerceptualLoss | None:
        """The loss, or None where its weight is 0.

        Raises:
            LavinditError: Its weights are missing or of another network.
        """
        return PerceptualLoss(self.weights, self.stages, self.frames) if self.weight else None


@dataclass(frozen=True)
class AdversarialConfig:
    """The adversarial term, and the discriminator's own training.

    Attributes:
        weight: Its weight; 0: no such term, and no discriminator.
        start: Steps of the VAE before the discriminator begins, and the VAE minds it.
        adaptive: Multiply the weight by the ratio of the gradients at the decoder's last layer (Esser et al. 2021).
        limit: Largest such ratio.
        r1_weight: Weight gamma of the R1 penalty gamma / 2 |grad D|^2 (Mescheder et al. 2018).
        r1_every: Steps between penalties, each then that many times as strong (Karras et al. 2020).
        discriminator: Size and options of the discriminator.
    """

    weight: float = 0.0
    start: int = 1000
    adaptive: bool = True
    limit: float = 1e4
    r1_weight: float = 0.0
    r1_every: int = 4
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        refuse_negative("adversarial: weight", self.weight)
        refuse_negative("adversarial: r1_weight", self.r1_weight)
        if self.r1_every < 1 or self.start < 0:
            raise LavinditError(
                f"adversarial: r1_every {self.r1_every} must be 1 or more, start {self.start} 0 or more"
            )


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """Pictures or clips of one shape, and what the VAE made of them.

    Attributes:
        pixels: [N, 3, T, H, W] in [-1, 1].
        output: Same shape.
        posterior: Of the latents.
    """

    pixels: Tensor
    output: Tensor
    posterior: DiagonalGaussian


@dataclass(frozen=True, eq=False)
class Terms:
    """Losses of N pictures, each [N].

    Attributes:
        pixel: MSE, and L1 where it is asked for.
        perceptual: Distance under the perceptual network, unweighted; None without one.
        fidelity: Weighted sum of these two, which compare output and pixels.
        kl: KL, weighted.
    """

    pixel: Tensor
    perceptual: Tensor | None
    fidelity: Tensor
    kl: Tensor

    @property
    def total(self) -> Tensor:
        """All but the adversary's term."""
        return self.fidelity + self.kl


class VAEObjective:
    """The terms of the VAE's loss. No module: nothing of the perceptual network is in any state dict.

    Args:
        l1_weight: Weight of the L1 term beside the MSE's 1.
        kl_weight: Weight of the KL, which is summed over a picture's latent.
        kl_omits_width: Leave the latent's width out of that sum, as the release does.
        perceptual: The perceptual term.
        adversarial: The adversarial term.
    """

    def __init__(
        self,
        l1_weight: float,
        kl_weight: float,
        kl_omits_width: bool,
        perceptual: PerceptualConfig,
        adversarial: AdversarialConfig,
    ) -> None:
        self.l1_weight, self.kl_weight, self.kl_omits_width = l1_weight, kl_weight, kl_omits_width
        self.perceptual_weight, self.adversarial = perceptual.weight, adversarial
        self._perceptual_config = perceptual

    @cached_property
    def perceptual(self) -> PerceptualLoss | None:
        """The perceptual term, if there is one. Its network is read at first use, so a test does without it.

        Raises:
            LavinditError: Its weights are missing or of another network.
        """
        return self._perceptual_config.make()

    def terms(self, rebuilt: Rebuilt, step: int) -> Terms:
        """All terms but the adversary's; `step` decides which frames of a clip the perceptual network looks at."""
        pixel = reconstruction_loss(rebuilt.output, rebuilt.pixels, self.l1_weight)
        kl = self.kl_weight * rebuilt.posterior.kl(self.kl_omits_width)
        fidelity, perceptual = pixel, None
        if self.perceptual is not None:
            perceptual = self.perceptual(rebuilt.output, rebuilt.pixels, step)
            fidelity = pixel + self.perceptual_weight * perceptual
        return Terms(pixel, perceptual, fidelity, kl)

    def against(
        self, terms: Sequence[Terms], groups: Sequence[Rebuilt], discriminator: Discriminator, layer: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The whole loss of a step, the adversary's term included.

        The gradients at the outputs are taken first, so that the perceptual network and the discriminator are gone
        through once, and not once more for the adaptive weight.

        Args:
            terms: The other terms of each group.
            groups: All pictures of the step.
            discriminator: Judges them; it gets no gradient if it requires none.
            layer: Weight of the decoder's last layer.

        Returns:
            A scalar to go backward from, with the value of the loss; and the factor of the adversary's term, the
            adaptive weight times the configured one.
        """
        outputs = [group.output for group in groups]
        adversarial = torch.cat([hinge_generator_loss(discriminator(output)) for output in outputs]).mean()
        fidelity = torch.cat([term.fidelity for term in terms]).mean()
        kl = torch.cat([term.kl for term in terms]).mean()
        push = _dot(outputs, torch.autograd.grad(adversarial, outputs))
        pull = _dot(outputs, torch.autograd.grad(fidelity, outputs))
        weight = fidelity.new_tensor(self.adversarial.weight)
        if self.adversarial.adaptive:
            weight = weight * adaptive_weight(pull, push, layer, self.adversarial.limit)
        value = fidelity + weight * adversarial + kl
        surrogate = pull + weight * push + kl
        return surrogate + (value - surrogate).detach(), weight

    def of_adversary(self, groups: Sequence[Rebuilt], discriminator: Discriminator, step: int) -> "AdversaryTerms":
        """The discriminator's loss on all pictures of a step; the VAE gets no gradient."""
        due = self.adversarial.r1_weight > 0 and step % self.adversarial.r1_every == 0
        hinge, penalty, reals, fakes = [], [], [], []
        for group in groups:
            pixels = group.pixels.detach().requires_grad_(due)
            real, fake = discriminator(pixels), discriminator(group.output.detach())
            hinge.append(hinge_discriminator_loss(real, fake))
            reals.append(real.detach().float().mean(1))
            fakes.append(fake.detach().float().mean(1))
            if due:
                penalty.append(r1_penalty(real, pixels))
        loss = torch.cat(hinge).mean()
        total = loss
        if due:
            total = loss + 0.5 * self.adversarial.r1_weight * self.adversarial.r1_every * torch.cat(penalty).mean()
        return AdversaryTerms(total, loss.detach(), torch.cat(reals).mean(), torch.cat(fakes).mean())


@dataclass(frozen=True, eq=False)
class AdversaryTerms:
    """The discriminator's step, in scalars.

    Attributes:
        total: What it is trained on: hinge loss, and R1 where it is due.
        hinge: The hinge loss alone.
        real: Mean logit of real pictures.
        fake: Mean logit of rebuilt ones.
    """

    total: Tensor
    hinge: Tensor
    real: Tensor
    fake: Tensor


def _dot(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar whose gradient at the outputs is the given one."""
    return torch.stack([(o * g).sum() for o, g in zip(outputs, gradients, strict=True)]).sum()
