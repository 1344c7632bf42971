"""Detail that the VAE loses of a query and an answer gets back: in samples, at a picture's own size, in ceilings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import make_tiny_engine
from lavindit.data import SourceConfig
from lavindit.data.degradations import grayscale
from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.inference import Engine, answer_batch
from lavindit.inference.budget import measure_budget
from lavindit.pictures import Letterbox
from lavindit.report.schema import read_result
from lavindit.task import get_task, give_back_detail

SMALL = SourceConfig(resolution=32, scenes=6, test_scenes=3)
Cli = Callable[[list[object]], Any]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_tiny_engine()


@pytest.fixture
def photo() -> Tensor:
    coarse = torch.rand(3, 1, 8, 10, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, (64, 80), mode="nearest")


def test_an_answer_that_is_the_query_in_latents_is_the_query(photo: Tensor) -> None:
    blurred = photo.roll(1, -1) * 0.9
    assert torch.allclose(give_back_detail(blurred, photo, blurred), photo, atol=1e-6)
    assert give_back_detail(blurred + 0.5, photo, blurred).max() == 1  # a picture


def test_samples_get_it_back_where_task_and_sampling_say_so(engine: Engine) -> None:
    task = get_task("deraining")
    maker = EpisodeMaker(task, "test", SMALL)
    batch = collate([maker.episode(number, 2, seed=0) for number in range(2)])
    config = engine.settle(task=task).sampling
    plain = answer_batch(engine.vae, engine.jdit, batch, config)
    query = batch.inputs[:, -1]
    with torch.no_grad():
        rebuilt = engine.vae.to_pictures(engine.vae.to_latent(query))
    kept = answer_batch(engine.vae, engine.jdit, batch, config, keeps_detail=True)
    assert torch.allclose(kept, (plain + query - rebuilt).clamp(0, 1), atol=1e-5)
    assert not torch.allclose(kept, plain, atol=1e-2)
    off = engine.settle(task=task, detail=False).sampling
    assert torch.equal(answer_batch(engine.vae, engine.jdit, batch, off, keeps_detail=True), plain)
    assert not engine.settle("paper").sampling.detail  # as the published inference has it


@pytest.mark.parametrize("name", ["deraining", "colorization"])
def test_a_picture_is_changed_at_its_own_size(engine: Engine, photo: Tensor, name: str) -> None:
    (answer,) = engine.apply_all(name, [photo], pairs=2)
    own = grayscale(photo) if name == "colorization" else photo
    change = Letterbox(photo, 32).undo(answer.square - answer.episode.query.input)
    assert torch.allclose(answer.prediction.image, (own + change).clamp(0, 1), atol=1e-6)
    (plain,) = engine.apply_all(name, [photo], pairs=2, detail=False)
    assert torch.equal(plain.prediction.image, Letterbox(photo, 32).undo(plain.square))


def test_a_picture_that_is_damaged_on_purpose_gives_nothing_away(engine: Engine, photo: Tensor) -> None:
    (answer,) = engine.apply_all("deraining", [photo], pairs=2, corrupt=True)
    assert torch.equal(answer.prediction.image, Letterbox(photo, 32).undo(answer.square))
    (square,) = engine.apply_all("deraining", [photo], pairs=2, fit="stretch")
    assert torch.equal(square.prediction.image, square.square)


def test_the_ceiling_has_it_too(engine: Engine) -> None:
    budgets = {}
    for name in ("deraining", "inpainting"):
        task = get_task(name)
        maker = EpisodeMaker(task, "test", SMALL)
        (scene,) = maker.accepted(1)
        query = maker.episode(scene, 4, seed=0).query
        with torch.no_grad():
            target, shown = (
                engine.vae.to_pictures(engine.vae.to_latent(part[None]))[0] for part in (query.target, query.input)
            )
        kept = (target + query.input - shown).clamp(0, 1) if name == "deraining" else target
        if name == "inpainting":
            kept = torch.where(task.known_pixels(query.input), query.input, kept)  # pyright: ignore
        row = next(row for row in measure_budget(task, 1, SMALL, engine.vae).rows if row.metric == "mse")
        budgets[name] = (row.vae, float((kept - query.target).square().mean()))
    for found, by_hand in budgets.values():
        assert found == pytest.approx(by_hand, rel=1e-4)


def test_tests_report_it(run_cli: Cli, tiny_model_dir: Path, tmp_path: Path) -> None:
    """The ceiling of a tiny VAE, which rebuilds next to nothing, is far above what it rebuilds."""
    asked = ["--task", "deraining", "--n", 2, "--draws", 1, "--pairs", 1, "--model", tiny_model_dir]
    assert run_cli(["benchmark", "quick", *asked, "--out", tmp_path]).code == 0
    (task,) = read_result(tmp_path / "result.json").tasks
    psnr = task.headline
    rebuilt, query = psnr.baselines["query_vae"], psnr.baselines["query"]
    assert task.sampling["detail"] is True
    assert psnr.ceiling is not None
    assert rebuilt is not None
    assert query is not None
    assert psnr.ceiling > rebuilt + 3
