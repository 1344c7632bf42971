"""A context that is read once gives the answers of one that is computed anew for every step."""

import pytest
import torch
from test_jdit import OURS, latents, random_model

from lavindit.models.jdit import KVCache, join_caches, query_layout
from lavindit.models.jdit.attention import plain_kernel

READ_ONCE = ["prefix", "causal"]
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def shared(batch: int, frames: int, seed: int) -> torch.Tensor:
    return latents(frames, seed).expand(batch, -1, -1, -1, -1)


@pytest.mark.parametrize("queries_per_kv", [1, 2])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("pairs", range(1, 9))
@pytest.mark.parametrize("mode", READ_ONCE)
def test_an_answer_from_what_was_read_is_the_answer(mode, pairs, frames, batch, queries_per_kv):
    model = random_model(context_attention=mode, queries_per_kv=queries_per_kv)
    context, query = latents(2 * pairs * frames, 1), latents(frames, 2, batch)
    noisy, t = latents(frames, 3, batch), torch.linspace(0.1, 0.9, batch)
    layout = query_layout(mode, (2 * pairs + 1) * frames, frames, frames)
    whole = model(noisy, t, torch.cat([context.expand(batch, -1, -1, -1, -1), query], dim=2), layout)
    prompt = model.read(context)
    asked = model.read(query, [prompt])
    assert prompt.keys.shape[1] == 1
    torch.testing.assert_close(model.answer(noisy, t, [prompt, asked]), whole, **TOLERANCE)


@pytest.mark.parametrize("mode", READ_ONCE)
def test_a_context_of_each_episodes_own_is_read_as_well(mode):
    model, context, query, noisy = random_model(context_attention=mode), *(latents(f, f, 3) for f in (4, 1, 2))
    t = torch.tensor([0.2, 0.5, 0.8])
    layout = query_layout(mode, 5, 2)
    prompt = model.read(context)
    found = model.answer(noisy, t, [prompt, model.read(query, [prompt])])
    torch.testing.assert_close(found, model(noisy, t, torch.cat([context, query], 2), layout), **TOLERANCE)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 3), (1, 3)])
@pytest.mark.parametrize("mode", READ_ONCE)
def test_an_input_beside_the_noise_is_there_whoever_read_it(mode, sizes):
    frames_in, frames_out = sizes
    model = random_model(context_attention=mode, **OURS)
    context, query = latents(2 * (frames_in + frames_out), 1), latents(frames_in, 2, 2)
    noisy, t = latents(frames_out, 3, 2), torch.tensor([0.2, 0.7])
    layout = query_layout(mode, context.shape[2] + frames_in, frames_out, frames_in)
    whole = model(noisy, t, torch.cat([context.expand(2, -1, -1, -1, -1), query], dim=2), layout)
    prompt = model.read(context)
    past = [prompt, model.read(query, [prompt])]
    torch.testing.assert_close(model.answer(noisy, t, past, query), whole, **TOLERANCE)
    assert (model.answer(noisy, t, past, query.roll(1, 3)) - whole).abs().max() > 1e-2
    with pytest.raises(ValueError, match="needs the query"):
        model.answer(noisy, t, past)


def test_frames_may_be_read_one_after_the_other():
    model, context = random_model(context_attention="causal"), latents(6, 1)
    whole, parts = model.read(context), []
    for pair in context.split(2, dim=2):
        parts.append(model.read(pair, parts))
    appended = join_caches(parts)
    assert appended.frames == whole.frames == 6
    torch.testing.assert_close(appended.keys, whole.keys, **TOLERANCE)
    torch.testing.assert_close(appended.values, whole.values, **TOLERANCE)


def test_a_causal_answer_does_not_change_with_what_comes_later():
    model, context = random_model(context_attention="causal"), latents(6, 1)
    changed = context.clone()
    changed[:, :, 4:] += 1
    for a, b in zip((model.read(context).keys, model.read(context).values),
        (model.read(changed).keys, model.read(changed).values), strict=True):  # fmt: skip
        tokens = 4 * 6
        torch.testing.assert_close(a[:, :, :, :tokens], b[:, :, :, :tokens], atol=1e-6, rtol=0)
        assert (a[:, :, :, tokens:] - b[:, :, :, tokens:]).abs().max() > 1e-2


def test_a_joint_context_cannot_be_read_beforehand():
    with pytest.raises(ValueError, match="joint"):
        random_model(context_attention="joint").read(latents(3, 1))


@pytest.mark.parametrize("mode", READ_ONCE)
def test_calls_and_mask_attend_alike(mode, monkeypatch):
    model, noisy, context = random_model(context_attention=mode), latents(2, 0), latents(7, 1)
    t, layout = torch.tensor([0.4]), query_layout(mode, 7, 2)
    found = []
    for few in (0, 10**9):
        monkeypatch.setattr("lavindit.models.jdit.rope.FEW_TOKENS", few)
        found.append(model(noisy, t, context, layout))
    torch.testing.assert_close(*found, **TOLERANCE)


def test_the_fused_kernel_tells_the_normaliser_that_the_plain_one_does(monkeypatch):
    model = random_model(context_attention="causal", queries_per_kv=2)
    context, query, noisy, t = latents(4, 1), latents(1, 2, 2), latents(1, 3, 2), torch.tensor([0.3, 0.6])

    def answer() -> torch.Tensor:
        prompt = model.read(context)
        return model.answer(noisy, t, [prompt, model.read(query, [prompt])])

    fused = answer()
    monkeypatch.setattr("lavindit.models.jdit.attention._kernel", plain_kernel)
    torch.testing.assert_close(fused, answer(), **TOLERANCE)


def test_bytes_of_a_cache():
    model = random_model(context_attention="prefix")
    cache = model.read(latents(4, 1))
    config = model.config
    assert isinstance(cache, KVCache)
    assert cache.bytes == 2 * 4 * config.depth * 4 * 6 * config.kv_width
