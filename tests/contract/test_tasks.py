"""What every task promises, registered or a folder of pairs: true pairs, repeatable episodes, figures that can tell."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lavindit.data import EpisodeData, EpisodeMaker, SourceConfig, draw_context, source_for
from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.task import FolderTask, Task, all_tasks, get_task
from lavindit.types import Episode, Pair

SIDE = 64
SCENES = SourceConfig(resolution=SIDE, scenes=6, test_scenes=4)
DOCS = Path(__file__).parents[2] / "docs" / "tasks"
REGISTERED = sorted(all_tasks())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks") / "negative"
    generator = torch.Generator().manual_seed(0)
    for number in range(SCENES.scenes):
        picture = torch.rand(3, 1, 5, 4, generator=generator).repeat_interleave(16, 2).repeat_interleave(16, 3)
        save_picture(picture, folder / f"{number}_input.png")
        save_picture(1 - picture, folder / f"{number}_target.png")
    return folder


@pytest.fixture(params=[*REGISTERED, "a folder"])
def task(request: pytest.FixtureRequest, folder: Path) -> Task:
    return FolderTask(folder) if request.param == "a folder" else get_task(request.param)


def maker(task: Task, split: str = "test") -> EpisodeMaker:
    return EpisodeMaker(task, split, SCENES)


def pairs_of(episode: Episode) -> tuple[Pair, ...]:
    return (*episode.pairs, episode.query)


def is_same(first: Episode, second: Episode) -> bool:
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(pairs_of(first), pairs_of(second), strict=True)
        for name in ("input", "target", "native", "valid")
    )


def figures_of(task: Task, episodes: list[Episode], answers: list[Tensor]) -> dict[str, float]:
    metric = task.make_metric()
    for number, (episode, answer) in enumerate(zip(episodes, answers, strict=True)):
        query = episode.query
        metric.update(answer, query.native, query.valid, number, query.meta)
    return {name: float(value) for name, value in metric.compute().items()}


def test_pairs_are_pictures(task: Task) -> None:
    frames = 1 if task.modality == "image" else 13
    for pair in pairs_of(maker(task).episode(0, 3, seed=0)):
        for picture in (pair.input, pair.target):
            assert picture.shape == (3, frames, SIDE, SIDE)
            assert picture.dtype == torch.float32
            assert bool(((picture >= 0) & (picture <= 1)).all())  # false for NaN too
        assert pair.native.shape[1:] == pair.valid.shape[1:] == pair.target.shape[1:]
        assert pair.valid.dtype == torch.bool
        assert bool(pair.valid.any())


def test_targets_are_encoded_natives_and_decode_to_them(task: Task) -> None:
    for query in range(3):
        episode = maker(task).episode(query, 1, seed=query)
        codec = task.make_codec(torch.Generator())
        tolerance = getattr(codec, "tolerance")  # noqa: B009 - not part of the protocol in `types`
        for pair in pairs_of(episode):
            assert torch.equal(pair.target, episode.codec.encode(pair.native, pair.valid))
            error = (episode.codec.decode(pair.target) - pair.native).abs()
            assert float(error.where(pair.valid, 0.0).max()) <= tolerance


def test_the_same_seed_gives_the_same_episode(task: Task) -> None:
    torch.manual_seed(1)
    first = maker(task).episode(1, 3, seed=5)
    torch.manual_seed(2)  # what is random comes from the generator alone
    torch.rand(7)
    assert is_same(first, maker(task).episode(1, 3, seed=5))


def test_another_seed_gives_another_context_and_the_same_truth(task: Task) -> None:
    first, *others = (maker(task).episode(1, 3, seed=seed) for seed in range(3))
    for other in others:
        assert not all(torch.equal(a.native, b.native) for a, b in zip(first.pairs, other.pairs, strict=True))
        assert torch.equal(first.query.native, other.query.native)


def test_the_query_is_never_in_its_own_context(task: Task) -> None:
    train = maker(task, "train")
    for query in range(SCENES.scenes):
        episode = train.episode(query, SCENES.scenes - 1, seed=0)  # all scenes but one
        natives = [pair.native.nan_to_num(-1.0, -1.0) for pair in pairs_of(episode)]
        equal = [(i, j) for i in range(len(natives)) for j in range(i) if torch.equal(natives[i], natives[j])]
        assert not equal


def test_too_small_a_source_is_told(task: Task) -> None:
    source, generator = source_for(task, "train", SCENES), torch.Generator().manual_seed(0)
    codec = task.make_codec(generator)
    assert len(draw_context(task, source, codec, SCENES.scenes, generator)) == SCENES.scenes
    with pytest.raises(LavinditError, match=f"{task.name} can show 6 pairs .* 7 were asked for"):
        draw_context(task, source, codec, SCENES.scenes + 1, generator)
    with pytest.raises(LavinditError, match="can show 5 pairs"):
        draw_context(task, source, codec, SCENES.scenes, generator, exclude=source[2].scene_id)


def test_columns_are_keys_of_the_metric(task: Task) -> None:
    metric = task.make_metric()
    names = [column.metric for column in task.columns]
    assert len(set(names)) == len(names)
    assert set(names) <= set(metric.names)
    assert len(metric.units) == len(metric.ideals) == len(metric.names)
    assert {c.metric: c.unit for c in task.columns}.items() <= dict(
        zip(metric.names, metric.units, strict=True)
    ).items()
    assert sum(column.headline for column in task.columns) == 1
    assert task.headline.headline


def test_a_perfect_answer_scores_the_ideal_and_a_corrupted_one_worse(task: Task) -> None:
    episodes = [maker(task).episode(query, 0, seed=0) for query in range(3)]
    generator = torch.Generator().manual_seed(0)
    perfect = figures_of(task, episodes, [episode.query.native for episode in episodes])
    ideals = dict(zip(task.make_metric().names, task.make_metric().ideals, strict=True))
    assert perfect == pytest.approx(ideals, abs=1e-4)
    for share in (0.3, 1.0):
        noisy = [
            torch.lerp(e.query.target, torch.rand(e.query.target.shape, generator=generator), share) for e in episodes
        ]
        worse = figures_of(task, episodes, [e.codec.decode(n) for e, n in zip(episodes, noisy, strict=True)])
        for column in task.columns:
            assert math.isfinite(worse[column.metric])
            loss = worse[column.metric] - ideals[column.metric]
            signed = loss if column.direction == "min" else -loss
            assert signed >= 0
            # A mask is read above 0.5, so a little noise does not hurt it.
            assert signed > 0 or not column.headline or share < 0.5


def test_a_persons_picture_stays_a_picture(task: Task) -> None:
    picture = torch.rand(3, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    prepared = task.prepare_query(picture.clone())
    assert prepared.shape == picture.shape
    assert bool(((prepared >= 0) & (prepared <= 1)).all())


@pytest.mark.parametrize("name", REGISTERED)
def test_has_a_page(name: str) -> None:
    task, page = get_task(name), DOCS / f"{name}.md"
    assert page.is_file()
    text = page.read_text()
    assert name in text
    assert all(column.metric in text for column in task.columns)
    assert task.summary
    assert task.version >= 1


class TestHeldOut:
    def test_is_never_in_the_mixture(self) -> None:
        data = EpisodeData(source=SCENES, batch_size=40, min_pairs=0, max_pairs=0)
        mixture = data.train_dataloader().dataset
        seen = {name for index in range(3) for name in mixture[index].tasks}
        assert seen == {name for name, task in all_tasks().items() if not task.held_out}
        assert any(task.held_out for task in all_tasks().values())

    def test_is_not_trained_on_when_named(self) -> None:
        names = ["foreground_segmentation", "colorization"]
        data = EpisodeData(tasks=names, source=SCENES, batch_size=20, min_pairs=0, max_pairs=0)
        assert set(data.train_dataloader().dataset[0].tasks) == {"colorization"}
        assert len(data.test_dataloader()) == 2

    def test_alone_is_an_error(self) -> None:
        with pytest.raises(LavinditError, match="held out"):
            EpisodeData(tasks=["foreground_segmentation"], source=SCENES).setup("fit")


class TestFolder:
    def test_shows_what_lies_in_it(self, folder: Path) -> None:
        task = FolderTask(folder)
        assert task.name == "negative"
        pair = maker(task).episode(0, 0, seed=0).query
        inside = slice(4, -4)
        torch.testing.assert_close(
            pair.target[..., inside, inside], 1 - pair.input[..., inside, inside], rtol=0, atol=0.01
        )

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            ([], "no pairs in .*mine"),
            (["a.png"], "no pairs in .*mine"),
            (["a_input.png"], r"a_input\.png has no partner; add .*a_target\.png"),
            (["a_input.png", "a_target.png", "b_target.jpg"], r"b_target\.jpg has no partner; add .*b_input\.jpg"),
        ],
    )
    def test_without_whole_pairs(self, tmp_path: Path, names: list[str], words: str) -> None:
        (tmp_path / "mine").mkdir()
        for name in names:
            save_picture(torch.zeros(3, 1, 8, 8), tmp_path / "mine" / name)
        with pytest.raises(LavinditError, match=words):
            FolderTask(tmp_path / "mine")

    def test_of_unequal_sizes(self, tmp_path: Path) -> None:
        save_picture(torch.zeros(3, 1, 8, 8), tmp_path / "a_input.png")
        save_picture(torch.zeros(3, 1, 8, 9), tmp_path / "a_target.png")
        with pytest.raises(LavinditError, match=r"a_input\.png and a_target\.png differ in size \(8x8 and 9x8\)"):
            maker(FolderTask(tmp_path)).episode(0, 0, seed=0)

    def test_with_a_damaged_picture(self, tmp_path: Path) -> None:
        save_picture(torch.zeros(3, 1, 8, 8), tmp_path / "a_input.png")
        (tmp_path / "a_target.png").write_bytes(b"")
        with pytest.raises(LavinditError, match=r"cannot read .*a_target\.png"):
            maker(FolderTask(tmp_path)).episode(0, 0, seed=0)
