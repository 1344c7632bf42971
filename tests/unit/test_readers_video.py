"""Readers of clips: FlyingChairs and DAVIS."""

import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lavindit.data.readers import open_layout
from lavindit.data.readers.davis import DavisReader
from lavindit.data.readers.flyingchairs import FlyingChairsReader, read_flow
from lavindit.errors import LavinditError


def write_flow(path, flow, magic=202021.25):
    height, width = flow.shape[:2]
    path.write_bytes(struct.pack("<fii", magic, width, height) + flow.astype("<f4").tobytes())


def write_chairs(folder, count=4, published=True):
    folder.mkdir(exist_ok=True, parents=True)
    ends = ("_img1.ppm", "_img2.ppm", "_flow.flo") if published else ("-img0.ppm", "-img1.ppm", "-gt.flo")
    for n in range(count):
        name = f"{n + 1:05d}" if published else f"{n:07d}"
        Image.new("RGB", (8, 4), (n, 0, 0)).save(folder / (name + ends[0]))
        Image.new("RGB", (8, 4), (n, 255, 0)).save(folder / (name + ends[1]))
        write_flow(folder / (name + ends[2]), np.full((4, 8, 2), (3.0, -1.0)))


# --- FlyingChairs


def test_flow_files_are_rows_of_dx_dy(tmp_path):
    flow = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    flow[1, 2] = 2e9
    write_flow(tmp_path / "a.flo", flow)
    read = read_flow(tmp_path / "a.flo")
    assert read.shape == (2, 2, 3)
    assert read[:, 0, 1].tolist() == [2.0, 3.0]
    assert read[:, 1, 0].tolist() == [6.0, 7.0]
    assert read.isnan().sum() == 2


def test_bad_flow_files(tmp_path):
    path = tmp_path / "a.flo"
    with pytest.raises(LavinditError, match=r"cannot read .*a.flo"):
        read_flow(path)
    write_flow(path, np.zeros((2, 3, 2)), magic=1.0)
    with pytest.raises(LavinditError, match=r"a.flo is no .flo file"):
        read_flow(path)
    write_flow(path, np.zeros((2, 3, 2)))
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"0", whole[:12]):
        path.write_bytes(content)
        with pytest.raises(LavinditError, match=f"has {len(content)} bytes, 3x2 motions take 60"):
            read_flow(path)
    for content in (b"", whole[:11]):
        path.write_bytes(content)
        with pytest.raises(LavinditError, match=r"is no .flo file"):
            read_flow(path)


def test_chairs_as_published(tmp_path):
    write_chairs(tmp_path / "data", 5)
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n1\n2\n")
    test = open_layout(tmp_path, "test", 16, frames=5, fit="stretch")
    assert test.layout == "flyingchairs"
    assert [pair.name for pair in test.pairs] == ["00002", "00005"]
    assert [p.name for p in FlyingChairsReader(tmp_path, "train", 16).pairs] == ["00003", "00004"]
    assert [p.name for p in FlyingChairsReader(tmp_path, "val", 16).pairs] == ["00001"]
    assert "published split" in test.protocol
    scene = test[0]
    assert scene.rgb.shape == (3, 5, 16, 16)
    assert scene.rgb[1, :, 0, 0].tolist() == pytest.approx([0, 1, 1, 1, 1])
    assert scene.flow_px[:, 0, 3, 3].tolist() == [6.0, -4.0]
    assert scene.flow_px[:, 1:].isnan().all()


def test_one_frame_of_a_pair_has_no_flow(tmp_path):
    write_chairs(tmp_path)
    reader = FlyingChairsReader(tmp_path, "test", 16)
    assert reader.provides == frozenset()
    assert reader[0].rgb.shape == (3, 1, 16, 16)
    assert reader[0].flow_px is None


def test_chairs_with_a_wrong_split_file(tmp_path):
    write_chairs(tmp_path, 3)
    marks = tmp_path / "FlyingChairs_train_val.txt"
    marks.write_text("1\n2\n")
    with pytest.raises(LavinditError, match=r"FlyingChairs_train_val.txt has 2 lines, there are 3 pairs"):
        FlyingChairsReader(tmp_path, "test", 16)
    marks.write_text("1\n2\n3\n")
    with pytest.raises(LavinditError, match="has a line '3'"):
        FlyingChairsReader(tmp_path, "test", 16)
    marks.write_text("1\n1\n1\n")
    with pytest.raises(LavinditError, match="no scene for the split 'test'"):
        FlyingChairsReader(tmp_path, "test", 16)


def test_chairs_that_lack_a_picture_or_differ_in_size(tmp_path):
    write_chairs(tmp_path, published=False)
    write_flow(tmp_path / "0000000-gt.flo", np.zeros((4, 9, 2)))
    with pytest.raises(LavinditError, match="flow_px of scene 0000000 is 9x4 of 5 frames, its picture 8x4 of 5 frames"):
        FlyingChairsReader(tmp_path, "test", 16, frames=5)[0]
    Image.new("RGB", (9, 4)).save(tmp_path / "0000000-img1.ppm")
    with pytest.raises(LavinditError, match=r"0000000-img1.ppm is 9x4, 0000000-img0.ppm 8x4"):
        FlyingChairsReader(tmp_path, "test", 16, frames=5)[0]
    (tmp_path / "0000002-img1.ppm").unlink()
    with pytest.raises(LavinditError, match=r"0000002-gt.flo has no 0000002-img1.ppm beside it"):
        FlyingChairsReader(tmp_path, "test", 16, frames=5)
    with pytest.raises(LavinditError, match="is it FlyingChairs"):
        open_layout(tmp_path.parent, "test", 16, layout="flyingchairs")


def warp(frame, flow_px):
    """The frame [3, H, W] seen along a motion [2, H, W]."""
    height, width = flow_px.shape[1:]
    x = (torch.arange(width) + flow_px[0] + 0.5) / width * 2 - 1
    y = (torch.arange(height)[:, None] + flow_px[1] + 0.5) / height * 2 - 1
    return F.grid_sample(frame[None], torch.stack([x, y], -1)[None], padding_mode="border", align_corners=False)[0]


def test_real_flow_leads_from_the_first_picture_to_the_second(test_data):
    root = test_data / "data" / "flyingchairs"
    readers = [FlyingChairsReader(root, split, 384, frames=5) for split in ("train", "val", "test")]
    assert sum(map(len, readers)) == 4
    for scene in (reader[0] for reader in readers):
        first, second, flow = scene.rgb[:, 0], scene.rgb[:, 1], scene.flow_px[:, 0]
        still, right, wrong, swapped = (
            (warp(second, f) - first).abs().mean() for f in (flow * 0, flow, -flow, flow.flip(0))
        )
        assert right < 0.6 * min(still, wrong, swapped)


# --- DAVIS


def write_davis(root, clips, year="2017"):
    for clip, frames in clips.items():
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / clip).mkdir(parents=True)
        for n in range(frames):
            Image.new("RGB", (8, 4), (10 * n, 0, 0)).save(root / f"JPEGImages/480p/{clip}/{n:05d}.jpg")
            mask = np.zeros((4, 8), np.uint8)
            if year == "2016":
                mask[1], image = 255, None
                image = Image.fromarray(mask)
            else:
                mask[1], mask[2], mask[3, 0] = 1, 2, 255
                image = Image.fromarray(mask, mode="P")
                image.putpalette([value for n in range(256) for value in (n, 255 - n, n // 2)])
            image.save(root / f"Annotations/480p/{clip}/{n:05d}.png")


def write_list(root, year, name, lines):
    (root / "ImageSets" / year).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / year / f"{name}.txt").write_text("".join(line + "\n" for line in lines))


def test_davis_2017(tmp_path):
    write_davis(tmp_path, {"bear": 11, "cows": 5, "dog": 7})
    write_list(tmp_path, "2017", "train", ["bear", "cows"])
    write_list(tmp_path, "2017", "val", ["dog"])
    write_list(tmp_path, "2016", "val", ["cows"])
    test, train = open_layout(tmp_path, "test", 16, frames=5), DavisReader(tmp_path, "train", 16)
    assert test.layout == "davis"
    assert test.windows == [("dog", 0)]
    assert {clip for clip, _ in train.windows} == {"cows"}
    assert DavisReader(tmp_path, "val", 16, frames=5).windows == [("bear", 0), ("bear", 5)]
    scene = test.load(0)
    assert scene.rgb.shape == (3, 5, 4, 8)
    assert scene.rgb[0, :, 0, 0].mul(255).round().tolist() == pytest.approx([0, 10, 20, 30, 40], abs=2)
    assert scene.instance_ids[0, 4, :, 0].tolist() == [0, 1, 2, 0]
    assert scene.class_ids[0, 4, :, 0].tolist() == [0, 1, 1, 0]
    assert scene.labelled[0, 4, 3].tolist() == [False] + [True] * 7
    assert test[0].known() == {"rgb", *test.provides}


def test_davis_2016_lists_files_and_has_one_object(tmp_path):
    write_davis(tmp_path, {"bear": 2, "dog": 2}, "2016")
    line = "/JPEGImages/480p/{0}/{1:05d}.jpg /Annotations/480p/{0}/{1:05d}.png"
    write_list(tmp_path, "480p", "train", [line.format("bear", n) for n in range(2)])
    write_list(tmp_path, "480p", "val", [line.format("dog", n) for n in range(2)])
    test = DavisReader(tmp_path, "test", 16)
    assert test.windows == [("dog", 0), ("dog", 1)]
    assert test.load(0).instance_ids[0, 0, :, 0].tolist() == [0, 1, 0, 0]
    assert test.load(0).labelled.all()
    assert test.load(1).scene_id == "dog/00001"


def test_davis_without_lists_tests_every_tenth_clip(tmp_path):
    write_davis(tmp_path, {"a": 5, "b": 5, "c": 5})
    assert {clip for clip, _ in DavisReader(tmp_path, "test", 16).windows} == {"a"}
    assert {clip for clip, _ in DavisReader(tmp_path, "train", 16).windows} == {"c"}


def test_bad_davis_folders(tmp_path):
    write_davis(tmp_path, {"bear": 4, "dog": 4})
    with pytest.raises(LavinditError, match=f"clip bear of {tmp_path} has 4 frames, 5 were asked for"):
        DavisReader(tmp_path, "test", 16, frames=5)
    write_list(tmp_path, "2017", "val", ["dog", "cat"])
    write_list(tmp_path, "2017", "train", ["bear"])
    with pytest.raises(LavinditError, match=r"no such clip: .*cat"):
        DavisReader(tmp_path, "test", 16)
    write_list(tmp_path, "2017", "val", [])
    with pytest.raises(LavinditError, match=r"val.txt names no clip"):
        DavisReader(tmp_path, "test", 16)
    write_list(tmp_path, "2017", "val", ["dog"])
    (tmp_path / "ImageSets/2017/train.txt").unlink()
    with pytest.raises(LavinditError, match=r"no such file: .*train.txt"):
        DavisReader(tmp_path, "train", 16)
    mask = tmp_path / "Annotations/480p/dog/00002.png"
    Image.new("P", (9, 4)).save(mask)
    write_list(tmp_path, "2017", "train", ["bear"])
    reader = DavisReader(tmp_path, "test", 16)
    with pytest.raises(LavinditError, match="instance_ids of scene dog/00002 is 9x4"):
        reader[2]
    Image.new("RGB", (8, 4)).save(mask)
    with pytest.raises(LavinditError, match=r"00002.png has RGB pixels"):
        reader[2]
    mask.unlink()
    with pytest.raises(LavinditError, match=r"00002.jpg has no mask .*00002.png"):
        DavisReader(tmp_path, "test", 16)
    with pytest.raises(LavinditError, match="has none of the folders 480p"):
        DavisReader(tmp_path / "ImageSets", "test", 16)


def test_real_davis(test_data):
    reader = open_layout(test_data / "data" / "davis", "test", 64, frames=13)
    assert len(reader) == 3
    scene = reader[0]
    assert scene.rgb.shape == (3, 13, 64, 64)
    assert scene.instance_ids.unique().tolist() == [0, 1]
    assert 0.02 < (scene.instance_ids > 0).float().mean() < 0.6
