"""The readers of COCO's objects and people, on hand-made files and real ones."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pycocotools.coco import COCO

from lavindit.data.readers.coco import CocoReader
from lavindit.data.readers.coco_files import load_stored
from lavindit.data.readers.coco_person import CocoPersonReader
from lavindit.errors import LavinditError

SIZE = 24
Entry = dict[str, Any]


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def thing(number: int, image: int = 1, **changed: Any) -> Entry:
    """An annotation: a square of 8 px at (2, 2), class 3."""
    entry = {
        "id": number,
        "image_id": image,
        "category_id": 3,
        "iscrowd": 0,
        "bbox": [2, 2, 8, 8],
        "segmentation": [square(2, 2, 8)],
    }
    return entry | changed


def person(number: int, image: int = 1, labelled: int = 17, **changed: Any) -> Entry:
    """A person: joint j at (4 + j / 2, 6), the first `labelled` ones visible."""
    joints = [value for j in range(17) for value in ((4 + j / 2, 6, 2) if j < labelled else (0, 0, 0))]
    return thing(number, image, category_id=1, bbox=[4, 4, 8, 10], keypoints=joints) | changed


def write_picture(path: Path, width: int = SIZE, height: int = SIZE) -> None:
    """Red rises with x, green with y."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x * 5, y * 5, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_part(
    root: Path,
    entries: list[Entry],
    part: str = "val2017",
    kind: str = "instances",
    images: int = 1,
    width: int = SIZE,
    **changed: Any,
) -> Path:
    """A part of COCO in its layout: pictures 1, 2, ... of `width` x 24 and an annotation file; returns the file."""
    listed = []
    for number in range(1, images + 1):
        name = f"{number:012}.png"
        write_picture(root / part / name, width)
        listed.append({"id": number, "file_name": name, "height": SIZE, "width": width})
    categories = [{"id": number, "name": str(number)} for number in (1, 3, 90)]
    file = root / "annotations" / f"{kind}_{part}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"images": listed, "annotations": entries, "categories": categories} | changed))
    return file


def read(root: Path, split: str = "test", resolution: int = SIZE, reader: type = CocoReader) -> Any:
    return reader(root, split, resolution)


def test_objects_become_maps(tmp_path: Path) -> None:
    write_part(tmp_path, [thing(11), thing(12, category_id=90, segmentation=[square(4, 4, 3), square(20, 20, 2)])])
    reader = read(tmp_path)
    assert CocoReader.detect(tmp_path)
    assert reader.provides == {"instance_ids", "class_ids", "labelled"}
    scene = reader[0]
    assert scene.scene_id == "000000000001"
    expected = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    expected[2:10, 2:10] = 1
    expected[4:7, 4:7] = 2
    expected[20:22, 20:22] = 2
    assert torch.equal(scene.instance_ids, expected[None, None])
    assert torch.equal(scene.class_ids, torch.tensor([0, 3, 90])[expected][None, None])
    assert scene.labelled.all()
    assert scene.labelled.dtype == torch.bool
    assert scene.rgb.shape == (3, 1, SIZE, SIZE)
    assert torch.allclose(scene.rgb[:, 0, 7, 3], torch.tensor([15, 35, 90]) / 255)


def test_the_smaller_object_covers_the_larger_in_any_order(tmp_path: Path) -> None:
    large, small = thing(11), thing(12, segmentation=[square(4, 4, 3)])
    write_part(tmp_path, [small, large])
    ids = read(tmp_path)[0].instance_ids[0, 0]
    assert ids[5, 5] == 1
    assert ids[2, 2] == 2


def test_crowds_are_not_labelled_and_not_counted(tmp_path: Path) -> None:
    # Down the columns: 12 columns of 0, then 1 to the end.
    runs = {"size": [SIZE, SIZE], "counts": [SIZE * 12, SIZE * 12]}
    crowd = thing(11, segmentation=runs, iscrowd=1)
    write_part(tmp_path, [crowd, thing(12, segmentation=[square(10, 2, 4)])])
    scene = read(tmp_path)[0]
    assert set(scene.instance_ids.unique().tolist()) == {0, 1}
    labelled = torch.ones(SIZE, SIZE, dtype=torch.bool)
    labelled[:, 12:] = False
    labelled[2:6, 12:14] = True  # an object of its own within the crowd
    assert torch.equal(scene.labelled[0, 0], labelled)
    assert scene.class_ids[0, 0, 20, 20] == 0


def test_a_picture_without_objects_is_a_scene(tmp_path: Path) -> None:
    write_part(tmp_path, [])
    write_part(tmp_path, [], kind="person_keypoints")
    scene = read(tmp_path)[0]
    assert not scene.instance_ids.any()
    assert scene.keypoints_px.shape == (0, 17, 1, 3)


def test_people_have_joints(tmp_path: Path) -> None:
    nobody, crowd = person(1, labelled=0), person(3, iscrowd=1)
    write_part(tmp_path, [nobody, person(2, labelled=4), crowd], kind="person_keypoints")
    reader = read(tmp_path, resolution=2 * SIZE)
    assert reader.provides == {"keypoints_px"}
    joints = reader[0].keypoints_px
    assert joints.shape == (1, 17, 1, 3)
    # Pixel centres are at integers: the centre of pixel 4 of 24 is that of 8.5 of 48.
    assert joints[0, 0, 0].tolist() == [8.5, 12.5, 2]
    assert (joints[0, :, 0, 2] > 0).sum() == 4


def test_both_files_make_one_scene(tmp_path: Path) -> None:
    write_part(tmp_path, [thing(1)], images=3)
    write_part(tmp_path, [person(2, image=2)], kind="person_keypoints", images=2)
    reader = read(tmp_path)
    assert reader.provides == {"instance_ids", "class_ids", "labelled", "keypoints_px"}
    listed = [picture.image_id for split in ("train", "test") for picture in read(tmp_path, split).pictures]
    assert sorted(listed) == [1, 2], "a picture that one file does not list has no truth there"


def test_parts_and_splits(tmp_path: Path) -> None:
    write_part(tmp_path, [], images=21)
    one = {split: {p.image_id for p in read(tmp_path, split).pictures} for split in ("train", "val", "test")}
    assert one["test"] == {1, 11, 21}
    assert not one["train"] & one["val"]
    assert one["train"] | one["val"] | one["test"] == set(range(1, 22))
    assert "every tenth picture" in read(tmp_path).protocol

    write_part(tmp_path, [], part="train2017", images=20)
    both = {split: [str(p.path.parent.name) for p in read(tmp_path, split).pictures] for split in one}
    assert both["test"] == ["val2017"] * 21
    assert both["train"] + both["val"] == ["train2017"] * 20
    assert "every tenth picture kept for validation" in read(tmp_path).protocol


def test_worthless_annotations_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_part(
        tmp_path,
        [
            thing(1, bbox=[2, 2, 0, 8]),
            thing(2, segmentation=[]),
            thing(3, segmentation={"size": [SIZE, SIZE], "counts": []}),
            thing(4, segmentation=[[1, 1, 5, 5]]),
            thing(5, segmentation=[[1, 1, 5, 5, 9], square(2, 2, 4)]),
            thing(6),
        ],
    )
    with caplog.at_level(logging.WARNING):
        reader = read(tmp_path)
        read(tmp_path, "test")
    assert reader.skipped == {
        "box without area": 1,
        "empty segmentation": 2,
        "polygon of fewer than three points": 2,
    }
    assert len(caplog.messages) == 1, "the file is read and reported once"
    assert "2 with empty segmentation" in caplog.messages[0]
    assert reader[0].instance_ids.max() == 2


RUNS = {"size": [SIZE, SIZE], "counts": [10, 20]}
BAD_ENTRIES = {
    "image": (thing(7, image=5), "image 5"),
    "category": (thing(7, category_id=4), "category 4"),
    "no category": ({key: value for key, value in thing(7).items() if key != "category_id"}, "category_id"),
    "no segmentation": ({key: value for key, value in thing(7).items() if key != "segmentation"}, "segmentation"),
    "text": (thing(7, segmentation="here"), "neither polygons nor run lengths"),
    "words": (thing(7, segmentation=[["a"] * 6]), "numbers"),
    "bbox": (thing(7, bbox=[1, 2]), "bbox"),
    "short runs": (thing(7, segmentation=RUNS), "add up to 30"),
    "size of runs": (thing(7, segmentation=RUNS | {"size": [5, 5]}), "[5, 5]"),
    "packed runs": (thing(7, segmentation=RUNS | {"counts": "~~"}), "'~'"),
    "cut runs": (thing(7, segmentation=RUNS | {"counts": "o"}), "end within"),
    "negative runs": (thing(7, segmentation=RUNS | {"counts": [-1, SIZE * SIZE + 1]}), "0 or more"),
    "far polygon": (thing(7, segmentation=[[0, 0, 1e12, 0, 5, 5]]), "coordinates"),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_a_bad_entry_is_named(case: str, tmp_path: Path) -> None:
    entry, said = BAD_ENTRIES[case]
    file = write_part(tmp_path, [entry])
    with pytest.raises(LavinditError) as raised:
        _ = read(tmp_path)[0]
    message = str(raised.value)
    assert said in message
    assert "annotation 7" in message
    assert str(file) in message
    assert "\n" not in message


def test_wrong_number_of_joints_is_named(tmp_path: Path) -> None:
    write_part(tmp_path, [person(7, keypoints=[1, 2, 2])], kind="person_keypoints")
    with pytest.raises(LavinditError, match=r"annotation 7 .* 3 key point values, not 17 x 3"):
        read(tmp_path)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match=r"instances_val2017.json"):
        read(tmp_path)
    file = write_part(tmp_path, [thing(1)], images=12)
    (tmp_path / "val2017/000000000003.png").unlink()
    with pytest.raises(LavinditError, match=r"1 of 12 images .* 000000000003.png"):
        read(tmp_path)
    file.write_text("{")
    with pytest.raises(LavinditError, match="is not JSON"):
        read(tmp_path)
    file.write_text('{"images": []}')
    with pytest.raises(LavinditError, match="no list 'annotations'"):
        read(tmp_path)
    write_part(tmp_path, [], categories=[{"id": 0}])
    with pytest.raises(LavinditError, match="ids begin at 1"):
        read(tmp_path)
    write_part(tmp_path, [], images=0)
    with pytest.raises(LavinditError, match="holds no scene"):
        read(tmp_path)


def test_pictures_of_another_size_or_kind_are_named(tmp_path: Path) -> None:
    write_part(tmp_path, [thing(1)])
    path = tmp_path / "val2017/000000000001.png"
    write_picture(path, SIZE + 1)
    with pytest.raises(LavinditError, match=r"000000000001.png is 25x24, its annotations are for 24x24"):
        _ = read(tmp_path)[0]
    path.write_bytes(b"no picture")
    with pytest.raises(LavinditError, match=r"cannot read .*000000000001.png"):
        _ = read(tmp_path)[0]


@pytest.mark.parametrize("mode", ["L", "CMYK", "P"])
def test_gray_and_cmyk_pictures(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (SIZE, SIZE), (0, 0, 0)).convert(mode).save(path)
    assert torch.equal(load_stored(path, SIZE, SIZE), torch.zeros(3, 1, SIZE, SIZE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stated", ["as stored", "as turned"])
def test_exif_turns_a_picture_only_where_its_size_says_so(orientation: int, stated: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    turned = stated == "as turned" and orientation >= 5
    got = load_stored(path, *((16, 10) if turned else (10, 16)))[:, 0]
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)) if turned else pixels
    assert torch.equal(got, torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("box", [[4, 4, 8, 10], [0, 0, 8, 8], [10, 2, 30, 8], [20, 20, 4, 4]])
def test_one_person_a_square(box: list[int], tmp_path: Path) -> None:
    write_part(tmp_path, [person(1, bbox=box), person(2, labelled=9)], kind="person_keypoints")
    reader = read(tmp_path, reader=CocoPersonReader)
    assert len(reader) == 1
    assert reader.provides == {"keypoints_px"}
    scene = reader.load(0)
    side = scene.rgb.shape[3]
    assert scene.rgb.shape == (3, 1, side, side)
    width = min(box[0] + box[2], SIZE) - box[0]
    assert side == round(1.25 * max(width, box[3]))
    # The pictures' red says which column a pixel is, green which row: the joints lie on the same ones as before.
    for j in range(17):
        x, y = scene.keypoints_px[0, j, 0, :2].tolist()
        column, row = 4 + j / 2, 6
        if x == int(x) and 0 <= x < side and 0 <= y < side:
            assert scene.rgb[:2, 0, int(y), int(x)].mul(51).round().tolist() == [column, row]
    centre = scene.rgb[:2, 0, side // 2, side // 2] * 51
    assert (centre - torch.tensor([box[0] + width / 2, box[1] + box[3] / 2])).abs().max() <= 1
    assert reader[0].rgb.shape == (3, 1, SIZE, SIZE)


def test_one_person_needs_joints(tmp_path: Path) -> None:
    write_part(tmp_path, [thing(1)])
    assert not CocoPersonReader.detect(tmp_path)
    with pytest.raises(LavinditError, match=r"person_keypoints_val2017.json"):
        read(tmp_path, reader=CocoPersonReader)
    write_part(tmp_path, [person(1, labelled=9), person(2, bbox=[30, 2, 5, 5])], kind="person_keypoints")
    with pytest.raises(LavinditError, match="holds no scene"):
        read(tmp_path, reader=CocoPersonReader)
    assert read(tmp_path).skipped == {"box without area": 1}


def test_real_pictures(test_data: Path) -> None:
    root = test_data / "data/coco"
    reader = read(root, "test", 64)
    train = read(root, "train", 64)
    assert len(reader) == 8
    assert len(train) == 64
    published = COCO(str(root / "annotations/instances_train2017.json"))
    for index in range(len(reader)):
        scene = reader.load(index)
        entries = published.imgToAnns[int(scene.scene_id)]
        things = [published.annToMask(entry).astype(bool) for entry in entries if not entry["iscrowd"]]
        assert scene.instance_ids.max() == len(things)
        covered = np.any(things, axis=0)
        assert np.array_equal(scene.instance_ids[0, 0].numpy() > 0, covered)
        smallest = np.argmin([mask.sum() for mask in things])
        assert (scene.instance_ids[0, 0].numpy()[things[smallest]] == smallest + 1).all()
    assert reader[0].rgb.shape == (3, 1, 64, 64)
    assert reader[0].keypoints_px.shape[1:] == (17, 1, 3)


def test_real_people(test_data: Path) -> None:
    reader = read(test_data / "data/coco", "train", 64, CocoPersonReader)
    assert len(reader) > 20
    assert not {s.image_id for s, _ in reader.scenes} & {
        s.image_id for s, _ in read(test_data / "data/coco", "test", 64, CocoPersonReader).scenes
    }
    for index in range(0, len(reader), 8):
        joints = reader[index].keypoints_px[0, :, 0]
        there = joints[joints[:, 2] > 0]
        assert len(there) >= 10
        # Joints lie in the person's box, and the box is 1 / 1.25 of the square, but for joints on the border.
        assert there[:, :2].min() > 0.05 * 64
        assert there[:, :2].max() < 0.95 * 64
