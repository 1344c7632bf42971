"""The base of all readers: squares, splits, windows, and the registry of layouts."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lavindit.data.readers import LAYOUTS, Reader, open_layout, square_scene
from lavindit.data.readers.base import choose_of_one, choose_part, cut_windows
from lavindit.data.readers.rasters import load_frames, read_indices, read_raster
from lavindit.errors import LavinditError
from lavindit.types import Scene


class Halves(Reader):
    """Two scenes, 8 wide and 4 high: left half 0, right half 1."""

    layout = "halves"
    clips = True
    provides = frozenset({"instance_ids"})
    protocol = ""
    id_size = (4, 8)

    @classmethod
    def detect(cls, root: Path) -> bool:
        return False

    def __len__(self) -> int:
        return 2

    def load(self, index: int) -> Scene:
        halves = torch.arange(8).div(4, rounding_mode="floor").expand(1, 1, 4, 8)
        ids = halves[..., : self.id_size[0], : self.id_size[1]]
        return Scene(f"halves/{index}", halves.float().expand(3, 1, 4, 8), instance_ids=ids)


def full_scene(height: int, width: int, frames: int = 2) -> Scene:
    generator = torch.Generator().manual_seed(0)

    def rand(channels: int) -> Tensor:
        return torch.rand(channels, frames, height, width, generator=generator)

    normals = rand(3) - 0.5
    return Scene(
        "full",
        rand(3),
        depth_m=rand(1) + 1,
        normals=normals / normals.norm(dim=0),
        instance_ids=(rand(1) * 4).long(),
        class_ids=(rand(1) * 4).long(),
        labelled=rand(1) > 0.5,
        keypoints_px=torch.tensor([[[[0.0, 0.0, 2.0]] * frames, [[width - 1.0, height - 1.0, 1.0]] * frames]]),
        flow_px=rand(2),
        occluded=rand(1) > 0.5,
        target=rand(3),
    )


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (5, 5), (1, 3), (33, 47)])
def test_every_field_becomes_square_and_keeps_its_type(fit, height, width):
    scene = full_scene(height, width)
    square = square_scene(scene, 16, fit)
    assert square.known() == scene.known()
    for name in square.known() - {"keypoints_px"}:
        before, after = getattr(scene, name), getattr(square, name)
        assert after.shape == (before.shape[0], 2, 16, 16), name
        assert after.dtype == before.dtype, name
    assert square.keypoints_px.shape == scene.keypoints_px.shape


def test_a_square_of_the_same_size_is_the_same():
    scene = full_scene(16, 16)
    square = square_scene(scene, 16)
    for name in scene.known() - {"occluded"}:
        assert torch.equal(getattr(square, name), getattr(scene, name)), name


@pytest.mark.parametrize("size", [3, 4, 7, 16, 24, 50])
def test_nearest_is_by_pixel_centres(size):
    depth = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(size))
    square = square_scene(Scene("s", depth.expand(3, 1, 24, 24), depth_m=depth), size, "stretch")
    expected = F.interpolate(depth, (size, size), mode="nearest-exact")
    assert torch.equal(square.depth_m, expected)


def test_crop_is_the_centre():
    ids = torch.arange(10).expand(1, 1, 4, 10)
    square = square_scene(Scene("s", torch.zeros(3, 1, 4, 10), instance_ids=ids), 4)
    assert square.instance_ids[0, 0, 0].tolist() == [3, 4, 5, 6]


def test_inf_and_nan_neither_spread_nor_vanish():
    depth = torch.ones(1, 1, 8, 8)
    depth[..., 0, 0], depth[..., 7, 7] = torch.inf, torch.nan
    square = square_scene(Scene("s", torch.zeros(3, 1, 8, 8), depth_m=depth), 16)
    assert square.depth_m.isinf().sum() == 4
    assert square.depth_m.isnan().sum() == 4


def test_flow_is_scaled_with_its_axes():
    flow = torch.tensor([3.0, 5.0]).view(2, 1, 1, 1).expand(2, 1, 10, 20)
    square = square_scene(Scene("s", torch.zeros(3, 1, 10, 20), flow_px=flow), 40, "stretch")
    assert square.flow_px[:, 0, 7, 7].tolist() == [6.0, 20.0]
    assert square_scene(Scene("s", torch.zeros(3, 1, 10, 20), flow_px=flow), 40).flow_px[:, 0, 7, 7].tolist() == [
        12,
        20,
    ]


def test_what_moves_out_of_the_square_is_occluded_and_unknown_motion_is_not():
    flow = torch.zeros(2, 1, 4, 8)
    flow[0] = 1.0
    flow[:, :, 0] = torch.nan
    scene = Scene("s", torch.zeros(3, 1, 4, 8), flow_px=flow, occluded=torch.zeros(1, 1, 4, 8, dtype=torch.bool))
    occluded = square_scene(scene, 4).occluded
    assert occluded[0, 0, 1:].tolist() == [[False, False, False, True]] * 3
    assert not occluded[0, 0, 0].any()


def test_keypoints_stay_on_what_they_mark():
    rgb = torch.zeros(3, 1, 12, 24)
    rgb[:, :, 4, 9] = 1.0
    marks = torch.tensor([[[[9.0, 4.0, 2.0]], [[1.0, 4.0, 2.0]], [[5.4, 0.0, 1.0]], [[9.0, 4.0, 0.0]]]])
    square = square_scene(Scene("s", rgb, keypoints_px=marks), 36).keypoints_px[0, :, 0]
    # Column 9 is column 3 of the crop, and 3 pixels wide in the square: 9, 10, 11.
    assert square[0].tolist() == [10.0, 13.0, 2.0]
    assert square[1:3, 2].tolist() == [0.0, 0.0]
    assert square[3, 2] == 0
    stretched = square_scene(Scene("s", rgb, keypoints_px=marks), 24, "stretch").keypoints_px[0, 0, 0]
    assert stretched.tolist() == [9.0, 8.5, 2.0]


def test_a_reader_gives_square_scenes(tmp_path):
    reader = Halves(tmp_path, "train", 16)
    scene = reader[1]
    assert scene.rgb.shape == (3, 1, 16, 16)
    assert scene.instance_ids[0, 0, 0].tolist() == [0] * 8 + [1] * 8
    assert reader.group_of(0) is None
    with pytest.raises(IndexError):
        reader[2]


def test_a_truth_of_another_size_is_named(tmp_path):
    reader = Halves(tmp_path, "train", 16)
    reader.id_size = (4, 7)
    with pytest.raises(LavinditError, match=r"instance_ids of scene halves/0 is 7x4, its picture 8x4"):
        reader[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "split 'dev'.*train, val or test"),
        ({"fit": "pad"}, "fit 'pad'.*crop or stretch"),
        ({"frames": 12}, "frames=12.*4k \\+ 1"),
        ({"frames": 0}, "frames=0"),
    ],
)
def test_options_that_do_not_exist(tmp_path, change, message):
    options = {"split": "train", "resolution": 16} | change
    with pytest.raises(LavinditError, match=message):
        Halves(tmp_path, **options)
    with pytest.raises(LavinditError, match="no such folder"):
        Halves(tmp_path / "missing", "train", 16)


def test_single_pictures_are_no_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(Halves, "clips", False)
    with pytest.raises(LavinditError, match="holds single pictures"):
        Halves(tmp_path, "train", 16, frames=13)


@pytest.mark.parametrize("count", [2, 3, 11, 12, 40])
def test_the_parts_of_a_split_are_apart_and_complete(count):
    items = list(range(count))
    parts = {split: choose_of_one(items, split) for split in ("train", "val", "test")}
    assert all(parts.values())
    assert parts["test"] == items[::10]
    assert not set(parts["test"]) & (set(parts["train"]) | set(parts["val"]))
    assert sorted({*parts["train"], *parts["val"], *parts["test"]}) == items
    if count > 2:
        assert not set(parts["train"]) & set(parts["val"])


def test_a_published_test_part_is_taken_whole():
    train = list(range(20))
    assert choose_part(train, [7, 8], "test") == [7, 8]
    assert choose_part(train, [7, 8], "val") == [0, 10]
    assert choose_part(train, [7, 8], "train") == [n for n in train if n % 10]


def test_windows():
    assert cut_windows({"a": 12, "b": 5}, 5, Path("root")) == [("a", 0), ("a", 5), ("b", 0)]
    assert cut_windows({"a": 2}, 1, Path("root")) == [("a", 0), ("a", 1)]
    with pytest.raises(LavinditError, match="clip b of root has 4 frames, 5 were asked for"):
        cut_windows({"a": 12, "b": 4}, 5, Path("root"))


def test_the_registry_knows_every_layout_by_its_key():
    expected = {"coco", "coco_person", "coco_panoptic", "pascal_5i", "nyuv2", "flyingchairs", "davis", "movi"}
    assert set(LAYOUTS) == expected
    assert all(reader.layout == name for name, reader in LAYOUTS.items())


def test_a_folder_of_no_layout_says_which_there_are(tmp_path):
    with pytest.raises(LavinditError, match=f"{tmp_path} has none of the layouts .*davis"):
        open_layout(tmp_path, "train", 16)
    with pytest.raises(LavinditError, match="did you mean 'davis'"):
        open_layout(tmp_path, "train", 16, layout="daviss")
    with pytest.raises(LavinditError, match="there is coco"):
        open_layout(tmp_path, "train", 16, layout="xyz")
    with pytest.raises(LavinditError, match="no such folder"):
        open_layout(tmp_path / "missing", "train", 16)


def test_no_layout_takes_the_folder_of_another(test_data):
    data = test_data / "data"
    for name in ("coco", "coco_panoptic", "nyuv2", "flyingchairs", "davis"):
        assert open_layout(data / name, "test", 32).layout == name


def test_rasters_are_read_as_numbers(tmp_path):
    image = Image.new("P", (3, 2), 7)
    image.putpalette([9, 8, 7] * 256)
    image.save(tmp_path / "p.png")
    assert read_indices(tmp_path / "p.png").tolist() == [[[[7] * 3] * 2]]
    Image.new("RGB", (3, 2)).save(tmp_path / "c.png")
    with pytest.raises(LavinditError, match=r"c.png has RGB pixels; it should have 1 or L or P"):
        read_indices(tmp_path / "c.png")
    with pytest.raises(LavinditError, match=r"no such file: .*missing.png"):
        read_indices(tmp_path / "missing.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "p.png").read_bytes()[:40])
    with pytest.raises(LavinditError, match=r"cannot read .*cut.png"):
        read_raster(tmp_path / "cut.png", ("P",))


def test_the_frames_of_a_clip_have_one_size(tmp_path):
    for name, size in (("a", (3, 2)), ("b", (3, 2)), ("c", (4, 2))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in "abc"]
    assert load_frames(files[:2]).shape == (3, 2, 2, 3)
    with pytest.raises(LavinditError, match=r"c.png is 4x2, a.png 3x2"):
        load_frames(files)
