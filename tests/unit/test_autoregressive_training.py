"""The autoregressive baseline of benchmarks/: stored tokens, its training loop, and the scripts at a tiny size."""

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

from conftest import TINY_JDIT, make_tiny_jdit, make_tiny_vae
from lavindit.data import SourceConfig
from lavindit.data.latents import choose_places, stored_episode
from lavindit.errors import LavinditError
from lavindit.models import ModelBundle, save_model
from tiny_autoregressive import import_baseline, make_tokenizer

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
    return import_baseline(monkeypatch)


@pytest.fixture
def scripts(ar, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Both commands."""
    names = {"train": "autoregressive_train", "compare": "autoregressive_baseline"}
    return SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_stored_tokens_are_those_of_the_streams_episodes(ar, config: str, tmp_path: Path) -> None:
    tokenizer, data = make_tokenizer(ar), ar.data.read_data(config)
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
