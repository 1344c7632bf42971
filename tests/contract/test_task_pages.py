"""Every built-in task has a page and a picture, and they are those that its class makes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from lavindit.pictures import load_picture, save_picture
from lavindit.task import all_tasks, get_task

DOCS = Path(__file__).parents[2] / "docs"
LARGEST_BYTES = 30_000
Files = tuple[dict[Path, str], dict[Path, Tensor]]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_task_pages", DOCS / "generate_task_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(generator: ModuleType) -> Files:
    return generator.render_all()


def test_pages_and_pictures_are_up_to_date(generator: ModuleType, files: Files) -> None:
    stale = [path.relative_to(DOCS).as_posix() for path in generator.find_stale(*files)]
    assert not stale, "run `python docs/generate_task_pages.py`"


def test_there_is_one_of_each(files: Files) -> None:
    names = [name for name, task in all_tasks().items() if type(task).__module__.startswith("lavindit_tasks.")]
    assert sorted(path.stem for path in files[1]) == sorted(names)
    assert sorted(path.stem for path in files[0]) == sorted(["README", *names])
    table = files[0][DOCS / "tasks" / "README.md"]
    assert all(f"[{name}]({name}.md)" in table for name in names)


def test_pictures_are_small_and_show_something(generator: ModuleType, files: Files) -> None:
    for path, picture in files[1].items():
        assert len(generator.to_png(picture)) < LARGEST_BYTES, path
        assert path.stat().st_size < LARGEST_BYTES
        clip = get_task(path.stem).modality == "video"
        assert picture.shape == ((3, 1, 162, 326) if clip else (3, 1, 128, 258))
        target = picture[..., 82:, :] if clip else picture[..., 130:]
        assert float(target.amax() - target.amin()) > 0.5


def test_a_page_tells_the_whole_contract(files: Files) -> None:
    page = files[0][DOCS / "tasks" / "frame_prediction.md"]
    for text in (
        "![Input and target](pictures/frame_prediction.png)",
        "| Frames of input → target | 1 → 13 |",
        "| Context of a test | `random` |",
        "| `psnr` | dB | larger | yes | nothing |",
        "| `lpips` | 1 | smaller |  | weights `lpips` |",
        "Without any of them the headline is `psnr`.",
        "--query photo.jpg",
    ):
        assert text in page
    assert "--query clip.mp4" in files[0][DOCS / "tasks" / "video_depth_estimation.md"]
    assert "a list of things, 4 numbers each" in files[0][DOCS / "tasks" / "object_detection.md"]


def test_another_picture_is_out_of_date(generator: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = torch.rand(3, 1, 40, 50, generator=torch.Generator().manual_seed(0))
    assert not generator.is_alike(path, picture)
    save_picture(picture, path)
    stored = load_picture(path)
    assert generator.is_alike(path, picture)
    assert generator.is_alike(path, (stored + 2 / 255).clamp(0, 1))
    assert not generator.is_alike(path, (stored + 3 / 255).clamp(0, 1))
    assert not generator.is_alike(path, picture[..., :-1])
    moved = stored.clone()
    moved[..., :4, :5] = 1 - moved[..., :4, :5]
    assert generator.is_alike(path, moved)  # 1 % of the pixels
    moved[..., 4:8, :5] = 1 - moved[..., 4:8, :5]
    assert not generator.is_alike(path, moved)
