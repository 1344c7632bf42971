"""The adversarial game between the VAE and its discriminator.

Logits are [N, P], one for each of P patches of N pictures or clips; above 0 means real. Losses weigh patches alike.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Keeps the ratio of gradients finite where the discriminator gives none (Esser et al. 2021, below equation 7).
SMALLEST_NORM = 1e-4


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """`mean relu(1 - real) + mean relu(1 + fake)`: 0 where all are told apart by a margin, 2 where nothing is known.

    Args:
        real: Logits [N, P] of real pictures.
        fake: Logits [N, P] of reconstructed ones.

    Returns:
        [N].

    Source: Lim and Ye, "Geometric GAN", 2017.
    """
    return (F.relu(1 - real.float()) + F.relu(1 + fake.float())).mean(dim=1)


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """`-mean fake`: what the generator lowers; logits [N, P] of reconstructed pictures -> [N]. Source: as above."""
    return -fake.float().mean(dim=1)


def r1_penalty(real_logits: Tensor, real_pictures: Tensor) -> Tensor:
    """Squared norm of the gradient of D at real pictures, D being a picture's mean logit.

    The papers' regulariser is gamma / 2 times its mean. The graph is kept, so that the penalty can be trained on.

    Args:
        real_logits: [N, P], each row a function of the picture of its row alone.
        real_pictures: [N, ...] that the logits were computed from; must require a gradient.

    Returns:
        [N].

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, equation 9.
    """
    total = real_logits.float().mean(dim=1).sum()
    (gradient,) = torch.autograd.grad(total, real_pictures, create_graph=True)
    return gradient.float().flatten(1).square().sum(dim=1)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, layer: Tensor, limit: float = 1e4) -> Tensor:
    """Weight of the adversarial loss with which it pulls as strongly at a layer as the reconstruction loss does.

    `|gradient of reconstruction| / (|gradient of adversarial| + 1e-4)`, at most `limit`. Both graphs are kept.

    Each gradient runs back through all that follows the layer, and runs there once more in the training step's own
    backward pass. To go through the perceptual network and the discriminator once, take the gradients `g_r` and `g_a`
    of the two losses at the (detached) output first, and give `(output * g_r).sum()` and `(output * g_a).sum()` here:
    they have the same gradients at the layer.

    Args:
        reconstruction: Scalar; all terms that the adversarial one is balanced against.
        adversarial: Scalar; the generator's loss.
        layer: Weight of the decoder's last layer.
        limit: The largest weight.

    Returns:
        Scalar without a gradient. NaN where a gradient is.

    Source: Esser et al., "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021, equation 7.
    """
    (wanted,) = torch.autograd.grad(reconstruction, layer, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial, layer, retain_graph=True)
    return (wanted.float().norm() / (given.float().norm() + SMALLEST_NORM)).clamp(max=limit).detach()
