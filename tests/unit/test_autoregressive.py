"""The autoregressive baseline of benchmarks/: tokenizer, decoder, answers, training, and the scripts at a tiny size."""

import importlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from conftest import TINY_JDIT, TINY_VAE, make_tiny_jdit, make_tiny_vae
from lavindit.data import SourceConfig
from lavindit.data.latents import choose_places, stored_episode
from lavindit.errors import LavinditError
from lavindit.models import JDiTConfig, ModelBundle, save_model
from lavindit.models.jdit.cost import count_parameters
from lavindit.types import EpisodeBatch

ROOT = Path(__file__).parents[2]
MODULES = ("answers", "data", "latency", "model", "store", "tokenizer", "train")
CONFIG = """
data:
  tasks: [edge_detection, depth_estimation, frame_prediction]
  source: {resolution: 32, scenes: 8, test_scenes: 4, clips: 2, test_clips: 2}
  weights: {depth_estimation: 2}
  batch_size: 2
  min_pairs: 2
  max_pairs: 2
"""


@pytest.fixture
def ar(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The package's modules."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return SimpleNamespace(**{name: importlib.import_module(f"autoregressive.{name}") for name in MODULES})


@pytest.fixture
def scripts(ar, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Both commands."""
    names = {"train": "autoregressive_train", "compare": "autoregressive_baseline"}
    return SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})


@pytest.fixture
def tokenizer(ar):
    """Of the nano VAE's layout."""
    torch.manual_seed(0)
    vae = replace(TINY_VAE, patch=4, conv="2+1d", linear_shortcut=True)
    return ar.tokenizer.Tokenizer(ar.tokenizer.TokenizerConfig(vae=vae)).eval()


@pytest.fixture
def decoder(ar):
    """A decoder of two blocks whose features depend on all that it reads."""
    torch.manual_seed(0)
    model = ar.model.Decoder(ar.model.DecoderConfig(codes=20, width=32, depth=2, heads=2, mlp_width=64)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    return model


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return str(path)


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


def test_stored_tokens_are_those_of_the_streams_episodes(ar, tokenizer, config: str, tmp_path: Path) -> None:
    data = ar.data.read_data(config)
    folder, identity = tmp_path / "tokens", {"sha256": "x"}
    counts = ar.data.write_tokens(tokenizer, data, folder, 9, identity, lambda done, total: None)
    assert counts == {"edge_detection": 3, "depth_estimation": 4}  # and two are of the clips
    written = (folder / "edge_detection.npz").stat().st_mtime_ns
    assert ar.data.write_tokens(tokenizer, data, folder, 9, identity, lambda done, total: None) == counts
    assert (folder / "edge_detection.npz").stat().st_mtime_ns == written
    with pytest.raises(LavinditError, match="another tokenizer"):
        ar.data.write_tokens(tokenizer, data, folder, 9, {"sha256": "y"}, lambda done, total: None)
    store, tasks = ar.data.TokenSet.read(folder), ar.data.image_tasks(data)
    mixture = ar.data.mixture_of(data, tasks, 2, data.pairs)
    inputs, targets = ar.data.TokenMixture(mixture, store)[5]
    pairs, bucket = mixture.plan(5)
    assert inputs.shape == targets.shape == (2, pairs + 1, 16)
    number = mixture.share(5, bucket)[0]
    maker, _, generator = mixture.draw(bucket, number)
    place = int(torch.randint(counts[maker.task.name], (1,), generator=generator))
    episode = stored_episode(maker, 2, data.seed, place)
    every = [*episode.pairs, episode.query]
    shown = choose_places([str(pair.meta["scene_id"]) for pair in every], pairs, generator)
    pictures = torch.stack([torch.stack([every[i].input, every[i].target]) for i in shown])
    assert torch.equal(tokenizer.encode(pictures), torch.stack([inputs[0], targets[0]], 1))
    (folder / "edge_detection.npz").write_bytes(b"nothing")
    with pytest.raises(LavinditError, match="damaged"):
        ar.data.TokenSet.read(folder)


def test_the_tokenizer_sees_clips_frame_by_frame(ar, config: str) -> None:
    pictures = ar.data.Pictures(ar.data.read_data(config), 6)
    shapes = {pictures[step].shape for step in range(8)}
    assert {shape[1:] for shape in shapes} == {(3, 1, 32, 32)}
    assert {shape[0] for shape in shapes} <= {2, 6}
    assert torch.equal(pictures[3], pictures[3])


def linear_run(ar, folder: Path, steps: int = 6, stop: int | None = None, **changes):
    """A run of a linear map towards zero, interrupted before step `stop`; its weights, and exports' folders."""
    torch.manual_seed(0)
    network, average = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    plan = ar.train.Plan(None, steps, store_every=0.0, warmup_steps=2, **changes)
    run, folders = ar.train.Run(network, average, plan, folder, {"what": "linear"}), []

    def loss(step: int) -> Tensor:
        if step == stop:
            raise KeyboardInterrupt
        return network(torch.full((2, 3), 1.0 + step)).square().mean()

    run.train(loss, lambda trained, where, said: folders.append((where.name, said["steps"])))
    return average, folders


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(ar, tmp_path: Path, capsys) -> None:
    whole, folders = linear_run(ar, tmp_path / "whole")
    assert folders == [("model", 6)]
    with pytest.raises(KeyboardInterrupt):
        linear_run(ar, tmp_path / "parts", stop=3)
    assert "interrupted at step 3" in capsys.readouterr().err
    joined, _ = linear_run(ar, tmp_path / "parts")
    torch.testing.assert_close(joined.weight, whole.weight, rtol=0, atol=0)
    with pytest.raises(LavinditError, match="lr differs"):
        linear_run(ar, tmp_path / "parts", lr=0.5)
    (tmp_path / "parts" / "last.ckpt").write_bytes(b"nothing")
    with pytest.raises(LavinditError, match="cannot read"):
        linear_run(ar, tmp_path / "parts")


def test_snapshots_are_taken_once_at_their_minutes(ar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 30))  # every look at it is half a minute later
    monkeypatch.setattr(ar.train.time, "monotonic", lambda: float(next(clock)))
    _, folders = linear_run(ar, tmp_path, steps=8, snapshots=(1.0, 2.0))
    assert [name for name, _ in folders] == ["minutes_1", "minutes_2", "model"]


def test_a_loss_that_is_not_finite_ends_a_run(ar, tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match="not finite"):
        linear_run(ar, tmp_path, lr=math.inf)


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


def test_the_scripts_train_compare_and_time(scripts, config: str, tmp_path: Path, monkeypatch, capsys) -> None:
    ours, run = tmp_path / "ours", tmp_path / "run"
    jdit = make_tiny_jdit(replace(TINY_JDIT, context_attention="causal"))
    info = {"resolution": 32, "sampling": {"steps": 2}}
    save_model(ModelBundle(make_tiny_vae(), jdit, info), ours)
    common = ["--config", config, "--threads", "1"]
    made = ["--max_steps", "2", *common]
    scripts.train.main(["tokenizer", "--run", str(run / "t"), "--start", str(ours), "--batch_size", "4", *made])
    named = ["--tokenizer", str(run / "t" / "model")]
    scripts.train.main(["tokens", "--out", str(run / "tokens"), "--episodes", "6", *named, *common])
    given = ["decoder", "--tokens", str(run / "tokens"), *named, "--like", str(ours), "--no-compile", *made]
    scripts.train.main([*given, "--run", str(run / "d"), "--batch_size", "2", "--val_samples", "2"])
    assert re.search(r"[1-9]\d* of 1000 codes are used, perplexity [1-9]", capsys.readouterr().out)
    asked = ["--model", str(ours), "--baseline", str(run / "d" / "model"), "--threads", "1", "--pairs", "1"]
    out, tasks = tmp_path / "out.json", ["--tasks", "depth_estimation", "edge_detection"]
    small = SourceConfig(resolution=32, scenes=8, test_scenes=4)
    monkeypatch.setattr(scripts.compare, "source_of", lambda protocol, resolution: small)
    few = ["--n", "2", "--draws", "2", "--sampling", "greedy", "1.0", "--val_queries", "2", "--protocol", "quick"]
    scripts.compare.main([*asked, *tasks, *few, "--out", str(out)])
    filed = json.loads(out.read_text())
    assert set(filed["figures"]["tasks"]) == {"depth_estimation", "edge_detection"}
    assert filed["figures"]["summary"]["tasks"] == 2
    said = filed["autoregressive"]
    assert (said["of_tokenizer"]["steps"], said["steps"], said["threads"]) == (2, 2, 1)
    assert said["held_out_loss"]["all"] == pytest.approx(math.log(1000), rel=0.2)  # two steps from uniform
    assert {"commit", "machine"} <= set(said)
    assert filed["ours"]["minutes"] is None
    row = filed["figures"]["tasks"]["depth_estimation"]
    assert (row["n"], row["draws"], row["pairs"]) == (2, 2, 1)
    assert row["sampling"] in ("greedy", "1.0")
    for who in ("ours", "autoregressive"):
        assert all(math.isfinite(row[who][name]) for name in ("answer", "stderr", "ceiling"))
    gain = row["autoregressive"]["answer"] - row["ours"]["answer"]
    assert row["gain_of_ours"] == pytest.approx(gain)  # AbsRel: smaller is better
    assert row["better"] == ("ours" if gain > 0 else "autoregressive")
    counted = filed["parameters"]
    assert abs(counted["autoregressive"] / counted["ours"] - 1) < 0.03
    with pytest.raises(LavinditError, match="frame_prediction has clips"):
        scripts.compare.main([*asked, "--tasks", "frame_prediction", *few])
    scripts.compare.main([*asked, "--latency", "--resolutions", "32", "--out", str(out)])
    timed = json.loads(out.read_text())["figures"]
    cell = timed["cells"][0]
    assert all(seconds > 0 for seconds in cell["query_transformer_s"].values())
    ways, calls = cell["query_s"], {name: call["s"] for name, call in cell["calls"].items()}
    anew = calls["tokenize pairs"] + calls["read tokens of pairs"] + ways["autoregressive, cached"]
    assert ways["autoregressive, anew"] == pytest.approx(anew)
    ratio = timed["baseline_takes_times_as_long"][0]["query_s"]["4 steps, cached, against anew"]
    assert ratio == pytest.approx(ways["autoregressive, anew"] / ways["ours, 4 steps, cached"])


def test_mistakes_are_told_in_a_line(scripts, config: str, tmp_path: Path) -> None:
    run = ["--config", config, "--run", str(tmp_path / "run")]
    for arguments, match in (
        (["tokenizer", *run], "--minutes"),
        (["tokenizer", *run, "--minutes", "0"], "more than 0"),
        (["tokenizer", *run, "--codes", "7", "--max_steps", "1"], "no codebook of 7"),
        (["tokens", "--config", config, "--out", "x", "--episodes", "9", "--tokenizer", str(tmp_path)], "no model"),
        (["decoder", *run, "--tokens", str(tmp_path), "--tokenizer", str(tmp_path)], "no tokens in"),
    ):
        with pytest.raises(LavinditError, match=match):
            scripts.train.main([*arguments, "--threads", "1"])
    assert not (tmp_path / "run").exists()
