"""The reader of COCO's panoptic segmentations, on hand-made files and real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lavindit.data.readers.coco_panoptic import CocoPanopticReader
from lavindit.errors import LavinditError

SIZE = 24
Entry = dict[str, Any]


def read(root: Path, split: str = "test") -> Any:
    return CocoPanopticReader(root, split, SIZE)


def write_panoptic(root: Path, published: bool = True, segments: list[Entry] | None = None, hole: int = 0) -> Path:
    """One picture: left half class 3 (thing, id 70000), top right 200 (stuff, id 5), bottom right `hole`."""
    ids = np.zeros((SIZE, SIZE), dtype=np.int64)
    ids[:, :12], ids[:12, 12:], ids[12:, 12:] = 70000, 5, hole
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    part, file, masks = (
        ("val2017", "annotations/panoptic_val2017.json", "annotations/panoptic_val2017")
        if published
        else ("input_images", "panoptic_examples.json", "panoptic_examples")
    )
    (root / part).mkdir(parents=True)
    Image.new("RGB", (SIZE, SIZE), (250, 0, 0)).save(root / part / "a.jpg")
    (root / masks).mkdir(parents=True)
    Image.fromarray(colours).save(root / masks / "a.png")
    default = [{"id": 5, "category_id": 200}, {"id": 9, "category_id": 3}, {"id": 70000, "category_id": 3}]
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": SIZE, "width": SIZE}],
        "annotations": [
            {"image_id": 1, "file_name": "a.png", "segments_info": default if segments is None else segments}
        ],
        "categories": [{"id": 3, "isthing": 1}, {"id": 200, "isthing": 0}],
    }
    (root / file).write_text(json.dumps(data))
    return root / file


@pytest.mark.parametrize("published", [True, False])
def test_panoptic_segments_become_maps(published: bool, tmp_path: Path) -> None:
    write_panoptic(tmp_path, published)
    assert CocoPanopticReader.detect(tmp_path)
    scene = read(tmp_path)[0]
    corners = {"left": (20, 3), "stuff": (3, 20), "hole": (20, 20)}
    got = {
        name: (scene.class_ids[0, 0][at], scene.instance_ids[0, 0][at], scene.labelled[0, 0][at])
        for name, at in corners.items()
    }
    assert {name: tuple(int(value) for value in values) for name, values in got.items()} == {
        "left": (3, 2, 1),  # the second thing of the file; the first has no pixels
        "stuff": (200, 0, 1),
        "hole": (0, 0, 0),
    }
    assert scene.class_ids.dtype == scene.instance_ids.dtype == torch.int64


def test_panoptic_crowds_are_not_labelled(tmp_path: Path) -> None:
    segments = [{"id": 70000, "category_id": 3, "iscrowd": 1}, {"id": 5, "category_id": 3}]
    write_panoptic(tmp_path, segments=segments)
    scene = read(tmp_path)[0]
    assert not scene.labelled[0, 0, :, :12].any()
    assert not scene.instance_ids[0, 0, :, :12].any()
    assert not scene.class_ids[0, 0, :, :12].any()
    assert (scene.instance_ids[0, 0, :12, 12:] == 1).all()


def test_bad_panoptic_files_are_named(tmp_path: Path) -> None:
    for name in ("class", "colour", "mode"):
        (tmp_path / name).mkdir()
    file = write_panoptic(tmp_path / "class", segments=[{"id": 5, "category_id": 4}])
    with pytest.raises(LavinditError, match=r"segment 5 of the annotation of image 1 .* category 4") as raised:
        read(tmp_path / "class")
    assert str(file) in str(raised.value)
    write_panoptic(tmp_path / "colour", hole=77)
    with pytest.raises(LavinditError, match=r"a.png has pixels of segment 77"):
        _ = read(tmp_path / "colour")[0]
    write_panoptic(tmp_path / "mode")
    Image.new("L", (SIZE, SIZE)).save(tmp_path / "mode/annotations/panoptic_val2017/a.png")
    with pytest.raises(LavinditError, match=r"a.png has L pixels"):
        _ = read(tmp_path / "mode")[0]
    Image.new("RGB", (SIZE, 9)).save(tmp_path / "mode/annotations/panoptic_val2017/a.png")
    with pytest.raises(LavinditError, match=r"a.jpg is 24x24, its annotations are for 24x9"):
        _ = read(tmp_path / "mode")[0]
    with pytest.raises(LavinditError, match=r"panoptic_val2017.json"):
        read(tmp_path)


def test_real_panoptic(test_data: Path) -> None:
    root = test_data / "data/coco_panoptic"
    test, train = (read(root, split) for split in ("test", "train"))
    assert len(test) == len(train) == 1
    published = json.loads((root / "panoptic_examples.json").read_text())
    kinds = {category["id"]: category["isthing"] for category in published["categories"]}
    for reader, entry in zip((test, train), published["annotations"], strict=True):
        scene = reader.load(0)
        assert scene.scene_id + ".png" == entry["file_name"]
        things = 0
        for segment in entry["segments_info"]:
            if segment["iscrowd"]:
                continue
            things += kinds[segment["category_id"]]
            here = scene.class_ids == segment["category_id"]
            if kinds[segment["category_id"]]:
                here &= scene.instance_ids == things
            assert int(here.sum()) == segment["area"]
        assert scene.instance_ids.max() == things
        crowd = sum(segment["area"] for segment in entry["segments_info"] if segment["iscrowd"])
        assert int((~scene.labelled).sum()) >= crowd > 0
