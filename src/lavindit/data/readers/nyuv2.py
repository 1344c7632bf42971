"""NYU Depth V2: indoor pictures with depth, normals and classes."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

import numpy as np
import scipy.io
import torch
from torch import Tensor

from lavindit.data.readers.base import Reader, Split, choose_of_one, choose_part, require_scenes
from lavindit.data.readers.rasters import SIXTEEN_BIT, read_indices, read_raster
from lavindit.errors import LavinditError
from lavindit.pictures import load_picture
from lavindit.types import Scene

LABELLED_FILE = "nyu_depth_v2_labeled.mat"
SPLITS_FILE = "splits.mat"
# Steps of the PNG files in one metre.
STEPS_PER_M = 5000
# No class and no normal was measured here.
NO_CLASS = 255
NO_NORMAL = 127
# Rows and columns of a 640x480 frame that are scored.
EIGEN_ROWS, EIGEN_COLUMNS = slice(45, 471), slice(41, 601)
KINDS = {"images": "f4", "depths": "f4", "labels": "i8", "instances": "i8"}
STUFF = frozenset({"wall", "floor", "ceiling"})
CITATION = "Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012"
EIGEN = (
    "Depth is scored in rows 45 to 470 and columns 41 to 600 of 480x640 (Eigen et al., Depth Map Prediction from a "
    "Single Image using a Multi-Scale Deep Network, NeurIPS 2014), as far as the square shows them"
)


class _Files(Protocol):
    """One way in which the data set is published."""

    provides: frozenset[str]
    queries: str

    def frames(self, split: Split) -> list[str]: ...

    def load(self, frame: str) -> Scene: ...


class NYUv2Reader(Reader):
    """Frames of 640x480 pixels from a Kinect, in either of two layouts.

    PNG files in one folder, as DrSleep/multi-task-refinenet has them: `NNNNNN.png` and any of

    - `depth_gt_NNNNNN.png`: 16 bits, metres along the optical axis = value / 5000, 0 where nothing was measured;
    - `norm_gt_NNNNNN.png`: unit normals cut to 8 bits, component = (value + 0.5) / 127.5 - 1. Red is x (right), green
      points away from the camera, blue is up; here they become x right, y up, z towards the camera. (127, 127, 127) is
      no normal. With these axes the normals of the depth map differ by 13 degrees on average, with any other by 40 or
      more (frame 433);
    - `segm_gt_NNNNNN.png`: 0 to 39 are classes 1 to 40 of NYU-40 (1 wall, 2 floor, ...), 255 is unlabelled.

    The official `nyu_depth_v2_labeled.mat` with `splits.mat` (795 frames to train, 654 to test): the pictures, their
    in-painted depths in metres, 894 classes and instances. It is an HDF5 file, which needs `pip install h5py`. Walls,
    floors and ceilings are stuff. It holds no normals.

    `depth_m` is NaN where it is not known, and in the test split outside Eigen's crop.
    """

    layout = "nyuv2"

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        self.files: _Files = _LabelledFile(self.root) if (self.root / LABELLED_FILE).is_file() else _Pngs(self.root)
        self.provides = self.files.provides
        self.names = self.files.frames(self.split)
        require_scenes(len(self.names), self.root, split)
        self.protocol = f"NYUv2: queries are {self.files.queries}. {EIGEN}. {CITATION}."

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether there is the labelled file, or a depth map beside a picture."""
        if (root / LABELLED_FILE).is_file():
            return True
        return any(p.with_name(p.name.removeprefix("depth_gt_")).is_file() for p in root.glob("depth_gt_*.png"))

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Scene:
        """Frame `index`."""
        scene = self.files.load(self.names[index])
        if self.split == "test" and scene.depth_m is not None and scene.depth_m.shape[2:] == (480, 640):
            outside = torch.ones_like(scene.depth_m, dtype=torch.bool)
            outside[:, :, EIGEN_ROWS, EIGEN_COLUMNS] = False
            scene.depth_m[outside] = torch.nan
        return scene


class _Pngs:
    """One PNG file for each kind of truth."""

    prefixes: ClassVar[dict[str, str]] = {"depth_m": "depth_gt_", "normals": "norm_gt_", "class_ids": "segm_gt_"}
    queries = "every tenth frame of the folder, whose names do not tell the official test frames"

    def __init__(self, root: Path) -> None:
        self.root = root
        there = {path.name for path in root.glob("*.png")}
        self.names = sorted(name for name in there if re.fullmatch(r"\d+\.png", name))
        self.kinds = [kind for kind, prefix in self.prefixes.items() if any(n.startswith(prefix) for n in there)]
        for name in self.names:
            for kind in self.kinds:
                partner = self.prefixes[kind] + name
                if partner not in there:
                    raise LavinditError(f"{root / name} has no {partner} beside it, others do; add it")
        self.provides = frozenset(self.kinds) | ({"labelled"} if "class_ids" in self.kinds else set())

    def frames(self, split: Split) -> list[str]:
        return choose_of_one(self.names, split)

    def load(self, frame: str) -> Scene:
        fields: dict[str, Tensor] = {}
        if "depth_m" in self.kinds:
            fields["depth_m"] = read_depth_png(self.root / f"depth_gt_{frame}")
        if "normals" in self.kinds:
            fields["normals"] = read_normals_png(self.root / f"norm_gt_{frame}")
        if "class_ids" in self.kinds:
            values = read_indices(self.root / f"segm_gt_{frame}")
            fields["labelled"] = values != NO_CLASS
            fields["class_ids"] = torch.where(fields["labelled"], values + 1, 0)
        return Scene(scene_id=Path(frame).stem, rgb=load_picture(self.root / frame), **fields)


def read_depth_png(path: Path) -> Tensor:
    """Depth in metres [1, 1, H, W] from 16 bits, 1/5000 m each; NaN where the file has 0."""
    steps = torch.from_numpy(read_raster(path, SIXTEEN_BIT)[0].astype(np.float32))[None, None]
    return torch.where(steps > 0, steps / STEPS_PER_M, torch.nan)


def read_normals_png(path: Path) -> Tensor:
    """Unit normals [3, 1, H, W], x right, y up, z towards the camera; 0 where the file has mid-gray."""
    stored = torch.from_numpy(read_raster(path, ("RGB",))[0]).permute(2, 0, 1)[:, None]
    right, away, up = (stored.float() + 0.5) / 127.5 - 1
    vectors = torch.stack([right, up, -away])
    length = vectors.norm(dim=0, keepdim=True)
    none = (stored == NO_NORMAL).all(0) | (length[0] == 0)
    return torch.where(none, 0.0, vectors / length.clamp_min(1e-6))


class _LabelledFile:
    """The official file. It is opened for every frame: an open HDF5 file does not survive a fork."""

    provides = frozenset({"depth_m", "instance_ids", "class_ids", "labelled"})

    def __init__(self, root: Path) -> None:
        self.path = root / LABELLED_FILE
        self.splits = _read_splits(root / SPLITS_FILE)
        with self._open() as file:
            missing = [k for k in (*KINDS, "names") if k not in file]
            if missing:
                raise LavinditError(f"{self.path} holds no {', '.join(missing)}; download it again")
            count = file["images"].shape[0]
            self.stuff = [k + 1 for k, name in enumerate(_read_names(file)) if name in STUFF]
        last = max(max(numbers, default=0) for numbers in self.splits.values())
        if last > count:
            raise LavinditError(f"{root / SPLITS_FILE} names frame {last} of {count}; download both files again")
        self.queries = f"the {len(self.splits['testNdxs'])} official test frames"

    def frames(self, split: Split) -> list[str]:
        return [f"{n:04d}" for n in choose_part(self.splits["trainNdxs"], self.splits["testNdxs"], split)]

    def load(self, frame: str) -> Scene:
        place = int(frame) - 1
        with self._open() as file:
            read = {kind: np.asarray(file[kind][place]) for kind in KINDS}
        # MATLAB counts axes from the other end: images are [colour, x, y], maps [x, y].
        image, depth_m, class_ids, numbers = (
            torch.from_numpy(read[kind].astype(dtype)).reshape(-1, 1, *read[kind].shape[-2:]).transpose(2, 3)
            for kind, dtype in KINDS.items()
        )
        things = (numbers > 0) & (class_ids > 0)
        for stuff in self.stuff:
            things &= class_ids != stuff
        # The file counts the instances of each class anew.
        pairs = class_ids * 256 + numbers
        instance_ids = torch.zeros_like(pairs)
        instance_ids[things] = torch.unique(pairs[things], return_inverse=True)[1] + 1
        return Scene(
            scene_id=frame,
            rgb=image / 255,
            depth_m=torch.where(depth_m > 0, depth_m, torch.nan),
            instance_ids=instance_ids,
            class_ids=class_ids,
            labelled=class_ids > 0,
        )

    def _open(self) -> Any:
        # The module is not kept: a reader has to travel to the processes of a loader.
        h5py = _import_h5py(self.path)
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            raise LavinditError(f"cannot read {self.path} ({error}); download it again") from None


def _import_h5py(path: Path) -> ModuleType:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise LavinditError(f"{path} is an HDF5 file; to read it, `pip install h5py`") from None


def _read_splits(path: Path) -> dict[str, list[int]]:
    """Numbers of the frames, from 1, under trainNdxs and testNdxs."""
    if not path.is_file():
        raise LavinditError(f"no such file: {path}; it is published beside {LABELLED_FILE}")
    try:
        content = scipy.io.loadmat(path)
        return {key: [int(n) for n in content[key].ravel()] for key in ("trainNdxs", "testNdxs")}
    except (scipy.io.matlab.MatReadError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise LavinditError(f"{path} has no trainNdxs and testNdxs ({error}); download it again") from None


def _read_names(file: Any) -> list[str]:
    """Names of the classes 1, 2, ...: a list of references to arrays of characters."""
    return ["".join(map(chr, np.asarray(file[reference]).ravel())) for reference in np.asarray(file["names"]).ravel()]
