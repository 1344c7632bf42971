"""Kubric's MOVi: folders of its workers, and the published TFRecords."""

import io
import json
import math
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from lavindit.data.readers import open_layout
from lavindit.data.readers.movi import MoviReader
from lavindit.data.readers.movi_units import CLASSES, OTHER_CLASS
from lavindit.data.readers.rasters import decode_colours16
from lavindit.data.readers.tfrecords import Example, list_records
from lavindit.errors import LavinditError


def png16(values):
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [*chunks, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def write_png16(path, values):
    path.write_bytes(png16(values))


# The camera looks along the world's +y with z up: x stays, its y is the world's z, its z (backwards) the world's -y.
LOOKING_ALONG_Y = [math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0]
LOW, HIGH = -8.0, 24.0


def write_movi(scene, frames=5, size=(8, 6), **instance):
    scene.mkdir(parents=True)
    width, height = size
    camera = {"focal_length": 35.0, "sensor_width": 32.0, "quaternions": [LOOKING_ALONG_Y] * frames}
    instances = [{"category": "Shoe", **instance}, {"shape": "torus_knot"}, {"category": "spaceship"}]
    (scene / "metadata.json").write_text(json.dumps({"camera": camera, "instances": instances}))
    (scene / "data_ranges.json").write_text(json.dumps({"forward_flow": {"min": LOW, "max": HIGH}}))
    for n in range(frames):
        Image.new("RGBA", size, (10 * n, 0, 0, 255)).save(scene / f"rgba_{n:05d}.png")
        distance = np.full((height, width, 1), 5.0, np.float32)
        distance[0, 0] = 1e10
        tifffile.imwrite(scene / f"depth_{n:05d}.tiff", distance)
        normals = np.zeros((height, width, 3))
        normals[1], normals[2], normals[3] = (0, 0, 1), (0, -1, 0), (1, 0, 0)
        write_png16(scene / f"normal_{n:05d}.png", ((normals + 1) * 65535 / 2).astype(np.uint16))
        ids = np.tile(np.arange(width, dtype=np.uint8).clip(max=3), (height, 1))
        image = Image.fromarray(ids, mode="P")
        image.putpalette([7] * 768)
        image.save(scene / f"segmentation_{n:05d}.png")
        flow = np.zeros((height, width, 3))
        flow[..., 0], flow[..., 1] = -2.5, 4.0
        flow[..., :2] = (flow[..., :2] - LOW) * 65535 / (HIGH - LOW)
        write_png16(scene / f"forward_flow_{n:05d}.png", flow.astype(np.uint16))


@pytest.fixture
def movi(tmp_path):
    for n in range(3):
        write_movi(tmp_path / str(n), 11)
    return tmp_path


def test_colours_of_16_bits_are_exact(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3))
    write_png16(tmp_path / "a.png", values)
    assert np.array_equal(
        decode_colours16((tmp_path / "a.png").read_bytes(), "a")[:, 0].permute(1, 2, 0).numpy(), values
    )


def test_movi(movi):
    test = open_layout(movi, "test", 16, frames=5)
    assert test.layout == "movi"
    assert test.windows == [("0", 0), ("0", 5)]
    assert test.provides == {"depth_m", "normals", "instance_ids", "class_ids", "flow_px"}
    scene = test.load(1)
    assert scene.scene_id == "0/00005"
    assert scene.rgb[0, :, 0, 0].mul(255).round().tolist() == [50, 60, 70, 80, 90]
    classes = [0, CLASSES.index("Shoe") + 1, CLASSES.index("torus_knot") + 1, OTHER_CLASS]
    assert scene.instance_ids[0, 2, 1].tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    assert scene.class_ids[0, 2, 1, :4].tolist() == classes
    assert test[0].known() == {"rgb", *test.provides}


def test_movi_depth_is_along_the_optical_axis(movi):
    depth_m = MoviReader(movi, "test", 16, frames=5).load(0).depth_m[0, 3]
    assert depth_m[0, 0] == torch.inf
    # A point at that depth on the ray of pixel (7, 5) is 5 m away from the camera's centre.
    x, y = (7.5 - 4) / 8 * 32 / 35, (5.5 - 3) / 8 * 32 / 35
    assert depth_m[5, 7].item() * math.hypot(1, x, y) == pytest.approx(5.0, rel=1e-6)


def test_movi_normals_are_in_the_cameras_axes(movi):
    normals = MoviReader(movi, "test", 16).load(0).normals[:, 0, :4, 0].T
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(normals, expected, atol=1e-4, rtol=0)


def test_movi_flow_is_dx_dy(movi):
    flow_px = MoviReader(movi, "test", 16, frames=5).load(0).flow_px
    assert flow_px[:, :4].flatten(1).mean(1).tolist() == pytest.approx([4.0, -2.5], abs=1e-3)
    assert flow_px[:, 4].isnan().all()
    assert "flow_px" not in MoviReader(movi, "test", 16).provides


def test_movi_with_published_parts(tmp_path):
    write_movi(tmp_path / "train" / "7", 5)
    write_movi(tmp_path / "validation" / "8", 5)
    assert open_layout(tmp_path, "train", 16, frames=5).windows == [("train/7", 0)]
    assert open_layout(tmp_path, "test", 16, frames=5).windows == [("validation/8", 0)]


def test_bad_movi_folders(movi):
    with pytest.raises(LavinditError, match=r"clip 0 of .* has 11 frames, 13 were asked for"):
        MoviReader(movi, "test", 16, frames=13)
    reader = MoviReader(movi, "test", 16, frames=5)
    scene = movi / "0"
    write_png16(scene / "normal_00001.png", np.zeros((6, 9, 3)))
    with pytest.raises(LavinditError, match=r"normal_00001.png is 9x6, normal_00000.png 8x6"):
        reader[0]
    Image.new("RGB", (8, 6)).save(scene / "normal_00001.png")
    with pytest.raises(LavinditError, match=r"normal_00001.png has rgb24 pixels; it should have 16-bit RGB"):
        reader[0]
    (scene / "normal_00001.png").write_bytes(b"nothing of the kind")
    with pytest.raises(LavinditError, match=r"cannot read .*normal_00001.png"):
        reader[0]
    (scene / "normal_00001.png").unlink()
    with pytest.raises(LavinditError, match=r"no such file: .*normal_00001.png"):
        reader[0]
    (scene / "metadata.json").write_text('{"camera": {"focal_length": 35}}')
    with pytest.raises(
        LavinditError, match=r"metadata.json or data_ranges.json of .*0 lacks or garbles 'sensor_width'"
    ):
        reader[0]
    (scene / "metadata.json").write_text("{")
    with pytest.raises(LavinditError, match=r"metadata.json is no JSON"):
        reader[0]


def test_movi_without_some_layers(movi):
    for file in [*movi.rglob("depth_*"), *movi.rglob("forward_flow_*"), *movi.rglob("normal_*")]:
        file.unlink()
    reader = MoviReader(movi, "test", 16, frames=5)
    assert reader.provides == {"instance_ids", "class_ids"}
    assert reader[0].known() == {"rgb", *reader.provides}


# --- TFRecords


def varint(value):
    value &= 2**64 - 1
    content = b""
    while value >= 128:
        content, value = content + bytes([value & 127 | 128]), value >> 7
    return content + bytes([value])


def block(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values):
    if isinstance(values[0], bytes):
        return block(1, b"".join(block(1, value) for value in values))
    if isinstance(values[0], float):
        return block(2, block(1, struct.pack(f"<{len(values)}f", *values)))
    return block(3, block(1, b"".join(map(varint, values))))


def example(features):
    entries = (block(1, block(1, name.encode()) + block(2, feature(values))) for name, values in features.items())
    return block(1, b"".join(entries))


def write_records(path, contents):
    path.write_bytes(b"".join(struct.pack("<QI", len(c), 0) + c + b"crc!" for c in contents))


def png(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return buffer.getvalue()


def movi_example(frames=6, **changes):
    rng = np.random.default_rng(0)
    up = np.full((4, 8, 3), (32767, 32767, 65535))
    flow = np.zeros((frames, 4, 8, 2), int)
    flow[..., 0], flow[..., 1] = 65535, 32768
    features = {
        "video": [png(np.full((4, 8, 3), 10 * n, np.uint8)) for n in range(frames)],
        "depth": [png(np.full((4, 8), 65535, np.uint16))] * frames,
        "segmentations": [png(np.tile(np.arange(8, dtype=np.uint8) % 4, (4, 1)))] * frames,
        "normal": [png16(up)] * frames,
        "forward_flow": flow.ravel().tolist(),
        "metadata/depth_range": [1.0, 5.0],
        "metadata/forward_flow_range": [-4.0, 12.0],
        "camera/focal_length": [35.0],
        "camera/sensor_width": [32.0],
        "camera/quaternions": LOOKING_ALONG_Y * frames,
        "instances/category": [16, 0],
        "padding": rng.bytes(3000).split(b"x"),
    }
    return example({name: values for name, values in (features | changes).items() if values is not None})


@pytest.fixture
def shards(tmp_path):
    write_records(tmp_path / "movi_e-train.tfrecord-00000-of-00002", [movi_example(), movi_example()])
    write_records(tmp_path / "movi_e-train.tfrecord-00001-of-00002", [movi_example()])
    write_records(tmp_path / "movi_e-validation.tfrecord-00000-of-00001", [movi_example()])
    return tmp_path


def test_features_of_all_kinds(tmp_path):
    numbers = [0, 1, 127, 128, 300, 16383, 16384, 65535, 2**40, 2**63 - 1, -1]
    content = example({"i": numbers, "f": [0.5, -2.0], "b": [b"", b"one", b"x" * 300]})
    write_records(tmp_path / "r", [b"", content])
    empty, full = list_records(tmp_path / "r")
    assert Example(empty).features == {}
    read = Example(full)
    assert read.integers("i").tolist() == numbers
    assert read.floats("f").tolist() == [0.5, -2.0]
    assert read.blocks("b") == [b"", b"one", b"x" * 300]
    assert "i" in read
    with pytest.raises(LavinditError, match="holds no 'z'; is it this data set"):
        read.floats("z")


def test_published_movi(shards):
    test = pickle.loads(pickle.dumps(open_layout(shards, "test", 16, frames=5)))
    assert test.layout == "movi"
    assert test.windows == [("validation-00000", 0)]
    assert open_layout(shards, "train", 16, frames=5).windows == [("train-00001", 0), ("train-00002", 0)]
    assert "validation shards" in test.protocol
    scene = test.load(0)
    assert scene.rgb[0, :, 0, 0].mul(255).round().tolist() == [0, 10, 20, 30, 40]
    assert scene.instance_ids[0, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert scene.class_ids[0, 0, 0, :4].tolist() == [0, 17, 1, OTHER_CLASS]
    assert scene.flow_px[:, :4].flatten(1).mean(1).tolist() == pytest.approx([4.0, 12.0], abs=1e-3)
    assert scene.flow_px[:, 4].isnan().all()
    x, y = (0.5 - 4) / 8 * 32 / 35, (0.5 - 2) / 8 * 32 / 35
    assert scene.depth_m[0, 4, 0, 0].item() * math.hypot(1, x, y) == pytest.approx(5.0, rel=1e-6)
    torch.testing.assert_close(scene.normals[:, 0, 0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    assert test[0].known() == {"rgb", *test.provides}


def test_published_movi_with_shapes_and_fewer_layers(tmp_path):
    shapes = {"instances/category": None, "instances/shape_label": [2], "depth": None, "normal": None}
    write_records(tmp_path / "movi_a-train.tfrecord-00000-of-00001", [movi_example(**shapes)] * 2)
    reader = open_layout(tmp_path, "test", 16)
    assert reader.provides == {"instance_ids", "class_ids"}
    assert len(reader) == 6
    assert reader.load(0).class_ids.unique().tolist() == [0, CLASSES.index("sphere") + 1, OTHER_CLASS]
    assert "every tenth" in reader.protocol


def test_bad_shards(shards):
    first = shards / "movi_e-train.tfrecord-00000-of-00002"
    whole = first.read_bytes()
    for size in (5, len(whole) - 1):
        first.write_bytes(whole[:size])
        with pytest.raises(LavinditError, match=r"00000-of-00002 ends within record [01]; download it again"):
            MoviReader(shards, "train", 16)
    first.unlink()
    with pytest.raises(LavinditError, match=r"holds movi_e-train.tfrecord-00001-of-00002 and not number 0"):
        MoviReader(shards, "train", 16)
    write_records(first, [b"\xff\xff nothing of the kind"])
    with pytest.raises(LavinditError, match="holds something other than Examples"):
        MoviReader(shards, "train", 16)
