"""The reader of Pascal-5i on hand-made pictures in the layout of VOC 2012."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lavindit.data.readers.pascal import PascalReader
from lavindit.errors import LavinditError

SIZE = 16
PALETTE = [channel for index in range(256) for channel in (255 - index, index // 2, 7)]


def write_mask(path: Path, classes: list[int]) -> None:
    """One row of pixels for each class, from the top; the last row is 255, the border."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for row, class_id in enumerate(classes):
        values[row] = class_id
    values[-1] = 255
    image = Image.fromarray(values)
    image.putpalette(PALETTE)
    image.save(path)


def write_voc(root: Path, lists: dict[str, dict[str, list[int]]], masks: str = "SegmentationClass") -> Path:
    """Pictures by list and name, with the classes of their masks."""
    for list_name, pictures in lists.items():
        file = root / "ImageSets/Segmentation" / f"{list_name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{name}\n" for name in pictures))
        for name, classes in pictures.items():
            write_mask(root / masks / f"{name}.png", classes)
            (root / "JPEGImages").mkdir(exist_ok=True)
            Image.new("RGB", (SIZE, SIZE), (200, 100, 50)).save(root / "JPEGImages" / f"{name}.jpg")
    return root


def read(root: Path, split: str = "test", fold: int = 0) -> Any:
    return PascalReader(root, split, SIZE, fold=fold)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    train = {f"t{number:02}": [1 + number % 20, 15] for number in range(30)}
    val = {"v0": [5, 1, 12], "v1": [15], "v2": [2], "v3": []}
    return write_voc(tmp_path, {"train": train, "val": val})


def test_each_class_of_the_fold_is_a_scene(root: Path) -> None:
    assert PascalReader.detect(root)
    scenes = {fold: [tuple(s) for s in read(root, fold=fold).scenes] for fold in (0, 2)}
    assert scenes == {0: [("v0", 1), ("v0", 5), ("v2", 2)], 2: [("v0", 12), ("v1", 15)]}
    with pytest.raises(LavinditError, match="holds no scene"):
        read(root, fold=3)


def test_a_scene_has_its_class_alone(root: Path) -> None:
    reader = read(root, fold=0)
    scene = reader[1]
    assert scene.scene_id == "v0-05"
    expected = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    expected[0] = 5
    assert torch.equal(scene.class_ids[0, 0], expected)
    assert torch.equal(scene.instance_ids[0, 0], expected // 5)
    assert not scene.labelled[0, 0, -1].any()
    assert scene.labelled[0, 0, :-1].all()
    assert scene.rgb.shape == (3, 1, SIZE, SIZE)
    assert (scene.rgb[0] - 200 / 255).abs().max() < 0.02
    assert [scene.class_ids.max().item() for scene in (reader[i] for i in range(len(reader)))] == [
        reader.group_of(i) for i in range(len(reader))
    ]


def test_context_is_of_the_train_list_and_the_same_fold(root: Path) -> None:
    train, val = (read(root, split, fold=2) for split in ("train", "val"))
    names = {split: {scene.name for scene in reader.scenes} for split, reader in {"train": train, "val": val}.items()}
    assert not names["train"] & names["val"]
    assert names["val"] == {"t00", "t10", "t20"}
    assert names["train"] | names["val"] == {f"t{number:02}" for number in range(30)}
    assert {train.group_of(i) for i in range(len(train))} == {12, 13, 14, 15}, "11 is in t10 alone, which validates"


def test_one_list_serves_both(tmp_path: Path) -> None:
    write_voc(tmp_path, {"val": {f"v{number:02}": [7] for number in range(20)}})
    names = {split: {s.name for s in read(tmp_path, split, fold=1).scenes} for split in ("train", "val", "test")}
    assert names["test"] == {"v00", "v10"}
    assert len(set.union(*names.values())) == sum(len(found) for found in names.values()) == 20
    assert "every tenth picture of val.txt" in read(tmp_path, fold=1).protocol


def test_additional_masks_come_first(root: Path) -> None:
    for name in ("v0", "v1", "v2", "v3"):
        values = np.full((SIZE, SIZE), 3, dtype=np.uint8)
        (root / "SegmentationClassAug").mkdir(exist_ok=True)
        Image.fromarray(values).save(root / "SegmentationClassAug" / f"{name}.png")  # gray, as they are published
    reader = read(root, fold=0)
    assert [tuple(scene) for scene in reader.scenes] == [(name, 3) for name in ("v0", "v1", "v2", "v3")]
    assert (reader[0].class_ids == 3).all()
    assert "SegmentationClassAug" in reader.protocol


def test_bad_input_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match="folds 0 to 3, not 4"):
        read(root, fold=4)
    mask = root / "SegmentationClass/v1.png"
    write_mask(mask, [21])
    with pytest.raises(LavinditError, match=r"v1.png has the value 21"):
        read(root)
    Image.new("RGB", (SIZE, SIZE)).save(mask)
    with pytest.raises(LavinditError, match=r"v1.png has RGB pixels"):
        read(root)
    mask.unlink()
    with pytest.raises(LavinditError, match=r"cannot read .*v1.png: .* not complete"):
        read(root)
    (root / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(LavinditError, match=r"cannot read the list .*val.txt"):
        read(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LavinditError, match=r"JPEGImages/.*train.txt"):
        read(tmp_path / "empty")


def test_a_picture_of_another_size_is_named(root: Path) -> None:
    reader = read(root)
    Image.new("RGB", (9, SIZE)).save(root / "JPEGImages/v0.jpg")
    with pytest.raises(LavinditError, match=r"v0.jpg is 9x16, its annotations are for 16x16"):
        _ = reader[0]
    (root / "JPEGImages/v0.jpg").unlink()
    with pytest.raises(LavinditError, match=r"no such image: .*v0.jpg"):
        _ = reader[0]
