"""NYUv2: PNG files and the official file."""

import pickle

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from PIL import Image

from lavindit.data.readers import open_layout
from lavindit.data.readers.nyuv2 import NYUv2Reader, read_depth_png, read_normals_png
from lavindit.errors import LavinditError


def write_pngs(root, count=3, size=(6, 4)):
    width, height = size
    for n in range(count):
        name = f"{n:06d}.png"
        Image.new("RGB", size, (10 * n, 0, 255)).save(root / name)
        depth = np.full((height, width), 10_000 + n, np.uint16)
        depth[0, 0] = 0
        Image.fromarray(depth).save(root / f"depth_gt_{name}")
        normals = np.full((height, width, 3), 127, np.uint8)
        normals[1:] = (127, 0, 127)
        normals[2:] = (254, 127, 127)
        normals[3:] = (127, 127, 254)
        Image.fromarray(normals).save(root / f"norm_gt_{name}")
        classes = np.full((height, width), 39, np.uint8)
        classes[0, 0], classes[0, 1] = 255, 0
        Image.fromarray(classes).save(root / f"segm_gt_{name}")


def test_a_folder_of_pngs(tmp_path):
    write_pngs(tmp_path)
    test, train = open_layout(tmp_path, "test", 16, fit="stretch"), open_layout(tmp_path, "train", 16)
    assert (test.layout, test.names, train.names) == ("nyuv2", ["000000.png"], ["000002.png"])
    assert test.provides == {"depth_m", "normals", "class_ids", "labelled"}
    assert "every tenth" in test.protocol
    assert test[0].rgb.shape == (3, 1, 16, 16)
    scene = test.load(0)
    assert scene.scene_id == "000000"
    assert scene.depth_m[0, 0, 0, 0].isnan()
    assert scene.depth_m[0, 0, 1, 1] == 2.0
    assert scene.class_ids[0, 0, 0].tolist() == [0, 1, 40, 40, 40, 40]
    assert scene.labelled[0, 0, 0].tolist() == [False] + [True] * 5


def test_normals_become_x_right_y_up_z_to_the_camera(tmp_path):
    write_pngs(tmp_path, 1)
    normals = read_normals_png(tmp_path / "norm_gt_000000.png")[:, 0, :, 0].T
    assert torch.equal(normals[0], torch.zeros(3))
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(normals[1:], expected, atol=1e-6, rtol=0)


def test_a_kind_that_no_frame_has_is_not_provided(tmp_path):
    write_pngs(tmp_path)
    for file in [*tmp_path.glob("norm_gt_*"), *tmp_path.glob("segm_gt_*")]:
        file.unlink()
    reader = NYUv2Reader(tmp_path, "test", 16)
    assert reader.provides == {"depth_m"} == reader[0].known() - {"rgb"}


def test_a_kind_that_one_frame_lacks_is_an_error(tmp_path):
    write_pngs(tmp_path)
    (tmp_path / "norm_gt_000001.png").unlink()
    with pytest.raises(LavinditError, match=r"000001.png has no norm_gt_000001.png beside it"):
        NYUv2Reader(tmp_path, "test", 16)


def test_bad_files(tmp_path):
    write_pngs(tmp_path)
    Image.new("L", (6, 4)).save(tmp_path / "depth_gt_000000.png")
    with pytest.raises(LavinditError, match=r"depth_gt_000000.png has L pixels"):
        NYUv2Reader(tmp_path, "test", 16)[0]
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "depth_gt_000000.png")
    with pytest.raises(LavinditError, match="depth_m of scene 000000 is 5x4, its picture 6x4"):
        NYUv2Reader(tmp_path, "test", 16)[0]
    with pytest.raises(LavinditError, match="single pictures"):
        NYUv2Reader(tmp_path, "test", 16, frames=13)


def test_one_frame_is_tested_on_and_shows_nothing(tmp_path):
    write_pngs(tmp_path, 1)
    assert len(NYUv2Reader(tmp_path, "test", 16)) == 1
    with pytest.raises(LavinditError, match="no scene for the split 'train'"):
        NYUv2Reader(tmp_path, "train", 16)


def test_only_eigens_crop_is_tested(tmp_path):
    write_pngs(tmp_path, 3, (640, 480))
    depth = NYUv2Reader(tmp_path, "test", 480).load(0).depth_m[0, 0]
    known = depth.isfinite()
    assert known.sum() == 426 * 560
    assert known[45:471, 41:601].all()
    assert NYUv2Reader(tmp_path, "train", 480).load(0).depth_m.isfinite().sum() == 640 * 480 - 1


def write_labelled(root, h5py, count=4):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, 6, 4), dtype=np.uint8)
    depths = np.arange(count * 24, dtype=np.float32).reshape(count, 6, 4)
    labels = np.zeros((count, 6, 4), np.uint16)
    instances = np.zeros((count, 6, 4), np.uint8)
    labels[:, 1], instances[:, 1] = 1, 1
    labels[:, 2], instances[:, 2] = 1, 2
    labels[:, 3], instances[:, 3] = 2, 1
    labels[:, 4], instances[:, 4] = 3, 1
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        for name, values in (("images", images), ("depths", depths), ("labels", labels), ("instances", instances)):
            file[name] = values
        names = []
        for n, name in enumerate(("chair", "wall", "lamp")):
            file[f"#refs#/{n}"] = np.array([[ord(letter)] for letter in name], np.uint16)
            names.append(file[f"#refs#/{n}"].ref)
        file.create_dataset("names", data=np.array([names], h5py.ref_dtype))
    splits = {"trainNdxs": np.array([[1], [3], [4]]), "testNdxs": np.array([[2]])}
    scipy.io.savemat(root / "splits.mat", splits)
    return images, depths


def test_the_official_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    images, depths = write_labelled(tmp_path, h5py)
    test, train = open_layout(tmp_path, "test", 16), open_layout(tmp_path, "train", 16)
    assert (test.layout, test.names, train.names) == ("nyuv2", ["0002"], ["0003", "0004"])
    scene = test.load(0)
    assert np.array_equal((scene.rgb[:, 0] * 255).round().numpy(), images[1].transpose(0, 2, 1))
    assert np.array_equal(scene.depth_m[0, 0].numpy(), depths[1].T)
    assert train.load(0).depth_m[0, 0, 0, 0] == 48
    assert scene.class_ids[0, 0, 0].tolist() == [0, 1, 1, 2, 3, 0]
    assert scene.instance_ids[0, 0, 0].tolist() == [0, 1, 2, 0, 3, 0]
    assert scene.labelled[0, 0, 0].tolist() == [False, True, True, True, True, False]
    assert test[0].known() == {"rgb", *test.provides}
    assert torch.equal(pickle.loads(pickle.dumps(test))[0].rgb, test[0].rgb)


def test_the_official_file_with_bad_splits(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_labelled(tmp_path, h5py)
    splits = tmp_path / "splits.mat"
    scipy.io.savemat(splits, {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[5]])})
    with pytest.raises(LavinditError, match=r"splits.mat names frame 5 of 4"):
        NYUv2Reader(tmp_path, "test", 16)
    scipy.io.savemat(splits, {"trainNdxs": np.array([[1]])})
    with pytest.raises(LavinditError, match=r"splits.mat has no trainNdxs and testNdxs"):
        NYUv2Reader(tmp_path, "test", 16)
    splits.write_bytes(b"nothing of the kind")
    with pytest.raises(LavinditError, match=r"splits.mat has no trainNdxs and testNdxs"):
        NYUv2Reader(tmp_path, "test", 16)
    splits.unlink()
    with pytest.raises(LavinditError, match=r"no such file: .*splits.mat"):
        NYUv2Reader(tmp_path, "test", 16)
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"not HDF5")
    scipy.io.savemat(splits, {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[2]])})
    with pytest.raises(LavinditError, match=r"cannot read .*nyu_depth_v2_labeled.mat"):
        NYUv2Reader(tmp_path, "test", 16)


def test_the_official_file_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"")
    scipy.io.savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[2]])})
    with pytest.raises(LavinditError, match="`pip install h5py`"):
        open_layout(tmp_path, "test", 16)


def normals_of_depth(depth_m):
    """Normals [3, H, W] from differences of the points of a depth map [H, W], with the Kinect's intrinsics."""
    height, width = depth_m.shape
    x = (torch.arange(width) - 325.58) / 518.86 * depth_m
    y = (torch.arange(height)[:, None] - 253.74) / 519.47 * depth_m
    points = F.avg_pool2d(torch.stack([x, -y, -depth_m])[None], 9, 1, 4)[0]
    right = F.pad(points[:, :, 8:] - points[:, :, :-8], (4, 4))
    up = F.pad(points[:, :-8] - points[:, 8:], (0, 0, 4, 4))
    return F.normalize(torch.linalg.cross(right, up, dim=0), dim=0), right.norm(dim=0) + up.norm(dim=0)


def test_units_and_axes_of_a_real_frame(test_data):
    root = test_data / "data" / "nyuv2"
    depth_m = read_depth_png(root / "depth_gt_000433.png")[0, 0]
    measured = depth_m[depth_m.isfinite()]
    assert 1 < measured.min() < measured.median() < measured.max() < 10
    normals = read_normals_png(root / "norm_gt_000433.png")[:, 0]
    own, step = normals_of_depth(depth_m.nan_to_num(torch.nan))
    usable = (normals.norm(dim=0) > 0) & own.isfinite().all(0) & (step < 0.3)
    assert usable.float().mean() > 0.4

    def mean_deg(candidate):
        return (candidate * own).sum(0)[usable].clamp(-1, 1).acos().rad2deg().mean()

    assert mean_deg(normals) < 16
    x, y, z = normals
    for wrong in ((x, -y, z), (x, y, -z), (-x, y, z), (x, z, y), (y, x, z)):
        assert mean_deg(torch.stack(wrong)) > 30
    scene = NYUv2Reader(root, "test", 128)[0]
    assert scene.class_ids.unique().tolist()[0] == 0
    assert scene.class_ids.max() <= 40
    assert torch.equal(scene.labelled, scene.class_ids > 0)
