"""What every task promises, registered or a folder of pairs: true pairs, repeatable episodes, figures that can tell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lavindit.data import EpisodeData, EpisodeMaker, SourceConfig
from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.task import FolderTask, Task, all_tasks, get_task
from lavindit.testing import CHECKS
from lavindit.testing import SMALL as SCENES

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


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_keeps_its_promise(task: Task, check: Callable[[Task, SourceConfig], None]) -> None:
    check(task, SCENES)


def test_its_headline_can_be_measured_alone(task: Task) -> None:
    name = task.headline.metric
    metric, alone = task.make_metric(), task.make_metric().only(name)
    place, own = metric.names.index(name), alone.names.index(name)
    assert (alone.units[own], alone.ideals[own]) == (metric.units[place], metric.ideals[place])


@pytest.mark.parametrize("name", REGISTERED)
def test_has_a_page(name: str) -> None:
    task, page = get_task(name), DOCS / f"{name}.md"
    assert page.is_file()
    text = page.read_text()
    assert name in text
    assert all(column.metric in text for column in task.columns)


class TestHeldOut:
    def test_is_never_in_the_mixture(self) -> None:
        data = EpisodeData(source=SCENES, batch_size=32, clip_batch_size=32, min_pairs=0, max_pairs=0)
        trained = {name for name, task in all_tasks().items() if not task.held_out}
        mixture: Any = data.train_dataloader().dataset
        assert sorted(maker.task.name for bucket in mixture.buckets for maker in bucket.makers) == sorted(trained)
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
        pair = EpisodeMaker(task, "test", SCENES).episode(0, 0, seed=0).query
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
            EpisodeMaker(FolderTask(tmp_path), "test", SCENES).episode(0, 0, seed=0)

    def test_with_a_damaged_picture(self, tmp_path: Path) -> None:
        save_picture(torch.zeros(3, 1, 8, 8), tmp_path / "a_input.png")
        (tmp_path / "a_target.png").write_bytes(b"")
        with pytest.raises(LavinditError, match=r"cannot read .*a_target\.png"):
            EpisodeMaker(FolderTask(tmp_path), "test", SCENES).episode(0, 0, seed=0)
