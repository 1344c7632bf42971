"""The autoregressive baseline of benchmarks/: tokenizer, decoder, answers, files."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from conftest import TINY_VAE, make_tiny_vae
from lavindit.errors import LavinditError
from lavindit.models import JDiTConfig
from lavindit.models.jdit.cost import count_parameters
from lavindit.types import EpisodeBatch
from tiny_autoregressive import import_baseline, make_tokenizer


@pytest.fixture
def ar(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    return import_baseline(monkeypatch)


@pytest.fixture
def tokenizer(ar):
    return make_tokenizer(ar)


@pytest.fixture
def decoder(ar):
    """A decoder of two blocks whose features depend on all that it reads."""
    torch.manual_seed(0)
    model = ar.model.Decoder(ar.model.DecoderConfig(codes=20, width=32, depth=2, heads=2, mlp_width=64)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    return model


def smooth_pictures(count: int, px: int = 32) -> Tensor:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(px, px), mode="bilinear").unsqueeze(2)


@pytest.mark.parametrize("codes", [1000, 4375, 15360, 64000])
def test_every_code_is_reached_and_has_a_number(ar, codes: int) -> None:
    levels = ar.tokenizer.LEVELS[codes]
    fsq, numbers = ar.tokenizer.FSQ(levels), torch.arange(codes)
    assert math.prod(levels) == codes
    digits = fsq.to_digits(numbers)
    assert torch.equal(fsq.to_tokens(digits), numbers)
    ramp = torch.linspace(-9, 9, 2001)[:, None].expand(-1, len(levels))
    found = fsq(ramp)
    assert [len(column.unique()) for column in found.T] == list(levels)
    assert torch.isin((found * 1000).round(), (digits * 1000).round()).all()
    assert (found.diff(dim=0) >= 0).all()


def test_the_gradient_passes_the_rounding(ar) -> None:
    z = torch.zeros(3, 4, requires_grad=True)
    ar.tokenizer.FSQ((8, 5, 5, 5))(z).sum().backward()
    assert z.grad is not None
    assert (z.grad > 0.3).all()


def test_a_tokenizer_reconstructs_better_after_a_few_steps(ar, tokenizer) -> None:
    pictures = smooth_pictures(4)
    tokenizer.train()
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=3e-3)
    before = torch.nn.functional.mse_loss(tokenizer(pictures), pictures).item()
    for _ in range(15):
        optimizer.zero_grad()
        ar.tokenizer.tokenizer_loss(tokenizer, pictures).backward()
        optimizer.step()
    after = torch.nn.functional.mse_loss(tokenizer(pictures), pictures).item()
    assert after < 0.5 * before


@pytest.mark.parametrize(("token_px", "count"), [(8, 16), (16, 4)])
def test_tokens_are_what_is_decoded(ar, token_px: int, count: int) -> None:
    config = ar.tokenizer.TokenizerConfig(token_px=token_px, vae=TINY_VAE)
    network, pictures = ar.tokenizer.Tokenizer(config).eval(), smooth_pictures(3)
    tokens = network.encode(pictures.unflatten(0, (3, 1)), chunk=2)
    assert tokens.shape == (3, 1, count)
    assert network.tokens_of(32) == count
    torch.testing.assert_close(network.decode(tokens[:, 0], 32), network(pictures).clamp(0, 1).detach())
    with pytest.raises(LavinditError, match="multiples of"):
        network.encode(torch.rand(1, 3, 1, 36, 36))
    with pytest.raises(LavinditError, match="pictures"):
        network.encode(torch.rand(1, 3, 5, 32, 32))


def test_a_tokenizer_starts_from_a_vae(ar, tokenizer) -> None:
    vae = make_tiny_vae()
    with pytest.raises(LavinditError, match="another size"):
        tokenizer.start_from(vae)
    started = ar.tokenizer.Tokenizer(ar.tokenizer.TokenizerConfig(vae=vae.config))
    started.start_from(vae)
    assert all(torch.equal(a, b) for a, b in zip(started.vae.parameters(), vae.parameters(), strict=True))


def test_features_do_not_depend_on_what_follows(decoder) -> None:
    tokens = torch.arange(12)[None] % 20
    changed = tokens.clone()
    changed[0, 7] = 19
    with torch.no_grad():
        one, other = decoder(tokens), decoder(changed)
    torch.testing.assert_close(one[:, :7], other[:, :7])
    assert (one[:, 7:] - other[:, 7:]).abs().amax(-1).min() > 1e-3


def test_what_is_cached_is_what_is_read_at_once(ar, decoder) -> None:
    tokens = torch.randint(20, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = decoder(torch.nn.functional.pad(tokens, (1, 0), value=decoder.config.begin))
    prompt, features = decoder.read(tokens[:, :6])
    torch.testing.assert_close(features, whole[:, 6])
    cache, features = decoder.read(tokens[:, 6:9], prompt, room=3)
    torch.testing.assert_close(features, whole[:, 9])
    for place in range(9, 12):
        with torch.no_grad():
            features = decoder(tokens[:, place : place + 1], cache)[:, -1]
        torch.testing.assert_close(features, whole[:, place + 1])
    assert (prompt.length, cache.length) == (7, 13)
    alone, _ = decoder.read(tokens[:1, :6])
    _, shared = decoder.read(tokens[:, 6:9], alone)
    _, own = decoder.read(torch.cat([tokens[:1, :6].expand(2, -1), tokens[:, 6:9]], dim=1))
    torch.testing.assert_close(shared, own)


def test_greedy_answers_are_those_of_whole_passes(ar, decoder) -> None:
    tokens = torch.randint(20, (2, 10), generator=torch.Generator().manual_seed(1))
    prompt, _ = decoder.read(tokens[:, :6])
    answer = ar.answers.generate(decoder, tokens[:, 6:], ["a", "b"], ar.answers.Sampling(), prompt)
    sentence = torch.nn.functional.pad(tokens, (1, 0), value=decoder.config.begin)
    for place in range(4):
        with torch.no_grad():
            following = decoder.logits(decoder(sentence)[:, -1]).argmax(-1)
        assert torch.equal(answer[:, place], following)
        sentence = torch.cat([sentence, following[:, None]], dim=1)


def test_draws_follow_the_probabilities_and_belong_to_their_sample(ar, decoder) -> None:
    sampling = ar.answers.Sampling(temperature=2.0, top_k=3)
    logits, n = torch.tensor([[3.0, 0.0, 1.0, -1.0]]), 4000
    drawn = sampling.choose(logits.expand(n, -1), torch.rand(n, generator=torch.Generator().manual_seed(0)))
    wanted = (torch.tensor([3.0, 0.0, 1.0]) / 2).softmax(0)
    torch.testing.assert_close(drawn.bincount(minlength=4)[:3] / n, wanted, atol=0.03, rtol=0)
    assert drawn.max() == 2
    assert sampling.choose(logits, torch.tensor([0.9999999])).item() == 1
    query = torch.randint(20, (2, 4), generator=torch.Generator().manual_seed(2))
    both = ar.answers.generate(decoder, query, ["a", "b"], sampling)
    alone = ar.answers.generate(decoder, query[1:], ["b"], sampling)
    assert torch.equal(both[1:], alone)
    other = ar.answers.generate(decoder, query, ["a", "b"], replace(sampling, seed=1))
    assert not torch.equal(both, other)
    assert torch.equal(
        ar.answers.generate(decoder, query, ["a", "b"], ar.answers.Sampling(1.0, 1)),
        ar.answers.generate(decoder, query, ["a", "b"], ar.answers.Sampling()),
    )


def test_samplings_have_names(ar) -> None:
    parse = ar.answers.Sampling.parse
    assert parse("greedy", 3) == ar.answers.Sampling(0.0, None, 3)
    assert parse("0.7/50") == ar.answers.Sampling(0.7, 50)
    for wrong in ("hot", "1/x", "-1", "1/0"):
        with pytest.raises(LavinditError):
            parse(wrong)


@pytest.mark.parametrize("codes", [1000, 4375])
def test_parameters_are_those_of_the_network_beside(ar, codes: int) -> None:
    wanted = sum(count_parameters(JDiTConfig(width=192, depth=6, heads=4, queries_per_kv=2)).values())
    config = ar.model.match_parameters(wanted, codes)
    with torch.device("meta"):
        network = ar.model.Decoder(config)
    assert sum(p.numel() for p in network.parameters()) == config.parameters
    assert abs(config.parameters / wanted - 1) < 0.03
    assert 2 <= config.mlp_width / config.width <= 3.5
    assert 12 < config.width / config.depth < 80
    with pytest.raises(LavinditError, match="smaller codebook"):
        ar.model.match_parameters(10_000, codes)


def test_the_loss_is_of_all_tokens_or_of_the_targets(ar, decoder) -> None:
    generator = torch.Generator().manual_seed(3)
    inputs, targets = (torch.randint(20, (2, 3, 4), generator=generator) for _ in range(2))
    sentence = torch.cat([torch.cat([inputs[:, k], targets[:, k]], 1) for k in range(3)], 1)
    assert torch.equal(ar.model.sentences_of(inputs, targets), sentence)
    begun = torch.nn.functional.pad(sentence, (1, 0), value=decoder.config.begin)
    with torch.no_grad():
        likely = decoder.logits(decoder(begun[:, :-1])).log_softmax(-1)
        each = -likely.gather(2, sentence[..., None])[..., 0].unflatten(1, (3, 2, 4))
        assert ar.model.next_token_loss(decoder, inputs, targets).item() == pytest.approx(each.mean().item())
        own = ar.model.next_token_loss(decoder, inputs, targets, on_targets=True)
    assert own.item() == pytest.approx(each[:, :, 1].mean().item())


def test_the_optimizer_gives_tables_of_codes_to_adamw(ar, decoder) -> None:
    optimizer = ar.train.MuonAdamW(decoder.parameters())
    of_muon = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert id(decoder.embedding) not in of_muon
    assert id(decoder.head) not in of_muon
    assert id(decoder.blocks[0].qkv.weight) in of_muon


def test_clips_are_refused(ar, tokenizer, decoder) -> None:
    clips = torch.zeros(1, 1, 3, 5, 32, 32)
    batch = EpisodeBatch(clips, clips, (SimpleNamespace(task="frame_prediction"),))  # pyright: ignore
    with pytest.raises(LavinditError, match="frame_prediction has clips"):
        ar.answers.answer_batch(tokenizer, decoder, batch, ar.answers.Sampling())


def test_models_come_back_from_disk(ar, tokenizer, decoder, tmp_path: Path) -> None:
    ar.store.save_baseline(ar.store.Baseline(tokenizer, decoder, {"steps": 3}), tmp_path)
    found = ar.store.load_baseline(tmp_path)
    assert found.info == {"steps": 3}
    pictures, tokens = smooth_pictures(2), torch.arange(8)[None]
    assert torch.equal(found.tokenizer.encode(pictures), tokenizer.encode(pictures))
    with torch.no_grad():
        assert torch.equal(found.complete[1](tokens), decoder(tokens))
    ar.store.save_baseline(ar.store.Baseline(tokenizer), tmp_path / "alone")
    with pytest.raises(LavinditError, match="tokenizer alone"):
        _ = ar.store.load_baseline(tmp_path / "alone").complete
    (tmp_path / "decoder.safetensors").unlink()
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(LavinditError):
            ar.store.load_baseline(folder)
