import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.data.latents import (
    LatentStore,
    LatentWriter,
    check_data,
    choose_places,
    latents_config,
    share_out,
    stored_episode,
)
from lavindit.data.latents.shards import Shard, StoredEpisode, write_shard
from lavindit.errors import LavinditError
from lavindit.models import STVAE
from lavindit.task import get_task

SOURCE = SourceConfig(resolution=32, scenes=24, clips=6)
COUNTS = {"depth_estimation": 5, "frame_prediction": 2}
PAIRS = 2


@pytest.fixture
def write(tiny_vae: STVAE, tiny_vae_dir: Path):
    """Makes a writer of two tasks, an image's and a clip's, two episodes of depth a shard."""

    def make(folder: Path, counts=COUNTS, seed: int = 0, source=SOURCE, **options) -> LatentWriter:
        tasks = [get_task(name) for name in COUNTS]
        config = latents_config(tasks, source, PAIRS, seed, tiny_vae.config, tiny_vae_dir, **options)
        makers = {task.name: EpisodeMaker(task, "train", source) for task in tasks}
        one = 3 * 16 * 2 * 4 * 4 * 2
        return LatentWriter(tiny_vae, config, makers, folder, counts, batch_size=2, shard_bytes=2 * one)

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_episodes_are_shared_out_by_weight():
    assert share_out(10, {"a": 3, "b": 1}) == {"a": 7, "b": 3}
    assert share_out(1002, {"a": 2, "b": 1e-9}) == {"a": 1001, "b": 1}
    for episodes in range(3, 40):
        counts = share_out(episodes, {"a": 1, "b": 1, "c": 1})
        assert sum(counts.values()) == episodes
        assert max(counts.values()) - min(counts.values()) <= 1
    with pytest.raises(LavinditError, match="2 episodes are too few for 3 tasks"):
        share_out(2, {"a": 1, "b": 1, "c": 1})


def test_any_pair_may_ask_and_no_scene_shows_itself():
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(choose_places(["p", "q", "r"], 2, generator)) for _ in range(200)]
    assert set(drawn) == set(itertools.permutations(range(3)))
    assert {len(choose_places(["p", "q", "r"], k, generator)) for k in range(3)} == {1, 2, 3}
    again = [tuple(choose_places(["p", "q", "p", "r"], 3, generator)) for _ in range(200)]
    assert {places[-1] for places in again} == {1, 3}
    assert all(sorted(places) == [0, 1, 2, 3] for places in again)


def test_the_same_command_writes_the_same_bytes(write, tmp_path):
    write(tmp_path / "one").run()
    write(tmp_path / "two").run()
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert sorted(one) == [
        "depth_estimation-00000000.tar",
        "depth_estimation-00000002.tar",
        "depth_estimation-00000004.tar",
        "frame_prediction-00000000.tar",
        "frame_prediction-00000001.tar",
        "latents.json",
    ]
    write(tmp_path / "two").run(again := Stop())
    assert (again.calls, contents(tmp_path / "two")) == (0, one)
    write(tmp_path / "other", {"depth_estimation": 2, "frame_prediction": 1}, seed=1).run()
    assert contents(tmp_path / "other")["depth_estimation-00000000.tar"] != one["depth_estimation-00000000.tar"]


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float16", 2**-11)])
def test_what_is_stored_is_what_the_vae_says(write, tmp_path, tiny_vae, dtype, bound):
    write(tmp_path, dtype=dtype, std=True).run()
    store = LatentStore(tmp_path)
    for name, count in COUNTS.items():
        task = get_task(name)
        maker = EpisodeMaker(task, "train", SOURCE)
        assert store.count(name) == count
        for number in range(count):
            stored, episode = store.read(name, number), stored_episode(maker, PAIRS, 0, number)
            assert stored.sample_id == episode.sample_id
            assert stored.scenes == tuple(p.meta["scene_id"] for p in (*episode.pairs, episode.query))
            assert len(set(stored.scenes)) == PAIRS + 1
            for half in ("input", "target"):
                pictures = torch.stack([getattr(p, half) for p in (*episode.pairs, episode.query)])
                with torch.no_grad():
                    mean = tiny_vae.to_latent(pictures)
                    drawn = tiny_vae.to_latent(pictures, torch.ones_like(mean))
                found, std = (stored.latents[f"{half}s{end}"].float() for end in ("", "_std"))
                assert found.shape == mean.shape
                assert float((found - mean).abs().max()) <= bound * float(mean.abs().max())
                assert float((std - (drawn - mean)).abs().max()) <= max(bound * float(std.max()), 1e-5)


def test_statistics_are_those_of_the_stored_latents(write, tmp_path):
    description = write(tmp_path).run()
    store = LatentStore(tmp_path)
    for name, count in COUNTS.items():
        for half in ("input", "target"):
            rows = [store.read(name, number).latents[f"{half}s"].double() for number in range(count)]
            values = torch.cat([row.movedim(-4, 0).flatten(1) for row in rows], 1)
            found = description.statistics[name][half]
            torch.testing.assert_close(torch.tensor(found["mean"]).double(), values.mean(1), atol=1e-6, rtol=1e-6)
            spread = values.std(1, unbiased=False)
            torch.testing.assert_close(torch.tensor(found["std"]).double(), spread, atol=1e-6, rtol=1e-6)


class Stop:
    """Interrupts after some calls, and counts them."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.calls = after, 0

    def __call__(self, done: int, total: int) -> None:
        self.calls += 1
        if self.calls == self.after:
            raise KeyboardInterrupt


def test_an_interrupted_encoding_is_no_set_and_goes_on(write, tmp_path):
    write(tmp_path / "whole").run(whole := Stop())
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "broken").run(Stop(after=3))
    assert not (tmp_path / "broken" / "latents.json").exists()
    with pytest.raises(LavinditError, match="not finished; run the same `lavindit encode` again"):
        LatentStore(tmp_path / "broken")
    (tmp_path / "broken" / ".frame_prediction-00000000.tar.0badf00d.tmp").write_bytes(b"half")
    (tmp_path / "broken" / "depth_estimation-00000002.tar").write_bytes(b"damaged since")
    write(tmp_path / "broken").run(rest := Stop())
    assert rest.calls == whole.calls - 1  # one of the two finished shards is kept
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_set_grows_and_its_episodes_stay(write, tmp_path):
    write(tmp_path / "long", {"depth_estimation": 7, "frame_prediction": 2}).run()
    write(tmp_path / "grown").run()
    write(tmp_path / "grown", {"depth_estimation": 7, "frame_prediction": 1}).run()
    long, grown = LatentStore(tmp_path / "long"), LatentStore(tmp_path / "grown")
    assert grown.description.episodes == long.description.episodes
    for number in range(7):
        one, other = (store.read("depth_estimation", number) for store in (long, grown))
        assert one.scenes == other.scenes
        torch.testing.assert_close(one.latents, other.latents, atol=1e-3, rtol=1e-3)


def test_another_set_is_not_touched(write, tmp_path):
    write(tmp_path / "set").run()
    before = contents(tmp_path / "set")
    with pytest.raises(LavinditError, match="latents with seed 0 and not 1; choose another folder"):
        write(tmp_path / "set", seed=1)
    with pytest.raises(LavinditError, match=r"source\.scenes 24 and not 20"):
        write(tmp_path / "set", source=SourceConfig(resolution=32, scenes=20, clips=6))
    assert contents(tmp_path / "set") == before
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "mine.tar").write_bytes(b"")
    with pytest.raises(LavinditError, match="holds tar files, but no latents"):
        write(tmp_path / "tars")


def test_latents_beyond_half_precision_are_refused(write, tmp_path, tiny_vae):
    tiny_vae.latent_scale = tiny_vae.latent_scale * 1e8
    with pytest.raises(LavinditError, match=r"not finite in float16; try --dtype float32"):
        write(tmp_path).run()
    assert not list(tmp_path.glob("*.tar"))


KEYS, NAMES = ["t-0", "t-1"], ("inputs", "targets")


def write_two(path: Path, config_hash: str = "mine") -> list[StoredEpisode]:
    generator = torch.Generator().manual_seed(0)
    episodes = [
        StoredEpisode(
            {name: torch.randn(3, 4, 1, 2, 2, generator=generator).half() for name in NAMES}, f"t/{i}", ("a", "b", "c")
        )
        for i in range(2)
    ]
    write_shard(path, KEYS, episodes, config_hash)
    return episodes


def read_all(path: Path) -> list[StoredEpisode]:
    return list(Shard(path, KEYS, NAMES, "mine"))


def test_a_changed_byte_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "t.tar"
    written = write_two(path)
    for one, other in zip(read_all(path), written, strict=True):
        assert all(torch.equal(one.latents[name], other.latents[name]) for name in NAMES)
        assert (one.sample_id, one.scenes) == (other.sample_id, other.scenes)
    content = path.read_bytes()
    touched = [i for i in range(len(content)) if content[i]]  # tar pads with zeros
    refused = 0
    for i in touched[:: len(touched) // 60]:
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        try:
            found = read_all(path)
        except LavinditError:
            refused += 1
            continue
        # An owner, a mode or a version in a header: nobody's latents.
        pairs = [(a.latents[n], b.latents[n]) for a, b in zip(found, written, strict=True) for n in NAMES]
        assert all(torch.equal(one, other) for one, other in pairs)
    assert refused > 30


def test_shards_that_are_cut_short_or_of_another_set_are_refused(tmp_path):
    path = tmp_path / "t.tar"
    write_two(path)
    content = path.read_bytes()
    for size in (0, 700, 2000, 3000, 4600):
        path.write_bytes(content[:size])
        with pytest.raises(LavinditError, match="damaged"):
            read_all(path)
    path.unlink()
    with pytest.raises(LavinditError, match="No such file"):
        read_all(path)
    write_two(path, config_hash="another")
    with pytest.raises(LavinditError, match="belongs to another set"):
        read_all(path)


def test_sizes_are_looked_at_before_anything_is_read(write, tmp_path):
    write(tmp_path).run()
    path = tmp_path / "depth_estimation-00000002.tar"
    content = path.read_bytes()
    path.write_bytes(content[:-512])
    with pytest.raises(LavinditError, match=r"depth_estimation-00000002\.tar are damaged: .* another size"):
        LatentStore(tmp_path)
    path.unlink()
    with pytest.raises(LavinditError, match="is missing; run the same"):
        LatentStore(tmp_path)
    write(tmp_path).run()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c | {"format_version": 2}, "of version 2"),
        (lambda c: c | {"config": c["config"] | {"seed": 7}}, "changed by hand"),
        (lambda c: {key: c[key] for key in c if key != "config"}, "does not describe latents"),
        (lambda c: [c], "does not describe latents"),
    ],
)
def test_a_description_that_is_not_as_written_is_refused(write, tmp_path, change, told):
    write(tmp_path, {"depth_estimation": 1, "frame_prediction": 1}).run()
    path = tmp_path / "latents.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(LavinditError, match=told):
        LatentStore(tmp_path)


def test_only_latents_that_fit_the_config_are_trained_on(write, tmp_path, monkeypatch):
    config = write(tmp_path).plan.config
    depth, edges = get_task("depth_estimation"), get_task("edge_detection")
    check_data(tmp_path, config, [depth], SOURCE, 1)
    other_tests = SourceConfig(resolution=32, scenes=24, clips=6, test_scenes=7)
    check_data(tmp_path, config, [depth], other_tests, 2)
    with pytest.raises(LavinditError, match="have no task edge_detection"):
        check_data(tmp_path, config, [depth, edges], SOURCE, 2)
    with pytest.raises(LavinditError, match=r"have 2 pairs beside the query.*set data\.max_pairs 2"):
        check_data(tmp_path, config, [depth], SOURCE, 3)
    with pytest.raises(LavinditError, match=r"data\.source\.seed 0, this config has 1"):
        check_data(tmp_path, config, [depth], SourceConfig(resolution=32, scenes=24, clips=6, seed=1), 2)
    monkeypatch.setattr(type(depth), "version", 99)
    with pytest.raises(LavinditError, match="depth_estimation has version"):
        check_data(tmp_path, config, [depth], SOURCE, 2)


def test_webdataset_reads_the_shards(write, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    write(tmp_path).run()
    paths = sorted(str(path) for path in tmp_path.glob("*.tar"))
    found = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in found] == [
        f"{task}-{number:08d}" for task, count in COUNTS.items() for number in range(count)
    ]
    store = LatentStore(tmp_path)
    for sample in found:
        task, number = sample["__key__"].rsplit("-", 1)
        stored = store.read(task, int(number))
        assert sample["json"]["scenes"] == list(stored.scenes)
        for name in NAMES:
            np.testing.assert_array_equal(sample[f"{name}.npy"], stored.latents[name].numpy())
