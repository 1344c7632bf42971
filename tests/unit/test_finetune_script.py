"""The script that trains nano on: its folder of pairs, and what it refuses."""

import importlib
from pathlib import Path

import pytest
import torch

from lavindit.data import EpisodeMaker, SourceConfig
from lavindit.errors import LavinditError
from lavindit.pictures import save_picture
from lavindit.task import get_task


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("finetune")


def write_photos(folder: Path, count: int) -> Path:
    for number in range(count):
        save_picture(torch.full((3, 1, 16, 24), number / count), folder / f"{number:03}.png")
    return folder


def test_pairs_are_photographs_and_their_negatives_some_of_them_held_out(script, tmp_path: Path) -> None:
    script.make_folder(write_photos(tmp_path / "photos", 100), tmp_path / "negative")
    task = get_task(tmp_path / "negative")
    trained, asked = (EpisodeMaker(task, split, SourceConfig(resolution=16)) for split in ("train", "test"))
    assert (len(trained), len(asked)) == (script.PAIRS, script.QUERIES)
    episode = asked.episode(3, pairs=2, seed=0)
    for pair in (*episode.pairs, episode.query):
        torch.testing.assert_close(pair.input + pair.target, torch.ones(3, 1, 16, 16), atol=0.01, rtol=0)
    inputs = {path.read_bytes() for path in tmp_path.glob("negative/*_input.png")}
    assert not any(path.read_bytes() in inputs for path in tmp_path.glob("negative/test/*_input.png"))


def test_too_few_photographs_are_refused(script, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 47)
    with pytest.raises(LavinditError, match="holds 47 photographs; 48 or more"):
        script.main(["--photos", str(photos), "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
