"""The VAE's objective, whose graph is cut at the outputs, against the same loss written down naively."""

import pytest
import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.losses import hinge_discriminator_loss, hinge_generator_loss
from lavindit.models import STVAE, Discriminator, DiscriminatorConfig, STVAEConfig
from lavindit.training.vae_losses import AdversarialConfig, PerceptualConfig, Rebuilt, Terms, VAEObjective

ADVERSARY = DiscriminatorConfig(width=8, layers=1)
FRAMES = (1, 5)
"""Of the two groups of a step: images, and clips in a smaller number."""


def make_objective(**adversarial: object) -> VAEObjective:
    options = {"weight": 0.3, "discriminator": ADVERSARY} | adversarial
    return VAEObjective(0.5, 1e-3, False, PerceptualConfig(), AdversarialConfig(**options))  # pyright: ignore


def make_vae() -> STVAE:
    torch.manual_seed(0)
    config = STVAEConfig(widths=(8, 8, 8), decoder_blocks=1, norm_groups=4, patch=4, conv="2+1d", linear_shortcut=True)
    vae = STVAE(config)
    nn.init.normal_(vae.decoder.head.weight, std=0.05)  # at its start, 0, nothing before it would get a gradient
    return vae


def rebuild(vae: STVAE) -> list[Rebuilt]:
    generator, groups = torch.Generator().manual_seed(1), []
    for count, frames in zip((3, 2), FRAMES, strict=True):
        pixels = torch.rand(count, 3, frames, 16, 16, generator=generator) * 2 - 1
        posterior = vae.encode(pixels)
        draw = posterior.at(torch.randn(posterior.mean.shape, generator=generator))
        groups.append(Rebuilt(pixels, vae.decode(draw), posterior))
    return groups


def make_discriminator(**options: object) -> Discriminator:
    torch.manual_seed(2)
    return Discriminator(DiscriminatorConfig(width=8, layers=1, **options))  # pyright: ignore


def gradients(loss: Tensor, network: nn.Module) -> dict[str, Tensor]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def naive(
    terms: list[Terms], groups: list[Rebuilt], judge: Discriminator, layer: Tensor, config: AdversarialConfig
) -> tuple[Tensor, Tensor]:
    """Fidelity + w adversarial + KL in one graph, means over all pictures; and w."""
    fidelity = torch.cat([term.fidelity for term in terms]).mean()
    kl = torch.cat([term.kl for term in terms]).mean()
    adversarial = torch.cat([-judge(group.output).mean(1) for group in groups]).mean()
    weight = torch.tensor(config.weight)
    if config.adaptive:
        pull, push = (torch.autograd.grad(x, layer, retain_graph=True)[0].norm() for x in (fidelity, adversarial))
        weight = config.weight * (pull / (push + 1e-4)).clamp(max=config.limit)
    return fidelity + weight.detach() * adversarial + kl, weight


@pytest.mark.parametrize("options", [{}, {"adaptive": False}, {"limit": 0.01}])
def test_the_loss_against_an_adversary_is_the_naive_one(options: dict[str, object]) -> None:
    objective, vae, judge = make_objective(**options), make_vae(), make_discriminator()
    groups, layer = rebuild(vae), vae.decoder.head.weight
    terms = [objective.terms(group, 0) for group in groups]
    expected, ratio = naive(terms, groups, judge, layer, objective.adversarial)
    wanted = gradients(expected, vae)
    judge.requires_grad_(False)
    groups = rebuild(vae)
    loss, weight = objective.against([objective.terms(g, 0) for g in groups], groups, judge, layer)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weight, ratio, atol=1e-7, rtol=1e-4)
    if options.get("limit"):
        assert float(weight) == pytest.approx(0.3 * 0.01)
    elif objective.adversarial.adaptive:
        assert abs(float(weight) / 0.3 - 1) > 0.1  # a ratio, not by chance 1
    found = gradients(loss, vae)
    assert found.keys() == wanted.keys() == dict(vae.named_parameters()).keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3, msg=name)
    loss.backward()
    assert all(parameter.grad is None for parameter in judge.parameters())


def test_the_adversary_changes_the_gradient() -> None:
    """Or the test above could not tell a missing term."""
    objective, vae, judge = make_objective(adaptive=False), make_vae(), make_discriminator()
    groups = rebuild(vae)
    terms = [objective.terms(group, 0) for group in groups]
    without = gradients(torch.cat([term.total for term in terms]).mean(), vae)
    loss, _ = objective.against(terms, groups, judge, vae.decoder.head.weight)
    found = gradients(loss, vae)
    assert (found["decoder.head.weight"] - without["decoder.head.weight"]).abs().max() > 1e-4


@pytest.mark.parametrize("step", [0, 1, 3])
def test_the_discriminators_loss_is_the_naive_one(step: int) -> None:
    objective, vae, judge = make_objective(r1_weight=0.7, r1_every=3), make_vae(), make_discriminator()
    groups = rebuild(vae)
    found = objective.of_adversary(groups, judge, step)
    hinge, penalties, logits = [], [], {"real": [], "fake": []}
    for group in groups:
        pixels = group.pixels.clone().requires_grad_()
        real, fake = judge(pixels), judge(group.output.detach())
        hinge.append((1 - real).relu().mean(1) + (1 + fake).relu().mean(1))
        for name, values in (("real", real), ("fake", fake)):
            logits[name].append(values.mean(1))
        for place in range(len(pixels)):
            (slope,) = torch.autograd.grad(real[place].mean(), pixels, create_graph=True)
            penalties.append(slope.square().sum())
    expected = torch.cat(hinge).mean()
    torch.testing.assert_close(found.hinge, expected.detach(), atol=1e-6, rtol=1e-5)
    if step % 3 == 0:  # every third step, three times as strong
        penalty = 0.7 / 2 * 3 * torch.stack(penalties).mean()
        assert penalty.item() > 1e-4
        expected = expected + penalty
    torch.testing.assert_close(found.total, expected, atol=1e-6, rtol=1e-5)
    for name, values in logits.items():
        torch.testing.assert_close(getattr(found, name), torch.cat(values).mean().detach(), atol=1e-6, rtol=1e-5)
    wanted, own = gradients(expected, judge), gradients(found.total, judge)
    assert own.keys() == wanted.keys()
    assert any(name.startswith("temporal_branch") for name in own)
    for name, gradient in wanted.items():
        torch.testing.assert_close(own[name], gradient, atol=1e-6, rtol=1e-3, msg=name)
    found.total.backward()
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_terms_are_weighted_as_asked() -> None:
    vae = make_vae()
    group = rebuild(vae)[0]
    plain, halved = (
        make_objective().terms(group, 0),
        VAEObjective(0.0, 2e-3, True, PerceptualConfig(), AdversarialConfig()).terms(group, 0),
    )
    error = (group.output - group.pixels).flatten(1)
    torch.testing.assert_close(plain.pixel, error.square().mean(1) + 0.5 * error.abs().mean(1))
    torch.testing.assert_close(halved.pixel, error.square().mean(1))
    torch.testing.assert_close(plain.kl, 1e-3 * group.posterior.kl())
    torch.testing.assert_close(halved.kl, 2e-3 * group.posterior.kl() / 2)  # the latent is two wide
    assert plain.perceptual is None
    torch.testing.assert_close(plain.fidelity, plain.pixel)
    torch.testing.assert_close(plain.total, plain.pixel + plain.kl)


def test_the_likeness_is_weighted_and_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PerceptualConfig, "make", lambda self: lambda output, pixels, step: output.new_full((3,), step))
    objective = VAEObjective(0.0, 0.0, False, PerceptualConfig(weight=0.2), AdversarialConfig())
    terms = objective.terms(rebuild(make_vae())[0], 4)
    assert terms.perceptual is not None
    assert terms.perceptual.tolist() == [4, 4, 4]
    torch.testing.assert_close(terms.fidelity, terms.pixel + 0.8)


def test_a_clip_and_an_image_weigh_the_same() -> None:
    """A step's loss is a mean over pictures, not over groups or frames."""
    judge, vae = make_discriminator(), make_vae()
    groups = rebuild(vae)
    logits = [judge(group.output) for group in groups]
    assert logits[0].shape[1] < logits[1].shape[1]
    objective = make_objective(adaptive=False)
    none = torch.zeros(())
    terms = [Terms(g.output.flatten(1)[:, 0] * 0, None, g.output.flatten(1)[:, 0] * 0, none.expand(1)) for g in groups]
    loss, weight = objective.against(terms, groups, judge, vae.decoder.head.weight)
    each = torch.cat([hinge_generator_loss(row) for row in logits])
    assert each.shape == (5,)
    torch.testing.assert_close(loss, weight * each.mean())
    hinge = torch.cat([hinge_discriminator_loss(judge(g.pixels), judge(g.output)) for g in groups])
    torch.testing.assert_close(objective.of_adversary(groups, judge, 0).hinge, hinge.mean())


@pytest.mark.parametrize("options", [{"r1_every": 0}, {"start": -1}, {"weight": -1.0}, {"r1_weight": float("nan")}])
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, float]) -> None:
    with pytest.raises(LavinditError, match=next(iter(options))) as refused:
        AdversarialConfig(**options)  # pyright: ignore
    assert "\n" not in str(refused.value)
