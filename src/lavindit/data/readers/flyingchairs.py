"""FlyingChairs: pairs of pictures with the exact motion between them."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lavindit.data.readers.base import Reader, choose_of_one, choose_part, require_scenes
from lavindit.data.readers.rasters import load_frames
from lavindit.errors import LavinditError
from lavindit.types import Scene

MAGIC = 202021.25
# Middlebury's mark of an unknown motion: any component longer than this.
UNKNOWN_PX = 1e9
SPLIT_FILE = "FlyingChairs_train_val.txt"
FLOW = re.compile(r"(?P<number>\d+)(?P<end>_flow|-gt)\.flo")
PICTURES = {"_flow": ("_img1.ppm", "_img2.ppm"), "-gt": ("-img0.ppm", "-img1.ppm")}
CITATION = "Dosovitskiy et al., FlowNet: Learning Optical Flow with Convolutional Networks, ICCV 2015"


class _Pair(NamedTuple):
    name: str
    first: Path
    second: Path
    flow: Path


class FlyingChairsReader(Reader):
    """Pairs of 512x384 pictures and the flow of the first, in pixels.

    Layouts: as published (`NNNNN_img1.ppm`, `NNNNN_img2.ppm`, `NNNNN_flow.flo` in the root or in `data/`, with
    `FlyingChairs_train_val.txt` in the root or beside the files: line i is 1 where pair i is for training, 2 where it
    is for validation), and that of FlowNet 2's code (`NNNNNNN-img0.ppm`, `NNNNNNN-img1.ppm`, `NNNNNNN-gt.flo`).

    There are two frames only. A scene of more is the first frame and then the second, repeated; `flow_px` is known in
    its first frame and NaN in all others, so nothing else is scored. A scene of one frame is the first picture, and
    has no flow.
    """

    layout = "flyingchairs"
    clips = True

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        self.provides = frozenset({"flow_px"} if frames > 1 else ())
        pairs = _find_pairs(self.root)
        marks = next((f for f in (self.root / SPLIT_FILE, pairs[0].flow.parent / SPLIT_FILE) if f.is_file()), None)
        if marks is None:
            self.pairs = choose_of_one(pairs, self.split)
            queries = f"every tenth pair, for want of {SPLIT_FILE}"
        else:
            kinds = _read_split(marks, len(pairs))
            train, test = ([p for p, k in zip(pairs, kinds, strict=True) if k == kind] for kind in (1, 2))
            self.pairs = choose_part(train, test, self.split)
            queries = "the validation pairs of the published split"
        require_scenes(len(self.pairs), self.root, split)
        self.protocol = (
            f"FlyingChairs: queries are {queries}. The first frame's flow is scored; the second frame is repeated to "
            f"fill the clip. {CITATION}."
        )

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether there is a `NNNNN_flow.flo` or `NNNNNNN-gt.flo`."""
        return any(FLOW.fullmatch(path.name) for path in _flow_files(root))

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, index: int) -> Scene:
        """Pair `index` as a scene of `frames` frames."""
        pair = self.pairs[index]
        files = [pair.first, *[pair.second] * (self.frames > 1)]
        rgb = load_frames(files)
        if self.frames == 1:
            return Scene(scene_id=pair.name, rgb=rgb)
        rgb = torch.cat([rgb, rgb[:, 1:].expand(-1, self.frames - 2, -1, -1)], dim=1)
        known = read_flow(pair.flow)
        flow_px = known.new_full((2, self.frames, *known.shape[1:]), torch.nan)
        flow_px[:, 0] = known
        return Scene(scene_id=pair.name, rgb=rgb, flow_px=flow_px)


def read_flow(path: Path) -> Tensor:
    """The motion in a `.flo` file: float32 [2, H, W], (dx, dy) in pixels, dx right and dy down; NaN where unknown.

    The format is Middlebury's (Baker et al., IJCV 2011), little-endian: the float 202021.25, width and height as int32,
    then dx and dy of each pixel by rows.

    Raises:
        LavinditError: The file is missing, is of another format, or is longer or shorter than its size says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LavinditError(f"cannot read {path} ({error.strerror}); the data set is not complete") from None
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != np.float32(MAGIC):
        raise LavinditError(f"{path} is no .flo file: it does not begin with {MAGIC}; replace it")
    width, height = (int(side) for side in np.frombuffer(content, "<i4", 2, offset=4))
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise LavinditError(
            f"{path} has {len(content)} bytes, {width}x{height} motions take {12 + 8 * width * height}; replace it"
        )
    motion = np.frombuffer(content, "<f4", offset=12).astype(np.float32).reshape(height, width, 2)
    flow_px = torch.from_numpy(motion).permute(2, 0, 1)
    return torch.where((flow_px.abs() > UNKNOWN_PX).any(0), torch.nan, flow_px).contiguous()


def _flow_files(root: Path) -> list[Path]:
    folder = root / "data" if (root / "data").is_dir() else root
    return sorted(folder.glob("*.flo"))


def _find_pairs(root: Path) -> list[_Pair]:
    """All pairs by number; a flow without its pictures is an error."""
    pairs = []
    for path in _flow_files(root):
        found = FLOW.fullmatch(path.name)
        if found:
            first, second = (path.with_name(found["number"] + end) for end in PICTURES[found["end"]])
            pairs.append(_Pair(found["number"], first, second, path))
    if not pairs:
        raise LavinditError(f"{root} holds no NNNNN_flow.flo and no NNNNNNN-gt.flo; is it FlyingChairs?")
    there = set(pairs[0].flow.parent.iterdir())
    for pair in pairs:
        for picture in (pair.first, pair.second):
            if picture not in there:
                raise LavinditError(f"{pair.flow} has no {picture.name} beside it; add it or remove the flow")
    return pairs


def _read_split(path: Path, pairs: int) -> list[int]:
    """Kind of each pair, 1 or 2."""
    marks = path.read_text().split()
    wrong = next((mark for mark in marks if mark not in ("1", "2")), None)
    if wrong is not None:
        raise LavinditError(f"{path} has a line {wrong!r}; each is 1 (train) or 2 (validation)")
    if len(marks) != pairs:
        raise LavinditError(f"{path} has {len(marks)} lines, there are {pairs} pairs; download both again")
    return [int(mark) for mark in marks]
