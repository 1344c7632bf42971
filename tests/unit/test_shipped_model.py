"""The model that comes with the package: whole, small, and what its card says it is."""

import pytest
import torch

import lavindit
from lavindit.models import load_model, released_models
from lavindit.models.released import released_folder
from lavindit.task import get_task
from lavindit.training.protocols import built_in_tasks

MEBIBYTES_AT_MOST = 40
CHAPTERS = ("## Data", "## Training", "## Figures", "## Limits", "## Licence")


@pytest.mark.parametrize("name", released_models())
def test_is_small_and_has_a_card(name):
    folder = released_folder(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MEBIBYTES_AT_MOST * 2**20
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert [chapter for chapter in CHAPTERS if chapter not in card] == []


def test_nano_was_trained_on_all_tasks_but_the_held_out():
    assert "nano" in released_models()
    info = load_model("nano").info
    assert set(info["tasks"]) == {name for name in built_in_tasks() if not get_task(name).held_out}


def test_nano_answers_as_its_pairs_show():
    engine = lavindit.load("nano")
    photo = torch.rand(3, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    depth, edges = (engine.apply(task, photo, pairs=2).image for task in ("depth_estimation", "edge_detection"))
    assert depth.shape == edges.shape == (3, 1, 48, 64)
    assert (depth - edges).abs().mean() > 0.02
