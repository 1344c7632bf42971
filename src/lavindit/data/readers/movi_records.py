"""MOVi as it is published: TFRecords of TensorFlow Datasets."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lavindit.data.readers.base import Split, choose_of_one, choose_part
from lavindit.data.readers.movi_units import CATEGORIES, SHAPES, classes_of, depth_of, flow_of, normals_of, unscale
from lavindit.data.readers.rasters import INDICES, SIXTEEN_BIT, decode_colours16, decode_raster
from lavindit.data.readers.tfrecords import Example, Record, list_records
from lavindit.errors import LavinditError
from lavindit.types import Scene

SHARD = re.compile(r"movi_\w+-(?P<part>train|validation|test)\.tfrecord-(?P<number>\d+)-of-(?P<shards>\d+)")
LAYERS = {"depth_m": "depth", "normals": "normal", "instance_ids": "segmentations", "flow_px": "forward_flow"}


class MoviRecords:
    """The shards in a folder, `movi_e-train.tfrecord-00000-of-01024` and so on.

    Raises:
        LavinditError: A shard is missing or cut short.
    """

    def __init__(self, root: Path) -> None:
        parts: dict[str, list[str]] = {}
        self.records: dict[str, Record] = {}
        for part, shards in _find_shards(root).items():
            records = [record for shard in shards for record in list_records(shard)]
            named = {f"{part}-{number:05d}": record for number, record in enumerate(records)}
            parts[part] = list(named)
            self.records |= named
        self.train, self.others = parts.pop("train", None), parts
        self.test = "test" if "test" in parts else "validation"
        first = Example(next(iter(self.records.values())))
        self.frames = len(first.blocks("video"))
        self.kinds = frozenset(kind for kind, layer in LAYERS.items() if layer in first)

    @staticmethod
    def detect(root: Path) -> bool:
        """Whether there is a shard."""
        return any(SHARD.fullmatch(path.name) for path in root.glob("movi_*"))

    def lengths(self, split: Split) -> dict[str, int]:
        """Frames of each clip of a split."""
        if self.train is None or not self.others:
            names = choose_of_one(list(self.records), split)
        else:
            names = choose_part(self.train, self.others[self.test], split)
        return dict.fromkeys(names, self.frames)

    @property
    def queries(self) -> str:
        """Which clips are tested on."""
        return f"the clips of its {self.test} shards" if self.train and self.others else "every tenth clip"

    def load(self, clip: str, first: int, frames: int, kinds: frozenset[str]) -> Scene:
        """A window of a clip."""
        example = Example(self.records[clip])
        window, name = slice(first, first + frames), f"clip {clip} in {self.records[clip].path}"
        layers = ("video", *(LAYERS[kind] for kind in kinds if kind != "flow_px"))
        images = {layer: example.blocks(layer)[window] for layer in layers}
        rgb = _stack([decode_raster(image, name, ("RGB",))[0] for image in images["video"]], "f4") / 255
        fields: dict[str, Tensor] = {}
        if "depth_m" in kinds:
            steps = _stack([decode_raster(image, name, SIXTEEN_BIT)[0] for image in images["depth"]], "f4")
            distance_m = unscale(steps, *_pair(example, "metadata/depth_range"))
            focal, sensor = (float(example.floats(f"camera/{key}")[0]) for key in ("focal_length", "sensor_width"))
            fields["depth_m"] = depth_of(distance_m, focal, sensor)
        if "normals" in kinds:
            quaternions = example.floats("camera/quaternions").reshape(-1, 4)[window].tolist()
            stored = torch.cat([decode_colours16(image, name) for image in images["normal"]], dim=1)
            fields["normals"] = normals_of(stored, quaternions)
        if "instance_ids" in kinds:
            ids = _stack([decode_raster(image, name, INDICES)[0] for image in images["segmentations"]], "i8")
            fields["instance_ids"], fields["class_ids"] = ids, classes_of(ids, _names(example))
        if "flow_px" in kinds:
            height, width = rgb.shape[2:]
            stored = example.integers("forward_flow").reshape(-1, height, width, 2)[window]
            steps = torch.from_numpy(stored.astype(np.float32)).permute(3, 0, 1, 2)
            fields["flow_px"] = flow_of(unscale(steps, *_pair(example, "metadata/forward_flow_range")))
        return Scene(scene_id=f"{clip}/{first:05d}", rgb=rgb, **fields)


def _find_shards(root: Path) -> dict[str, list[Path]]:
    """Shards by part, all of them."""
    shards: dict[str, list[Path]] = {}
    for path in sorted(root.glob("movi_*")):
        found = SHARD.fullmatch(path.name)
        if found:
            shards.setdefault(found["part"], []).append(path)
            wanted, number = len(shards[found["part"]]) - 1, int(found["number"])
            if number != wanted:
                raise LavinditError(f"{root} holds {path.name} and not number {wanted}; download the shards in order")
    return shards


def _stack(images: list[np.ndarray], dtype: str) -> Tensor:
    """Images [H, W] or [H, W, N] as one field [N, T, H, W]."""
    stacked = torch.from_numpy(np.stack(images).astype(dtype))
    return stacked[None] if stacked.ndim == 3 else stacked.permute(3, 0, 1, 2)


def _pair(example: Example, name: str) -> tuple[float, float]:
    low, high = example.floats(name).tolist()
    return low, high


def _names(example: Example) -> list[str | None]:
    """Category, or else shape, of each instance."""
    for feature, known in (("instances/category", CATEGORIES), ("instances/shape_label", SHAPES)):
        if feature in example:
            return [known[k] if 0 <= k < len(known) else None for k in example.integers(feature).tolist()]
    return []
