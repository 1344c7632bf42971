"""The adversarial losses against NumPy, finite differences and closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lavindit.losses import adaptive_weight, hinge_discriminator_loss, hinge_generator_loss, r1_penalty


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hinge_losses_against_numpy() -> None:
    real, fake = normal(4, 7, scale=2).float(), normal(4, 7, seed=1, scale=2).float()
    r, f = real.numpy(), fake.numpy()
    expected = np.maximum(0, 1 - r).mean(axis=1) + np.maximum(0, 1 + f).mean(axis=1)
    np.testing.assert_allclose(hinge_discriminator_loss(real, fake).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(hinge_generator_loss(fake).numpy(), -f.mean(axis=1), rtol=1e-6)


def test_hinge_losses_at_their_marks() -> None:
    zero, far = torch.zeros(2, 3), torch.full((2, 3), 1.5)
    assert hinge_discriminator_loss(zero, zero).tolist() == [2, 2]
    assert hinge_discriminator_loss(far, -far).tolist() == [0, 0]
    assert hinge_discriminator_loss(-far, far).tolist() == [5, 5]
    real, fake = far.clone().requires_grad_(), far.clone().requires_grad_()
    hinge_discriminator_loss(real, fake).sum().backward()
    assert real.grad is not None
    assert not real.grad.any()  # real ones beyond the margin teach nothing
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad, torch.full((2, 3), 1 / 3))
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    assert hinge_discriminator_loss(half, half).dtype == hinge_generator_loss(half).dtype == torch.float32


def test_r1_of_a_linear_discriminator() -> None:
    """D(x) = mean of two patches w_p . x, so its gradient is the mean of the w_p, whatever x."""
    weight = normal(2, 12).float().requires_grad_()
    pictures = normal(3, 3, 1, 2, 2, seed=1).float().requires_grad_()
    logits = pictures.flatten(1) @ weight.T
    penalty = r1_penalty(logits, pictures)
    expected = weight.mean(dim=0).square().sum()
    torch.testing.assert_close(penalty, expected.expand(3))
    (gradient,) = torch.autograd.grad(penalty.mean(), weight)
    torch.testing.assert_close(gradient, weight.mean(dim=0).expand(2, 12).detach())  # d |(a + b) / 2|^2 / da


def test_r1_by_autograd_and_by_sample() -> None:
    torch.manual_seed(0)
    judge = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv2d(4, 1, 3)).float()
    pictures = normal(3, 3, 5, 5).float().requires_grad_()
    penalty = r1_penalty(judge(pictures).flatten(1), pictures)
    for i in range(3):
        alone = pictures[[i]].detach().requires_grad_()
        (gradient,) = torch.autograd.grad(judge(alone).mean(), alone)
        torch.testing.assert_close(penalty[i], gradient.square().sum())
    weight = next(judge.parameters())
    (gradient,) = torch.autograd.grad(penalty.sum(), weight)
    direction = normal(*weight.shape, seed=3).float()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-3 * direction)
        values.append(r1_penalty(judge(pictures).flatten(1), pictures).sum().item())
        with torch.no_grad():
            weight.sub_(sign * 1e-3 * direction)
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_the_adaptive_weight_balances_gradients() -> None:
    features, layer = normal(5, 4).float(), normal(4, 3, seed=1).float().requires_grad_()
    output = features @ layer
    reconstruction, adversarial = output.square().mean(), -3 * output.tanh().mean()
    weight = adaptive_weight(reconstruction, adversarial, layer)
    assert weight.shape == ()
    assert not weight.requires_grad
    o = output.detach().numpy()
    wanted = np.linalg.norm(features.numpy().T @ (2 * o / o.size))
    given = np.linalg.norm(features.numpy().T @ (-3 * (1 - np.tanh(o) ** 2) / o.size))
    assert float(weight) == pytest.approx(wanted / (given + 1e-4), rel=1e-5)
    (reconstruction + weight * adversarial).backward()  # both graphs are still there
    assert layer.grad is not None


def test_the_adaptive_weight_at_its_limits() -> None:
    layer = normal(3).float().requires_grad_()
    reconstruction = (2 * layer).sum()  # |gradient| = 2 sqrt(3)
    assert float(adaptive_weight(reconstruction, (0 * layer).sum(), layer)) == pytest.approx(1e4)
    assert float(adaptive_weight(reconstruction, (0 * layer).sum(), layer, limit=50)) == 50
    assert float(adaptive_weight((0 * layer).sum(), (2 * layer).sum(), layer)) == 0
    assert adaptive_weight(reconstruction, (layer * torch.nan).sum(), layer).isnan()


def test_the_adaptive_weight_from_the_gradients_at_the_output() -> None:
    """The cheaper way of its docstring: the same weight, and the same gradient of the sum."""
    torch.manual_seed(0)
    decoder, judge = nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    output, truth = decoder(normal(5, 4).float()), normal(5, 6, seed=1).float()
    reconstruction, adversarial = (output - truth).square().mean(), -judge(output).mean()
    weight = adaptive_weight(reconstruction, adversarial, decoder.weight)
    (expected,) = torch.autograd.grad(reconstruction + weight * adversarial, decoder.weight, retain_graph=True)

    leaf = output.detach().requires_grad_()
    (g_r,) = torch.autograd.grad((leaf - truth).square().mean(), leaf)
    (g_a,) = torch.autograd.grad(-judge(leaf).mean(), leaf)
    cheap = adaptive_weight((output * g_r).sum(), (output * g_a).sum(), decoder.weight)
    torch.testing.assert_close(cheap, weight)
    (gradient,) = torch.autograd.grad(output, decoder.weight, g_r + cheap * g_a)
    torch.testing.assert_close(gradient, expected)
