"""One-step training: what learns, what is compared, and that the exported model answers as it was trained."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lavindit.codecs import IdentityCodec
from lavindit.data.episodes import collate
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference import Engine, SamplingConfig
from lavindit.inference.sampler import sample_latents
from lavindit.models import JDiT, JDiTConfig, load_engine_model, save_model
from lavindit.training import OneStepModule
from lavindit.training.one_step import masked_loss
from lavindit.types import Episode, EpisodeBatch, Pair

SIZE = 32
CAUSAL = JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1, context_attention="causal")


def make_batch(pairs: int = 2) -> EpisodeBatch:
    """Two episodes whose targets are their inputs' negatives; the right half of a query's truth is not known."""
    generator = torch.Generator().manual_seed(0)
    episodes = []
    for number in range(2):
        coarse = torch.rand(pairs + 1, 3, 1, 4, 4, generator=generator).repeat_interleave(8, 3).repeat_interleave(8, 4)
        valid = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
        shown = [Pair(picture, 1 - picture, 1 - picture, valid) for picture in coarse]
        shown[-1] = replace(shown[-1], valid=valid & (torch.arange(SIZE) < SIZE // 2))
        episodes.append(
            Episode("negative", f"negative/{number}", tuple(shown[:-1]), shown[-1], IdentityCodec(), number)
        )
    return collate(episodes)


def make_module(tiny_model_dir, **options) -> tuple[OneStepModule, JDiT]:
    module = OneStepModule(str(tiny_model_dir), str(tiny_model_dir), CAUSAL, **options)
    module.configure_model()
    assert isinstance(module.network, JDiT)
    return module, module.network


def losses_of(module: OneStepModule, model: JDiT, batch: EpisodeBatch) -> torch.Tensor:
    return module.picture_losses(model, batch, module._encode(batch, 0), [1, 2])


def test_gradient_goes_through_the_vae_and_stays_in_the_transformer(tiny_model_dir):
    module, network = make_module(tiny_model_dir, l1_weight=0.1)
    losses_of(module, network, make_batch()).mean().backward()
    silent = [
        name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert silent == ["target_embed.0.weight"]  # what it multiplies is zeros
    vae = module.frozen_vae()
    assert not vae.training
    assert all(p.grad is None and not p.requires_grad for p in vae.parameters())
    assert not any(name.startswith(("vae", "_vae")) for name in module.state_dict())


@pytest.mark.parametrize("start", ["zeros", "noise"])
def test_some_steps_lower_the_error_of_one_step(tiny_model_dir, start):
    module, network = make_module(tiny_model_dir, sampling=SamplingConfig(steps=1, start=start), latent_weight=0.1)
    batch, optimizer = make_batch(), torch.optim.Adam(network.parameters(), lr=1e-2)
    before = losses_of(module, network, batch).detach()
    for _ in range(8):
        optimizer.zero_grad()
        losses_of(module, network, batch).mean().backward()
        optimizer.step()
    assert losses_of(module, network, batch).mean() < 0.9 * before.mean()


def test_parts_of_a_batch_in_the_decoder_change_nothing(tiny_model_dir):
    found = []
    for chunk in (None, 1):
        module, network = make_module(tiny_model_dir, vae_chunk=chunk)
        losses = losses_of(module, network, make_batch())
        losses.mean().backward()
        found.append((losses.detach(), network.final.weight.grad))
    for whole, parted in zip(*found, strict=True):
        torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-6)


def test_only_known_pixels_count():
    pixels, valid = torch.zeros(3, 3, 1, 2, 2), torch.zeros(3, 1, 1, 2, 2, dtype=torch.bool)
    valid[0, ..., 0], valid[1] = True, True
    output = pixels + torch.tensor([2.0, float("nan")])  # by column
    output[1] = 0.5
    torch.testing.assert_close(masked_loss(output, pixels, valid), torch.tensor([4.0, 0.25, 0.0]))
    torch.testing.assert_close(masked_loss(output, pixels, valid, 0.5), torch.tensor([5.0, 0.5, 0.0]))
    output.requires_grad_()
    masked_loss(output, pixels, valid).sum().backward()
    assert output.grad is not None
    assert not output.grad[~valid.expand_as(output)].any()
    assert output.grad.isfinite().all()


@pytest.mark.parametrize("start", ["zeros", "noise"])
def test_the_exported_model_answers_as_it_was_trained(tiny_model_dir, tmp_path, monkeypatch, start):
    module, network = make_module(tiny_model_dir, sampling=SamplingConfig(steps=1, start=start))
    monkeypatch.setattr(module, "training_info", lambda: {"resolution": SIZE})
    save_model(module.bundle(network), tmp_path / "model")
    vae, jdit, info = load_engine_model(tmp_path / "model")
    settings = Engine(vae, jdit, info).settings
    assert (settings.sampling.steps, settings.sampling.start, settings.sampling.guidance) == (1, start, 1)
    batch = make_batch()
    latent = module._encode(batch, 0)
    found = sample_latents(jdit, latent, batch.sample_ids, settings.sampling)
    if start == "zeros":
        trained = module.one_step(network, latent, [1, 2])
        torch.testing.assert_close(found, trained, rtol=0, atol=1e-4)
    else:  # noise of one's own: the same step, from where the seeds say
        others = [module.one_step(network, latent, seeds) for seeds in ([1, 2], [3, 2])]
        assert torch.equal(others[0][1], others[1][1])
        assert float((others[0][0] - others[1][0]).detach().abs().mean()) > 0.1
        assert float((found - others[0]).detach().abs().mean()) > 0.1


def test_training_and_validation_steps_take_that_loss(tiny_model_dir, monkeypatch):
    module, network = make_module(tiny_model_dir, sampling=SamplingConfig(steps=1, start="noise"))
    batch, logged = make_batch(), []
    monkeypatch.setattr(type(module), "micro_step", 0)
    monkeypatch.setattr(module, "log_training", lambda losses, tasks: logged.append((losses, tasks)))
    monkeypatch.setattr(module, "require_finite", lambda value, name: None)
    seeds = [seed_from("train", 0, number) for number in (0, 1)]
    expected = module.picture_losses(network, batch, module._encode(batch, 0), seeds)
    torch.testing.assert_close(module.training_step(batch, 0), expected.mean())
    assert logged[0][1] == ["negative", "negative"]
    module.validation_step(batch, 0)
    ((total, count),) = module._validation.values()
    seeds = [seed_from("val", 0, name) for name in batch.sample_ids]
    assert count == 2
    assert float(total) == pytest.approx(
        float(module.picture_losses(module.averaged(), batch, module._encode(batch, 0), seeds).sum()), rel=1e-4
    )


@pytest.mark.parametrize("wrong", [{"steps": 2}, {"solver": "heun"}, {"guidance": 1.5}])
def test_more_than_one_step_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(LavinditError, match=rf"needs sampling\.{name}: \w+.*, got {wrong[name]}"):
        OneStepModule("nowhere", "nowhere", sampling=SamplingConfig(**{"steps": 1, **wrong}))


def test_stored_latents_are_refused():
    with pytest.raises(LavinditError, match=r"latents in cache hold none; leave data\.latents out"):
        OneStepModule("nowhere", "nowhere").check_latents("cache", SimpleNamespace())  # pyright: ignore
