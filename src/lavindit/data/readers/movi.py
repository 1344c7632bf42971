"""Kubric and its MOVi clips: falling objects with every truth that a renderer knows."""

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lavindit.data.readers.base import Reader, Split, choose_of_one, choose_part, cut_windows, require_scenes
from lavindit.data.readers.movi_records import MoviRecords
from lavindit.data.readers.movi_units import classes_of, depth_of, flow_of, normals_of, unscale
from lavindit.data.readers.rasters import (
    decode_colours16,
    load_frames,
    read_bytes,
    read_indices,
    read_raster,
    stack_frames,
)
from lavindit.errors import LavinditError
from lavindit.types import Scene

FILES = {
    "depth_m": "depth_{:05d}.tiff",
    "normals": "normal_{:05d}.png",
    "instance_ids": "segmentation_{:05d}.png",
    "flow_px": "forward_flow_{:05d}.png",
}
PICTURE = "rgba_{:05d}.png"
CITATION = "Greff et al., Kubric: a scalable dataset generator, CVPR 2022"


class _Clips(Protocol):
    """One way in which clips are stored."""

    kinds: frozenset[str]

    @property
    def queries(self) -> str: ...

    def lengths(self, split: Split) -> dict[str, int]: ...

    def load(self, clip: str, first: int, frames: int, kinds: frozenset[str]) -> Scene: ...


class MoviReader(Reader):
    """Clips of MOVi-A to F, or of any of Kubric's workers.

    As published, TFRecords in the root: `movi_e-train.tfrecord-00000-of-01024` and so on; the first shards of a part
    are enough. Tested on is "test", or "validation" where there are no such shards. No TensorFlow is needed.

    As the workers write them (`challenges/movi/movi_*_worker.py`), `root/SCENE/`, or `root/train/SCENE/` and
    `root/test/SCENE/` (or `validation`), with `metadata.json`, `rgba_00000.png` and any of

    - `depth_00000.tiff`: float32, metres to the camera's centre; here metres along the optical axis. 1e10 is nothing,
      here inf;
    - `normal_00000.png`: 16-bit colours, (n + 1) / 2 of the normal in the world; here turned into the camera's axes;
    - `segmentation_00000.png`: the instance, from 1 in the order of `metadata.json`; 0 is background. `class_ids` is
      the place of its category (MOVi-C to F) or shape (A, B) in `movi_units.CLASSES`, from 1;
    - `forward_flow_00000.png`: 16-bit colours, red the motion in rows and green in columns from this frame to the next,
      0 to 65535 from min to max of `data_ranges.json` in pixels; here (dx, dy), and NaN in the last frame.

    TFRecords hold the same layers; depths are 0 to 65535 from min to max as well.
    With `frames` 1 every frame is a scene, without flow; otherwise clips are cut into windows of that many frames.
    """

    layout = "movi"
    clips = True

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        self.store: _Clips = MoviRecords(self.root) if MoviRecords.detect(self.root) else _Folders(self.root)
        lengths = self.store.lengths(self.split)
        require_scenes(len(lengths), self.root, split)
        self.windows = cut_windows(lengths, frames, self.root)
        self.kinds = self.store.kinds - ({"flow_px"} if frames == 1 else set())
        self.provides = self.kinds | ({"class_ids"} if "instance_ids" in self.kinds else set())
        cut = "every frame" if frames == 1 else f"cut into windows of {frames} frames without overlap"
        self.protocol = f"Kubric MOVi: queries are {self.store.queries}, {cut}. {CITATION}."

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether there is a shard, or a folder (of its own or of `train/`) with metadata and a first picture."""
        folder = root / "train" if (root / "train").is_dir() else root
        folders = (path.parent for path in folder.glob("*/metadata.json"))
        return MoviRecords.detect(root) or any((scene / PICTURE.format(0)).is_file() for scene in folders)

    def __len__(self) -> int:
        return len(self.windows)

    def load(self, index: int) -> Scene:
        """Window `index`."""
        clip, first = self.windows[index]
        return self.store.load(clip, first, self.frames, self.kinds)


class _Folders:
    """A folder for each clip, a file for each frame and kind."""

    def __init__(self, root: Path) -> None:
        test = next((p for name in ("test", "validation") if (p := root / name).is_dir()), None)
        self.test = test.name if test and (root / "train").is_dir() else None
        parts = ("train", self.test) if self.test else ("",)
        self.parts = [_scenes(root / part) for part in parts]
        self.scenes = {"/".join(scene.relative_to(root).parts): scene for part in self.parts for scene in part}
        first = next(iter(self.scenes.values()), root)
        self.kinds = frozenset(kind for kind, file in FILES.items() if (first / file.format(0)).is_file())

    @property
    def queries(self) -> str:
        return f"the clips of {self.test}/" if self.test else "every tenth clip"

    def lengths(self, split: Split) -> dict[str, int]:
        scenes = choose_part(self.parts[0], self.parts[1], split) if self.test else choose_of_one(self.parts[0], split)
        wanted = set(scenes)
        return {name: _count_frames(scene) for name, scene in self.scenes.items() if scene in wanted}

    def load(self, clip: str, first: int, frames: int, kinds: frozenset[str]) -> Scene:
        folder, numbers = self.scenes[clip], range(first, first + frames)
        rgb = load_frames([folder / PICTURE.format(n) for n in numbers])
        files = {kind: [folder / FILES[kind].format(n) for n in numbers] for kind in kinds}
        metadata = _read_json(folder / "metadata.json")
        fields: dict[str, Tensor] = {}
        try:
            camera = metadata["camera"]
            if "depth_m" in files:
                read = [torch.from_numpy(read_raster(path, ("F",))[0])[None, None] for path in files["depth_m"]]
                lens = (float(camera["focal_length"]), float(camera["sensor_width"]))
                fields["depth_m"] = depth_of(stack_frames(read, files["depth_m"]), *lens)
            if "normals" in files:
                fields["normals"] = normals_of(
                    _colours16(files["normals"]), camera["quaternions"][first : first + frames]
                )
            if "instance_ids" in files:
                ids = stack_frames([read_indices(path) for path in files["instance_ids"]], files["instance_ids"])
                names = [instance.get("category", instance.get("shape")) for instance in metadata["instances"]]
                fields["instance_ids"], fields["class_ids"] = ids, classes_of(ids, names)
            if "flow_px" in files:
                span = _read_json(folder / "data_ranges.json")["forward_flow"]
                steps = _colours16(files["flow_px"])[:2]
                fields["flow_px"] = flow_of(unscale(steps, float(span["min"]), float(span["max"])))
        except (KeyError, TypeError, ValueError) as error:
            raise LavinditError(f"metadata.json or data_ranges.json of {folder} lacks or garbles {error}") from None
        return Scene(scene_id=f"{clip}/{first:05d}", rgb=rgb, **fields)


def _scenes(folder: Path) -> list[Path]:
    """Folders of clips, numbers in their order."""
    found = [path.parent for path in folder.glob("*/metadata.json")]
    return sorted(found, key=lambda p: (int(p.name) if p.name.isdecimal() else 0, p.name))


def _count_frames(scene: Path) -> int:
    return sum(path.name.startswith("rgba_") and path.suffix == ".png" for path in scene.iterdir())


def _colours16(paths: list[Path]) -> Tensor:
    """16-bit colours of a clip: float32 [3, T, H, W] in 0..65535."""
    return stack_frames([decode_colours16(read_bytes(path), path) for path in paths], paths)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise LavinditError(f"{path} is no JSON ({error}); replace it") from None
