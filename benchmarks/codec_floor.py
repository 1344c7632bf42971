"""What codecs lose on the annotations of public data sets, through 8-bit PNG files.

    python benchmarks/codec_floor.py --root ../shared/data --out benchmarks/results/codec_floor.json

The truth itself is the answer: read, encoded, written as PNG (a clip frame by frame), read again, decoded and scored
with the metric of the task. What is missing to the ideal is the least that any model loses. About five minutes on one
core. The root holds a folder for each data set, in the layout of its reader: nyuv2, flyingchairs, coco, coco_panoptic,
davis (see docs/data.md).
"""

import argparse
import math
import operator
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec_floor_metrics import NarrowPck, UnalignedDepth
from lavindit.codecs import BoxesCodec, FlowCodec, MaskCodec, PaletteCodec
from lavindit.codecs.base import Codec
from lavindit.data.readers import Reader, open_layout
from lavindit.data.readers.coco import PARTS
from lavindit.data.readers.coco_files import read_annotations
from lavindit.errors import LavinditError
from lavindit.metrics import (
    BoxMetric,
    ForegroundMetric,
    InstanceQualityMetric,
    JoinedMetric,
    RowMetric,
    VideoMaskMetric,
)
from lavindit.pictures import load_picture, save_picture
from lavindit.report import file_benchmark
from lavindit.task import Task, get_task
from lavindit.task.segments import number_things
from lavindit.types import Pair, Scene

SEED = 0
STORED = 0
EPISODE = 5
"""Scenes that share a palette: a query and four pairs, as in a test."""
UNITS = {"%": "percent", "px": "px", "m": "m", "deg": "deg"}
THIN_PX = (16, 8)
TARGETS: dict[str, tuple[str, float]] = {
    "depth_estimation/stored/abs_rel": ("<=", 0.005),
    "depth_estimation/stored/delta1": (">=", 0.999),
    "depth_estimation/stored/unaligned_abs_rel": ("<=", 0.005),
    "depth_estimation/stored/unaligned_delta1": (">=", 0.999),
    "normal_estimation/stored/mean_deg": ("<=", 1.0),
    "normal_estimation/256/mean_deg": ("<=", 1.0),
    "optical_flow_128_px/stored/epe_px": ("<=", 0.25),
    "instance_segmentation/stored/pq_percent": (">=", 97.0),
    "instance_segmentation/256/pq_percent": (">=", 97.0),
    "panoptic_segmentation/stored/pq_percent": (">=", 97.0),
    "panoptic_segmentation/256/pq_percent": (">=", 97.0),
    "boxes_of_16_px/stored/miou_percent": (">=", 99.0),
    "boxes_of_16_px/256/miou_percent": (">=", 99.0),
    "object_detection/stored/miou_percent": (">=", 99.0),
    "object_detection/256/miou_percent": (">=", 99.0),
    "pose_one_person/256/pck_0_05_percent": (">=", 97.0),
}
"""Study, size and figure -> what it should be."""

Case = tuple[Codec, Pair]
Figures = dict[str, float | int | None]


def through_png(picture: Tensor, folder: Path) -> Tensor:
    """The picture [3, T, H, W] written as PNG files, one a frame, and read again."""
    file, frames = folder / "frame.png", []
    for frame in picture.split(1, 1):
        save_picture(frame, file)
        frames.append(load_picture(file))
    return torch.cat(frames, 1)


def measure(cases: Iterator[Case], *metrics: RowMetric) -> Figures:
    """Figures of truths that went through their PNG, with standard errors; n counts the pictures or clips."""
    count, counts = 0, Counter()
    with tempfile.TemporaryDirectory() as folder:
        for codec, pair in cases:
            answer = codec.decode(through_png(pair.target, Path(folder)))
            for metric in metrics:
                metric.update(answer, pair.native, pair.valid, count, pair.meta)
            count += 1
            if codec.pixelwise:
                counts["pixels"] += int(pair.valid.sum())
            else:
                counts.update(things=len(pair.native), things_found=int((answer != 0).flatten(1).any(1).sum()))
    figures: Figures = {"n": count, **counts}
    for metric in metrics:
        values, errors = metric.compute(), metric.standard_error()
        for name, unit in zip(metric.names, metric.units, strict=True):
            key = f"{name}_{UNITS[unit]}" if unit in UNITS and not name.endswith(f"_{unit}") else name
            figures[key], figures[f"{key}_standard_error"] = _number(values[name]), _number(errors[name])
    return figures


def _number(value: Tensor) -> float | None:
    return float(value) if math.isfinite(float(value)) else None


def read_scenes(root: Path, layout: str, size: int, frames: int = 1, limit: int = 80) -> list[Scene]:
    """The first scenes of all splits of a data set by name, as stored or as squares of `size` pixels."""
    readers: list[Reader] = []
    for split in ("test", "val", "train"):
        try:
            readers.append(open_layout(root, split, size or 256, layout=layout, frames=frames))
        except LavinditError:
            if split == "train" and not readers:  # a data set of one scene has but one split
                raise
    found: dict[str, Scene] = {}
    for reader in readers:
        for index in range(len(reader)):
            if len(found) < limit:
                scene = reader[index] if size else reader.load(index)
                found.setdefault(scene.scene_id, scene)
    return [found[name] for name in sorted(found)]


def task_cases(task: Task, scenes: Sequence[Scene]) -> Iterator[Case]:
    """What a task makes of the scenes it accepts; each shares its codec with the next four, as in an episode."""
    scenes = [scene for scene in scenes if task.accepts(scene)]
    for place in range(len(scenes)):
        episode = [scenes[(place + step) % len(scenes)] for step in range(min(EPISODE, len(scenes)))]
        codec = task.make_codec(episode, torch.Generator().manual_seed(SEED))
        yield codec, task.make_pair(scenes[place], codec, torch.Generator().manual_seed(SEED))


def map_cases(codec: Codec, natives: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Case]:
    """Natives [N, T, H, W], and where they are known [1, T, H, W], under one codec."""
    for native, valid in natives:
        target = codec.encode(native, valid)
        yield codec, Pair(target, target, native.float(), valid)


def study_task(name: str, root: Path, layout: str, sizes: Sequence[int], *more: Callable[[], RowMetric]) -> dict:
    """A task as it is, with the metrics that it has and more of them."""
    task, result = get_task(name), {}
    for size in sizes:
        scenes = read_scenes(root, layout, size, frames=13 if task.modality == "video" else 1)
        figures = measure(task_cases(task, scenes), task.make_metric(), *(make() for make in more))
        figures["scenes_passed_over"] = len(scenes) - int(figures["n"] or 0)
        if name.endswith("_segmentation"):
            figures |= count_small([scene for scene in scenes if task.accepts(scene)])
        if name == "pose_estimation":
            every = sum(len(scene.keypoints_px) for scene in scenes if scene.keypoints_px is not None)
            figures["people_left_aside"] = every - int(figures["things"] or 0)
        result[_size(size)] = figures
    return result


def count_small(scenes: Sequence[Scene]) -> Figures:
    """How many things are scored, and how many are left aside because they have fewer than 16 px."""
    drawn = [len(set(number_things(scene)[0].unique().tolist()) - {0}) for scene in scenes]
    every = 0
    for scene in scenes:
        assert scene.instance_ids is not None
        known = torch.ones_like(scene.instance_ids, dtype=torch.bool) if scene.labelled is None else scene.labelled
        every += len(set(scene.instance_ids[known].unique().tolist()) - {0})
    return {"things": sum(drawn), "things_below_16_px_left_aside": every - sum(drawn)}


def study_flow(root: Path) -> dict:
    """The flow of first frames alone under one range, 128 px, whatever the size of the picture."""
    result = {}
    for size in (STORED, 256):
        flows = []
        for scene in read_scenes(root, "flyingchairs", size, frames=5):
            assert scene.flow_px is not None
            flows.append((scene.flow_px[:, :1], scene.flow_px[:, :1].isfinite().all(0, keepdim=True)))
        lengths = torch.cat([flow.norm(dim=0)[valid[0]] for flow, valid in flows])
        metric = get_task("optical_flow_estimation").make_metric()
        figures = measure(map_cases(FlowCodec(max_px=128), flows), metric)
        beyond = {"longest_motion_px": float(lengths.max()), "pixels_beyond_128_px": int((lengths > 128).sum())}
        result[_size(size)] = figures | beyond
    return result


def study_boxes(root: Path, thin_px: int) -> dict:
    """The annotated boxes of COCO, all of a picture at once, their edges at fractions of a pixel."""
    result = {}
    for size in (STORED, 256):
        pictures, aside = read_boxes(root, size, thin_px)
        result[_size(size)] = measure(_box_cases(pictures), BoxMetric(by_class=False)) | aside
    return result


def _box_cases(pictures: Sequence[tuple[Tensor, int, int]]) -> Iterator[Case]:
    for boxes, height, width in pictures:
        codec, valid = BoxesCodec(len(boxes)), torch.ones(1, 1, height, width, dtype=torch.bool)
        target = codec.encode(boxes[:, None], valid)
        yield codec, Pair(target, target, boxes[:, None], valid)


def read_boxes(root: Path, size: int, thin_px: int) -> tuple[list[tuple[Tensor, int, int]], dict[str, int]]:
    """Boxes [M, 4] with the height and width of their picture, in the centred square if there is a size.

    Returns:
        The pictures with a box, and how many boxes were left aside, by reason.
    """
    files = [root / "annotations" / f"instances_{part}.json" for part in PARTS]
    data = read_annotations(next((file for file in files if file.is_file()), files[0]))
    aside: Counter[str] = Counter(
        {"crowds": 0, "boxes_outside_the_square": 0, f"boxes_thinner_than_{thin_px}_px_left_aside": 0}
    )
    found = []
    for image in sorted(data["images"], key=lambda image: image["file_name"])[:80]:
        entries = [entry for entry in data["annotations"] if entry["image_id"] == image["id"]]
        aside["crowds"] += sum(entry["iscrowd"] for entry in entries)
        boxes = torch.tensor([entry["bbox"] for entry in entries if not entry["iscrowd"]]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        height, width = image["height"], image["width"]
        if size:
            side = min(height, width)
            corner = torch.tensor([(width - side) // 2, (height - side) // 2]).repeat(2)
            boxes, height, width = (boxes - corner) * (size / side), size, size
        boxes = boxes.clamp_min(0).minimum(torch.tensor([width, height, width, height]))
        shorter = (boxes[:, 2:] - boxes[:, :2]).amin(1)
        aside["boxes_outside_the_square"] += int((shorter <= 0).sum())
        aside[f"boxes_thinner_than_{thin_px}_px_left_aside"] += int(((shorter > 0) & (shorter < thin_px)).sum())
        if bool((shorter >= thin_px).any()):
            found.append((boxes[shorter >= thin_px], height, width))
    return found, dict(aside)


def study_video_masks(root: Path, codec: Codec) -> dict:
    """Clips of 13 frames with one object each: J&F, and the IoU of all pixels of the clip."""
    result = {}
    for size in (STORED, 256):
        clips = []
        for scene in read_scenes(root, "davis", size, frames=13):
            assert scene.instance_ids is not None
            assert scene.labelled is not None
            clips.append(((scene.instance_ids > 0).float(), scene.labelled))
        result[_size(size)] = measure(map_cases(codec, clips), JoinedMetric(VideoMaskMetric(), ForegroundMetric()))
    return result


def _size(size: int) -> str:
    return str(size) if size else "stored"


def run_studies(root: Path) -> dict[str, dict[str, Figures]]:
    """Study -> size -> figures."""
    nyuv2, coco, davis = root / "nyuv2", root / "coco", root / "davis"
    sizes = (STORED, 256, 128, 64)
    studies: dict[str, Callable[[], dict]] = {
        "depth_estimation": lambda: study_task("depth_estimation", nyuv2, "nyuv2", sizes, UnalignedDepth),
        "normal_estimation": lambda: study_task("normal_estimation", nyuv2, "nyuv2", sizes),
        "optical_flow_128_px": lambda: study_flow(root / "flyingchairs"),
        "optical_flow_estimation": lambda: study_task(
            "optical_flow_estimation", root / "flyingchairs", "flyingchairs", sizes[:2]
        ),
        "instance_segmentation": lambda: study_task(
            "instance_segmentation", coco, "coco", sizes, InstanceQualityMetric
        ),
        "panoptic_segmentation": lambda: study_task(
            "panoptic_segmentation", root / "coco_panoptic", "coco_panoptic", sizes
        ),
        "object_detection": lambda: study_task("object_detection", coco, "coco", sizes),
        **{f"boxes_of_{px}_px": lambda px=px: study_boxes(coco, px) for px in THIN_PX},
        "pose_one_person": lambda: study_task("pose_estimation", coco, "coco_person", sizes[1:], NarrowPck),
        "pose_estimation": lambda: study_task("pose_estimation", coco, "coco", sizes[:2], NarrowPck),
        "video_instance_segmentation": lambda: study_task("video_instance_segmentation", davis, "davis", sizes[:2]),
        "video_masks_mask": lambda: study_video_masks(davis, MaskCodec()),
        "video_masks_palette": lambda: study_video_masks(davis, PaletteCodec(16)),
        "edge_detection": lambda: study_task("edge_detection", coco, "coco", sizes[:2]),
    }
    found = {}
    for name, study in studies.items():
        start = time.perf_counter()
        found[name] = study()
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return found


def check_targets(figures: Mapping[str, Mapping[str, Figures]]) -> dict[str, dict[str, Any]]:
    """Each target beside what was measured."""
    compare = {"<=": operator.le, ">=": operator.ge}
    checked = {}
    for path, (sign, limit) in TARGETS.items():
        study, size, figure = path.split("/")
        measured = figures[study][size][figure]
        met = measured is not None and compare[sign](measured, limit)
        checked[path] = {"target": f"{sign} {limit}", "measured": measured, "met": met}
    return checked


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    figures = run_studies(chosen.root)
    fields = {
        "targets": check_targets(figures),
        "figures": figures,
    }
    file_benchmark(chosen.out, SEED, fields)


if __name__ == "__main__":
    main()
