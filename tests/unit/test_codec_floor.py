"""The benchmark of what codecs lose: its own metrics, its reading of boxes, and the record that it filed."""

import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lavindit.codecs import DepthCodec, KeypointsCodec, PaletteCodec
from lavindit.errors import LavinditError
from lavindit.metrics import DepthMetric, InstanceMetric, InstanceQualityMetric, KeypointMetric
from lavindit.task import get_task
from lavindit.types import Pair, Scene

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "results" / "codec_floor.json"


@pytest.fixture
def floor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("codec_floor")


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("codec_floor_metrics")


def everywhere(native: Tensor) -> Tensor:
    return torch.ones(1, *native.shape[1:], dtype=torch.bool)


def test_png_files_round_every_frame_to_8_bits(floor, tmp_path: Path) -> None:
    clip = torch.rand(3, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    read = floor.through_png(clip, tmp_path)
    assert read.shape == clip.shape
    torch.testing.assert_close(read, (clip * 255).round() / 255)
    assert not torch.equal(read, clip)


def test_measure_scores_what_came_out_of_the_file(floor, metrics) -> None:
    depth_m = torch.linspace(1, 10, 64).reshape(1, 1, 8, 8)
    valid = everywhere(depth_m)
    valid[:, :, 0] = False
    cases = list(floor.map_cases(DepthCodec(), [(depth_m, valid), (depth_m / 2, valid)]))
    figures = floor.measure(iter(cases), DepthMetric(), metrics.UnalignedDepth())
    assert figures["n"] == 2
    assert figures["pixels"] == 2 * 56
    # Half a level of gray at the most, and a quarter of one on average.
    level = math.log(60) / 255
    assert level / 8 < figures["unaligned_abs_rel"] < level / 2
    assert figures["unaligned_delta1"] == figures["delta1"] == 1
    assert figures["abs_rel"] == pytest.approx(figures["unaligned_abs_rel"], rel=0.3)
    assert figures["rmse_m_standard_error"] > 0
    assert floor.measure(iter(cases[:1]), DepthMetric())["rmse_m_standard_error"] is None


def test_a_codec_that_merges_colours_is_found_out(floor, metrics) -> None:
    ids = torch.arange(1, 17).reshape(1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3).float()
    good = PaletteCodec(16)
    bad = PaletteCodec(16)
    bad.colours = bad.colours.clone()
    bad.colours[3] = bad.colours[2]
    figures = {}
    for name, codec in (("good", good), ("bad", bad)):
        cases = floor.map_cases(codec, [(ids, everywhere(ids))])
        figures[name] = floor.measure(cases, InstanceQualityMetric(), InstanceMetric(by_class=False))
    assert figures["good"]["pq_percent"] == figures["good"]["ap_percent"] == figures["good"]["mbo_percent"] == 100
    # Of 16 true things 14 are found; the merged one overlaps its two by half, which is no match.
    assert figures["bad"]["pq_percent"] == pytest.approx(100 * 14 / (14 + 0.5 + 1))
    assert figures["bad"]["mbo_percent"] == pytest.approx(100 * (14 + 2 * 0.5) / 16)


def test_metric_depth_is_not_aligned(metrics) -> None:
    truth = torch.tensor([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 2, 2)
    metric = metrics.UnalignedDepth()
    metric.update(truth * 1.3, truth, everywhere(truth), 0)
    figures = metric.compute()
    assert float(figures["unaligned_abs_rel"]) == pytest.approx(0.3)
    assert float(figures["unaligned_delta1"]) == 0
    assert float(figures["unaligned_rmse"]) == pytest.approx(0.3 * math.sqrt(85 / 4))


def test_things_that_spill_into_the_background_lose_quality(metrics) -> None:
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    answer = torch.zeros_like(truth)
    answer[..., :6] = 1
    metric = InstanceQualityMetric()
    metric.update(answer, truth, everywhere(truth), 0)
    assert float(metric.compute()["pq"]) == pytest.approx(100 * 4 / 6)
    metric.reset()
    metric.update(torch.zeros_like(truth), truth, everywhere(truth), 0)
    assert float(metric.compute()["pq"]) == 0


def test_narrow_pck_counts_half_as_far_as_the_tasks_own(metrics) -> None:
    joints = torch.zeros(1, 17, 1, 3)
    joints[0, :, 0, 0] = torch.linspace(0, 100, 17)
    joints[..., 2] = 2
    joints[0, 16, 0, 2] = 1
    joints[0, 5, 0, 2] = 0
    answer = joints.clone()
    answer[0, 0, 0, 1] = 6  # within a tenth of the longer side, 100 px, and not within 0.05
    answer[0, 1] = 0  # not answered
    valid = torch.ones(1, 1, 8, 101, dtype=torch.bool)
    for metric, share in ((metrics.NarrowPck(), 14 / 16), (KeypointMetric(), 15 / 16)):
        metric.update(answer, joints, valid, 0)
        assert float(list(metric.compute().values())[-1]) == pytest.approx(100 * share)


def test_people_are_paired_whatever_their_order(floor, metrics) -> None:
    people = KeypointsCodec().random_native(1, 64, 64, torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    people[1, ..., 0] += 64
    codec = KeypointsCodec(people=2)
    valid = torch.ones(1, 1, 64, 128, dtype=torch.bool)
    target = codec.encode(people, valid)
    cases = [(codec, Pair(target, target, people.flip(0), valid))]
    figures = floor.measure(iter(cases), metrics.NarrowPck())
    assert figures["things"] == figures["things_found"] == 2
    assert figures["pck_0_05_percent"] == 100


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A picture of 200x100 px with four boxes and a crowd."""
    boxes = [[60.5, 10.25, 40, 50], [0, 0, 20, 20], [70, 70, 9, 30], [130, 50, 60, 30], [0, 0, 200, 100]]
    entries = [
        {"id": n, "image_id": 1, "bbox": box, "iscrowd": int(n == 4), "category_id": 1} for n, box in enumerate(boxes)
    ]
    file = tmp_path / "annotations" / "instances_train2017.json"
    file.parent.mkdir()
    images = [{"id": 1, "file_name": "1.jpg", "height": 100, "width": 200}]
    file.write_text(json.dumps({"images": images, "annotations": entries, "categories": [{"id": 1}]}))
    return tmp_path


def test_boxes_as_stored(floor, coco: Path) -> None:
    [(boxes, height, width)], aside = floor.read_boxes(coco, floor.STORED, 10)
    assert (height, width) == (100, 200)
    assert boxes.tolist() == [[60.5, 10.25, 100.5, 60.25], [0, 0, 20, 20], [130, 50, 190, 80]]
    assert aside == {"crowds": 1, "boxes_outside_the_square": 0, "boxes_thinner_than_10_px_left_aside": 1}


def test_boxes_in_the_centred_square(floor, coco: Path) -> None:
    [(boxes, height, width)], aside = floor.read_boxes(coco, 200, 10)
    assert (height, width) == (200, 200)
    assert boxes.tolist() == [[21, 20.5, 101, 120.5], [40, 140, 58, 200], [160, 100, 200, 160]]
    assert aside == {"crowds": 1, "boxes_outside_the_square": 1, "boxes_thinner_than_10_px_left_aside": 0}
    [case] = floor._box_cases([(boxes, height, width)])
    assert case[0].count == 3
    assert float((case[0].decode(case[1].target)[:, 0] - boxes).abs().max()) < 0.1


def test_no_annotations_is_a_mistake_that_is_told(floor, tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match="instances_train2017"):
        floor.read_boxes(tmp_path, 0, 8)
    with pytest.raises(LavinditError, match="no such folder"):
        floor.read_scenes(tmp_path / "nyuv2", "nyuv2", 0)


def test_scenes_of_all_splits_once_and_in_order(floor, tmp_path: Path) -> None:
    for n in range(3):
        Image.fromarray(np.full((12, 16, 3), 80 * n, np.uint8)).save(tmp_path / f"{n}.png")
        Image.fromarray(np.full((12, 16), 5000 * (n + 1), np.uint16)).save(tmp_path / f"depth_gt_{n}.png")
    stored = floor.read_scenes(tmp_path, "nyuv2", floor.STORED)
    assert [scene.scene_id for scene in stored] == ["0", "1", "2"]
    assert stored[2].depth_m.shape == (1, 1, 12, 16)
    assert (stored[2].depth_m == 3).all()
    assert floor.read_scenes(tmp_path, "nyuv2", 8)[0].rgb.shape == (3, 1, 8, 8)
    assert len(floor.read_scenes(tmp_path, "nyuv2", 8, limit=2)) == 2


def test_small_things_are_left_aside_and_counted(floor) -> None:
    ids = torch.zeros(1, 1, 16, 16, dtype=torch.long)
    ids[..., :5, :5], ids[..., 10:13, 10:13], ids[..., 8:, :4] = 1, 2, 3
    labelled = torch.ones_like(ids, dtype=torch.bool)
    labelled[..., 8:, :4] = False
    scene = Scene("a", torch.zeros(3, 1, 16, 16), instance_ids=ids, labelled=labelled)
    assert floor.count_small([scene]) == {"things": 1, "things_below_16_px_left_aside": 1}


def test_an_episode_shares_its_palette(floor) -> None:
    task, scenes = get_task("instance_segmentation"), []
    for things in (1, 4, 2):
        ids = torch.zeros(1, 1, 8, 32, dtype=torch.long)
        for n in range(things):
            ids[..., 8 * n : 8 * n + 4] = n + 1
        scenes.append(Scene(str(things), torch.zeros(3, 1, 8, 32), instance_ids=ids))
    cases = list(floor.task_cases(task, scenes))
    assert [codec.count for codec, _ in cases] == [4, 4, 4]
    assert [int(pair.native.max()) for _, pair in cases] == [1, 4, 2]


def test_targets_are_told_met_or_missed(floor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "TARGETS", {"a/stored/x": ("<=", 1.0), "a/64/y": (">=", 2.0), "a/64/z": (">=", 2.0)})
    checked = floor.check_targets({"a": {"stored": {"x": 1.0}, "64": {"y": 1.9, "z": None}}})
    assert [entry["met"] for entry in checked.values()] == [True, False, False]
    assert checked["a/64/y"] == {"target": ">= 2.0", "measured": 1.9, "met": False}


def test_the_record_holds_every_target_and_what_the_page_says(floor) -> None:
    record = json.loads(RECORD.read_text())
    assert record["targets"] == floor.check_targets(record["figures"])
    assert not re.search(r"(^|\s)/", record["command"])
    rows = re.findall(
        r"^\| `(\S+)/(\S+)/(\S+)` \| ([\d.]+) \|", (ROOT / "docs" / "codecs.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 10
    for study, size, figure, shown in rows:
        digits = len(shown.partition(".")[2])
        assert f"{record['figures'][study][size][figure]:.{digits}f}" == shown, (study, size, figure)
