"""How context is chosen: at random, by likeness, by number, whole; and how the mixture makes batches of one shape."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lavindit.codecs import IdentityCodec
from lavindit.codecs.base import Codec
from lavindit.data import EpisodeData, EpisodeMaker, SourceConfig
from lavindit.data.mixture import EpisodeTest
from lavindit.errors import LavinditError
from lavindit.metrics import RestorationMetric
from lavindit.task import Column, Task, get_task
from lavindit.task.context import choose_scenes, look, parse_context
from lavindit.types import Pair, Scene

SIDE = 16


class Shades:
    """Ramps of brightness that turn from one picture to the next, in two groups: even and odd."""

    provides: frozenset[str] = frozenset()

    def __init__(self, count: int = 10, groups: bool = False) -> None:
        self.count, self.groups = count, groups

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        ramp, angle = torch.linspace(0, 0.7, SIDE), torch.tensor(index / (self.count - 1) * torch.pi / 2)
        picture = ramp * angle.cos() + ramp[:, None] * angle.sin()
        return Scene(str(index), picture.expand(3, 1, SIDE, SIDE).contiguous())

    def group_of(self, index: int) -> int | None:
        return index % 2 if self.groups else None


class Copying(Task):
    """The answer is the query."""

    name = "copying"
    version = 1
    summary = "Copy."
    columns = (Column("psnr", "dB", "max", headline=True),)

    def __init__(self, source: Shades | None = None, refuses: frozenset[str] = frozenset()) -> None:
        self.source, self.refuses = source or Shades(), refuses

    def make_source(self, split: str, resolution: int) -> Shades:
        return self.source

    def accepts(self, scene: Scene) -> bool:
        return scene.scene_id not in self.refuses

    def make_codec(self, scenes: object, generator: torch.Generator) -> Codec:
        return IdentityCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        valid = torch.ones_like(scene.rgb[:1], dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(scene.rgb, valid), scene.rgb, valid)

    def make_metric(self) -> RestorationMetric:
        return RestorationMetric()


def chosen(text: str, task: Copying, pairs: int, seed: int = 0, query: Tensor | None = None, **options: object) -> list:
    generator = torch.Generator().manual_seed(seed)
    found = choose_scenes(parse_context(text), task, task.source, pairs, generator, query=query, **options)  # pyright: ignore
    return [int(scene.scene_id) for scene in found]


class TestChoices:
    def test_random_is_a_draw_without_replacement(self) -> None:
        draws = [chosen("random", Copying(), 4, seed) for seed in range(50)]
        assert draws[0] == chosen("random", Copying(), 4, 0)
        assert all(len(set(draw)) == 4 for draw in draws)
        counts = Counter(index for draw in draws for index in draw)
        assert min(counts.values()) > 8  # of 20 each

    def test_nearest_comes_in_order_of_likeness(self) -> None:
        task = Copying()
        for wanted in (0, 6, 9):
            query = task.source[wanted].rgb * 0.9 + 0.05
            found = chosen("nearest", task, 3, seed=wanted, query=query)
            assert found[0] == wanted
            assert [abs(index - wanted) for index in found] == sorted(abs(index - wanted) for index in found)
        assert chosen("nearest", task, 2, query=task.source[6].rgb, exclude="6")[0] in (5, 7)

    def test_fixed_keeps_its_order(self) -> None:
        assert chosen("fixed:7,2,5", Copying(), 3) == [7, 2, 5]
        assert chosen("fixed: 7, 2,5", Copying(), 9, exclude="7") == [2, 5]
        with pytest.raises(LavinditError, match=r"can show 0 pairs .* 3 were asked for"):
            chosen("fixed:7", Copying(), 3, exclude="7")
        with pytest.raises(LavinditError, match="fixed:10 names no scene; there are 0 to 9"):
            chosen("fixed:1,10", Copying(), 1)

    def test_all_takes_all_whatever_was_asked_for(self) -> None:
        assert chosen("all", Copying(), 2) == list(range(10))
        assert chosen("all", Copying(), 2, exclude="3") == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        with pytest.raises(LavinditError, match="context of task copying would be more than 64 pairs"):
            chosen("all", Copying(Shades(80)), 2)

    @pytest.mark.parametrize("text", ["random", "nearest", "all", "fixed:0,1,2,3,4,5,6,7,8,9"])
    def test_groups_and_refusals_hold_for_each(self, text: str) -> None:
        task = Copying(Shades(groups=True), refuses=frozenset({"4"}))
        found = chosen(text, task, 3, query=task.source[4].rgb, group=0, exclude="2")
        assert sorted(found) == [0, 6, 8]

    def test_a_few_among_many_are_found(self) -> None:
        refused = frozenset(str(index) for index in range(5000) if index % 600)
        assert len(chosen("random", Copying(Shades(5000), refused), 8)) == 8

    def test_a_task_that_cannot_judge_a_scene_is_named(self) -> None:
        class Broken(Copying):
            def accepts(self, scene: Scene) -> bool:
                raise KeyError("depth")

        with pytest.raises(LavinditError, match=r"task copying fails to accept or refuse scene .: KeyError: 'depth'"):
            chosen("random", Broken(), 1)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("best", r"unknown context 'best'; there are random, nearest, all, fixed:I,J,\.\.\."),
            ("fixed:", "'fixed:' names no scenes; write fixed:3,1,8"),
            ("fixed:a,b", "'fixed:a,b' names no scenes"),
        ],
    )
    def test_unknown_ones(self, text: str, words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            parse_context(text)

    def test_a_look_has_unit_length_and_ignores_brightness(self) -> None:
        picture = torch.rand(3, 2, 40, 24, generator=torch.Generator().manual_seed(0))
        assert float(look(picture).norm()) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(look(picture * 0.5 + 0.3), look(picture), rtol=0, atol=1e-4)
        assert torch.isfinite(look(torch.zeros(3, 1, 8, 8))).all()


class TestDraws:
    def test_every_query_comes_once_a_draw(self) -> None:
        maker = EpisodeMaker(Copying(refuses=frozenset({"1"})), "test", SourceConfig(resolution=SIDE))
        batches = EpisodeTest(maker, 5, batch_size=2, pairs=2, seed=0, draws=3)
        episodes = [episode for index in range(len(batches)) for episode in batches[index].episodes]
        assert [(e.draw, e.number) for e in episodes] == [(d, n) for d in range(3) for n in range(5)]
        assert [e.sample_id for e in episodes[:5]] == [f"copying/test/{n}" for n in (0, 2, 3, 4, 5)]
        assert len({e.sample_id for e in episodes}) == 15
        contexts = {tuple(float(p.input[0, 0, 0, -1]) for p in e.pairs) for e in episodes if e.number == 3}
        assert len(contexts) > 1

    def test_where_all_are_shown_batches_hold_one_query(self) -> None:
        maker = EpisodeMaker(Copying(Shades(4)), "test", SourceConfig(resolution=SIDE), parse_context("fixed:0,1,2"))
        batches = EpisodeTest(maker, 4, batch_size=3, pairs=2, seed=0)
        assert [batch.inputs.shape[1] - 1 for batch in (batches[i] for i in range(len(batches)))] == [2, 2, 2, 3]

    def test_nearest_sees_what_is_asked_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Tensor] = []
        monkeypatch.setattr("lavindit.task.context.look", lambda picture: seen.append(picture) or look(picture))
        task = get_task("inpainting")
        config = SourceConfig(resolution=32, scenes=4, test_scenes=2)
        episode = EpisodeMaker(task, "test", config, parse_context("nearest")).episode(1, 2, seed=3)
        assert torch.equal(seen[0], episode.query.input)

    def test_a_task_that_accepts_nothing_is_named(self) -> None:
        task = Copying(refuses=frozenset(map(str, range(10))))
        maker = EpisodeMaker(task, "test", SourceConfig(resolution=SIDE))
        for ask in (lambda: maker.accepted(3), lambda: maker.next_accepted(0)):
            with pytest.raises(LavinditError, match="task copying accepts none of the 10 test scenes"):
                ask()

    def test_a_task_that_fails_is_named(self) -> None:
        class Broken(Copying):
            def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
                raise ZeroDivisionError("division by zero")

        maker = EpisodeMaker(Broken(), "test", SourceConfig(resolution=SIDE))
        said = r"copying fails on scene 3: ZeroDivisionError: division by zero \(test_context.py, line \d+\)"
        with pytest.raises(LavinditError, match=said):
            maker.episode(3, 1, 0)


PLUGIN = """
import torch
from lavindit.task import RestorationTask


class Mine(RestorationTask):
    name = "mine"
    version = 1
    summary = protocol = "Fails."

    def degrade(self, picture, generator):
        return torch.nn.functional.interpolate(picture, mode="none")
"""


def test_a_failure_names_the_line_of_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the line of the library that it called."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LavinditError, match=r"task mine fails on scene .*\(mine.py, line 12\)"):
        EpisodeMaker(get_task("mine.py"), "test", SCENES).episode(0, 1, 0)


def test_too_few_pairs_are_told_before_anything_is_done() -> None:
    data = EpisodeData(["colorization"], source=SCENES, max_pairs=5, eval_pairs=5, test_samples=0)
    for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader):
        with pytest.raises(LavinditError, match=r"can show [34] pairs"):
            loader()
    assert len(EpisodeData(["colorization"], source=SCENES, eval_pairs=2, test_samples=0).test_dataloader()[0]) == 0


TASKS = ["colorization", "depth_estimation", "video_depth_estimation", "frame_prediction"]
SCENES = SourceConfig(resolution=32, scenes=4, clips=2)


class TestBuckets:
    def data(self, **options: object) -> EpisodeData:
        return EpisodeData(tasks=TASKS, source=SCENES, batch_size=8, min_pairs=1, max_pairs=1, **options)  # pyright: ignore

    def test_a_batch_has_one_shape(self) -> None:
        mixture = self.data().train_dataloader().dataset
        shapes = set()
        for step in range(12):
            batch = mixture[step]
            frames = (batch.inputs.shape[3], batch.targets.shape[3])
            shapes.add(frames)
            assert len(batch) == (8 if frames == (1, 1) else 2)
            assert batch.numbers == list(range(step * 8, step * 8 + len(batch)))
        assert shapes == {(1, 1), (13, 13), (1, 13)}

    def test_shares_of_episodes_are_the_weights(self) -> None:
        weights = {"colorization": 1.0, "depth_estimation": 2.0, "video_depth_estimation": 3.0, "frame_prediction": 0}
        mixture = self.data(weights=weights).train_dataloader().dataset
        rates = {b.makers[0].task.modality: b.rate * b.batch_size for b in mixture.buckets}
        assert rates == {"image": 3.0, "video": 3.0}
        assert [b.batch_size for b in mixture.buckets] == [8, 2]
        counts: Counter[str] = Counter()
        for step in range(3000):
            bucket = mixture.plan(step)[1]
            counts[bucket.makers[0].task.modality] += bucket.batch_size
        assert counts["video"] / counts.total() == pytest.approx(0.5, abs=0.04)
        names = {episode.task for number in range(60) for episode in [mixture.episode(mixture.buckets[0], number, 0)]}
        assert names == {"colorization", "depth_estimation"}

    def test_processes_share_a_step(self) -> None:
        import copy

        whole = self.data(clip_batch_size=4).train_dataloader().dataset
        data = self.data()
        data._place = lambda: (0, 4)  # pyright: ignore
        with pytest.raises(LavinditError, match="clip_batch_size 2 cannot be shared evenly by 4 processes"):
            data.train_dataloader()
        for step in range(4):
            parts = []
            for rank in range(2):
                mixture = copy.copy(whole)
                mixture.rank, mixture.processes = rank, 2
                parts.append(mixture[step])
            together = whole[step]
            assert torch.equal(torch.cat([part.inputs for part in parts]), together.inputs)
            assert [number for part in parts for number in part.numbers] == together.numbers

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"clip_batch_size": 0}, "clip_batch_size"),
            ({"context": "best"}, "unknown context 'best'"),
            ({"context_draws": 0}, "context_draws"),
            ({"weights": dict.fromkeys(TASKS, 0.0)}, "data.weights are 0 for all tasks"),
            ({"weights": {"colorization": -1.0}}, "colorization has weight -1.0; weights are 0 or more"),
        ],
    )
    def test_nonsense_is_refused(self, options: dict, words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            self.data(**options).setup("fit")

    def test_two_tasks_of_one_name(self) -> None:
        with pytest.raises(LavinditError, match="two tasks are named colorization"):
            EpisodeData(tasks=["colorization", "colorization"])
