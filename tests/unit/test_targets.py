"""One pass over a context trains many noisy targets, and each has the loss that it has alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conftest import TINY_JDIT, make_tiny_jdit
from lavindit.errors import LavinditError
from lavindit.inference.sampler import join_context, null_context
from lavindit.losses import flow_matching_loss
from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import query_layout
from lavindit.training import DiTModule
from lavindit.training.targets import Drops, NoisyTargets
from lavindit.types import LatentEpisode

SEEDS = [3, 4]


def model_of(mode: str) -> JDiT:
    return make_tiny_jdit(replace(TINY_JDIT, context_attention=mode))  # pyright: ignore[reportArgumentType]


def episodes(pairs: int, frames: int = 1) -> LatentEpisode:
    generator = torch.Generator().manual_seed(pairs)
    inputs, targets = torch.randn(2, len(SEEDS), pairs + 1, 16, frames, 4, 4, generator=generator).unbind(0)
    return LatentEpisode(inputs, targets)


def first_pairs(latent: LatentEpisode, pairs: int) -> LatentEpisode:
    """What asks after `pairs` pairs: the next input."""
    return LatentEpisode(latent.inputs[:, : pairs + 1], latent.targets[:, : pairs + 1])


def loss_alone(model: JDiT, context: Tensor, target: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Loss [B] of one target [B, C, T, h, w] at times [B], in a pass of its own, as the paper writes it."""
    at = t.view(-1, 1, 1, 1, 1)
    frames = target.shape[2]
    layout = query_layout(model.config.context_attention, context.shape[2], frames, frames)
    predicted = model((1 - at) * noise + at * target, t, context, layout)
    return (predicted - (target - noise)).square().flatten(1).mean(1)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("pairs", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["prefix", "causal"])
@torch.no_grad()
def test_copies_of_the_querys_target_have_the_losses_of_passes_of_their_own(mode, pairs, frames):
    model, latent, targets = model_of(mode), episodes(pairs, frames), NoisyTargets(copies=3, time_shift=2.0)
    target = latent.targets[:, -1]
    noise, t = targets.draw(SEEDS, target.repeat(1, 1, 3, 1, 1), 3)
    alone = [
        loss_alone(model, join_context(latent), target, part, t[:, i])
        for i, part in enumerate(noise.split(frames, dim=2))
    ]
    assert t.unique().numel() == 6
    torch.testing.assert_close(targets.losses(model, latent, SEEDS), torch.stack(alone).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("pairs", [1, 2, 3, 4])
@torch.no_grad()
def test_targets_of_every_pair_have_the_losses_of_passes_of_their_own(pairs, frames, copies):
    model, latent, targets = model_of("causal"), episodes(pairs, frames), NoisyTargets("every_pair", copies)
    wanted = latent.targets.transpose(1, 2).flatten(2, 3).repeat(1, 1, copies, 1, 1)
    noise, t = targets.draw(SEEDS, wanted, copies * (pairs + 1))
    alone = []
    for i, part in enumerate(noise.split(frames, dim=2)):
        shown = first_pairs(latent, i % (pairs + 1))
        alone.append(loss_alone(model, join_context(shown), shown.targets[:, -1], part, t[:, i]))
    torch.testing.assert_close(targets.losses(model, latent, SEEDS), torch.stack(alone).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2])
@torch.no_grad()
def test_later_pairs_do_not_change_the_loss_of_earlier_targets(frames, monkeypatch):
    found: list[Tensor] = []

    def noted(*parts: Tensor) -> Tensor:
        found.append(flow_matching_loss(*parts))
        return found[-1]

    monkeypatch.setattr("lavindit.training.targets.flow_matching_loss", noted)
    model, latent, targets = model_of("causal"), episodes(4, frames), NoisyTargets("every_pair", copies=2)
    later = LatentEpisode(latent.inputs.clone(), latent.targets.clone())
    later.inputs[:, 3:], later.targets[:, 3:] = 7.0, -7.0
    for episode in (latent, later):
        targets.losses(model, episode, SEEDS)
    before, after = (by_target.unflatten(1, (2, 5, frames)) for by_target in found)
    torch.testing.assert_close(before[:, :, :3], after[:, :, :3], atol=1e-6, rtol=1e-5)
    assert (before[:, :, 3:] - after[:, :, 3:]).abs().min() > 1e-2


@pytest.mark.parametrize("mode", ["prefix", "causal"])
@torch.no_grad()
def test_copies_lose_their_pairs_together(mode):
    model, latent, targets = model_of(mode), episodes(2), NoisyTargets(copies=2)
    target = latent.targets[:, -1]
    found = targets.losses(model, latent, SEEDS, Drops((False, True), with_pairs=True, without=True))
    noise, t = targets.draw(SEEDS, target.repeat(1, 1, 2, 1, 1), 2)
    for row, context in enumerate((join_context(latent), null_context(model, latent.inputs[:, -1]))):
        alone = [loss_alone(model, context, target, noise[:, :, i : i + 1], t[:, i])[row] for i in range(2)]
        torch.testing.assert_close(found[row], torch.stack(alone).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize(
    ("mode", "which", "copies", "drop"),
    [
        ("joint", "query", 1, 0.0),
        ("prefix", "query", 1, 1.0),
        ("prefix", "query", 3, 0.0),
        ("prefix", "query", 3, 1.0),
        ("causal", "query", 2, 1.0),
        ("causal", "every_pair", 2, 0.3),
    ],
)
def test_cost_is_that_of_the_pass(mode, which, copies, drop, frames, monkeypatch):
    """Attention in calls without masks computes what the layout lets see each other and no more."""
    monkeypatch.setattr("lavindit.models.jdit.rope.FEW_TOKENS", 0)
    model, targets, latent = model_of(mode), NoisyTargets(which, copies), episodes(2, frames)
    one = LatentEpisode(latent.inputs[:1], latent.targets[:1])
    tokens, flops = targets.cost(model.config, 2, frames, frames, 4, drop)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(sum(x[0, ..., 0].numel() for x in args[:2])))
    lost = drop == 1
    drops = Drops((lost,), with_pairs=not lost, without=lost)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        targets.losses(model, one, SEEDS[:1], drops)
    assert seen == [tokens]
    assert flops == pytest.approx(3 * counter.get_total_flops(), rel=1e-6)


def test_what_an_attention_cannot_train_is_refused():
    causal = JDiTConfig(context_attention="causal")
    for words, options in {
        "noisy_copies: 2 needs network.context_attention: prefix or causal": {"noisy_copies": 2},
        "every_pair needs network.context_attention: causal": {"targets": "every_pair"},
        "noisy_copies must be at least 1, got 0": {"noisy_copies": 0, "network": causal},
        "unknown targets 'all'; there are query, every_pair": {"targets": "all", "network": causal},
    }.items():
        with pytest.raises(LavinditError, match=words) as caught:
            DiTModule("nowhere", **options)  # pyright: ignore[reportArgumentType]
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="joint"):
        query_layout("joint", 3, 1, copies=2)
