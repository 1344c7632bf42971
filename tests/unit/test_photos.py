from pathlib import Path

import pytest
import torch

from lavindit.data import PhotoSource, bundled_photo
from lavindit.data.photos import BUNDLED_TEST, BUNDLED_TRAIN, split_of
from lavindit.errors import LavinditError
from lavindit.pictures import load_picture, save_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 small photographs 00.png .. 29.png, each of one level of red."""
    for number in range(30):
        picture = torch.rand(3, 1, 20, 26, generator=torch.Generator().manual_seed(number))
        picture[0] = number / 29
        save_picture(picture, tmp_path / f"{number:02}.png")
    return tmp_path


def numbers_in(source: PhotoSource) -> set[int]:
    return {round(float(source[index].rgb[0].mean()) * 29) for index in range(len(source))}


def test_crops_are_pictures(folder: Path) -> None:
    source = PhotoSource("train", 16, scenes=20, folder=folder)
    assert len(source) == 20
    for index in range(20):
        rgb = source[index].rgb
        assert rgb.shape == (3, 1, 16, 16)
        assert rgb.dtype == torch.float32
        assert 0 <= float(rgb.min()) <= float(rgb.max()) <= 1
    assert len({source[index].scene_id for index in range(20)}) == 20


def test_the_same_index_gives_the_same_crop(folder: Path) -> None:
    first, again = (PhotoSource("train", 16, scenes=10, folder=folder) for _ in range(2))
    later = again[7].rgb
    for index in (0, 7, 7):
        assert torch.equal(first[index].rgb, again[index].rgb)
    assert torch.equal(first[7].rgb, later)
    other = PhotoSource("train", 16, scenes=10, folder=folder, seed=1)
    assert not all(torch.equal(first[index].rgb, other[index].rgb) for index in range(10))
    assert not torch.equal(first[0].rgb, first[1].rgb)


def test_splits_share_no_photograph(folder: Path) -> None:
    found = {split: set(split_of(folder, split)) for split in ("train", "val", "test")}
    assert [len(found[split]) for split in ("train", "val", "test")] == [24, 3, 3]
    assert len(set.union(*found.values())) == 30
    seen = {split: numbers_in(PhotoSource(split, 16, scenes=60, folder=folder)) for split in found}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["val"]
    assert not seen["test"] & seen["val"]
    assert seen["test"] == {0, 10, 20}


def test_bundled_splits_share_no_photograph() -> None:
    assert not set(BUNDLED_TRAIN) & set(BUNDLED_TEST)
    assert all(bundled_photo(name).is_file() for name in (*BUNDLED_TRAIN, *BUNDLED_TEST))
    source = PhotoSource("test", 32, scenes=30)
    assert {source[index].scene_id.split("-")[0] for index in range(30)} == {Path(name).stem for name in BUNDLED_TEST}


def test_a_bad_file_is_skipped_and_counted(folder: Path) -> None:
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:200])
    source = PhotoSource("train", 16, scenes=100, folder=folder)
    assert len(source.bad) == 1
    assert "05.png" in source.bad[0]
    assert 5 not in numbers_in(source)
    assert len(numbers_in(source)) > 15


def test_too_many_bad_files_are_listed(folder: Path) -> None:
    for number in (5, 6):
        (folder / f"{number:02}.png").write_bytes(b"")
    with pytest.raises(LavinditError, match=r"2 of 24 photographs are unreadable: .*05\.png.*; .*06\.png"):
        PhotoSource("train", 16, folder=folder)
    assert len(PhotoSource("train", 16, folder=folder, max_bad_share=0.1).bad) == 2
    assert not PhotoSource("test", 16, folder=folder).bad


def test_no_photograph_at_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(LavinditError, match="24 of 24 photographs are unreadable"):
        PhotoSource("train", 16, folder=folder, max_bad_share=1.0)


def test_empty_missing_or_too_small_a_folder(tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match="no images in"):
        PhotoSource("train", 16, folder=tmp_path)
    with pytest.raises(LavinditError, match="no such folder"):
        PhotoSource("train", 16, folder=tmp_path / "none")
    save_picture(torch.zeros(3, 1, 8, 8), tmp_path / "a.png")
    with pytest.raises(LavinditError, match="holds 1 images; 10 or more are needed"):
        PhotoSource("train", 16, folder=tmp_path)


def test_large_thin_and_tiny_photographs(folder: Path) -> None:
    for number, size in ((2, (4, 1300)), (3, (1, 1300)), (4, (2, 2)), (5, (700, 600))):
        save_picture(torch.rand(3, 1, *size), folder / f"{number:02}.png")
    source = PhotoSource("train", 16, scenes=60, folder=folder)
    sizes = {name: tuple(pixels.shape[2:]) for name, pixels in source.photos}
    assert max(max(size) for size in sizes.values()) == 512
    assert sizes["05"] == (512, 439)
    assert sizes["03"] == (1, 512)
    assert all(source[index].rgb.shape == (3, 1, 16, 16) for index in range(60))


def test_photographs_of_the_test_data(test_data: Path) -> None:
    photos = test_data / "data" / "photos"
    if not photos.is_dir():
        pytest.skip(f"no {photos}")
    source = PhotoSource("train", 32, scenes=4, folder=photos)
    assert len(source.photos) + len(source.bad) == len(split_of(photos, "train"))
    assert load_picture(split_of(photos, "test")[0]).shape[0] == 3
    assert source[0].rgb.shape == (3, 1, 32, 32)
