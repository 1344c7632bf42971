"""COCO's people one at a time, as methods see them that first find people and then their joints (top-down)."""

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lavindit.data.readers.base import require_scenes
from lavindit.data.readers.coco import CocoReader
from lavindit.data.readers.coco_annotations import Box
from lavindit.data.readers.coco_files import load_stored
from lavindit.types import Scene

MIN_JOINTS = 10
BOX_SCALE = 1.25


class CocoPersonReader(CocoReader):
    """COCO's people one at a time: each scene is a square around one person, as top-down methods see it.

    The square has the centre of the person's box and 1.25 times its longer side; what lies outside the picture is
    black. Everybody with 10 or more of the 17 joints labelled is a scene, and its `keypoints_px` [1, 17, 1, 3] are this
    person's, whoever else is in the square. The root is `CocoReader`'s, and the pictures are split as there, so in a
    test nobody in a query's picture is shown as context.

    Source of the square: Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018. The least
    number of joints is ours: they score every annotated person.
    """

    layout: ClassVar[str] = "coco_person"
    kinds: ClassVar[tuple[str, ...]] = ("person_keypoints",)

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        assert self._people is not None
        self.protocol += (
            f" One person a scene: those with {MIN_JOINTS} or more labelled joints, in a square {BOX_SCALE} times the "
            "longer side of the annotated box."
        )
        self.scenes = [
            (picture, person)
            for picture in self.pictures
            for person in self._people.people.get(picture.image_id, [])
            if int((person.joints[:, 2] > 0).sum()) >= MIN_JOINTS
        ]
        require_scenes(len(self.scenes), self.root, split)

    @classmethod
    def detect(cls, root: Path) -> bool:
        """False: the folder is `CocoReader`'s too, so this way to read it is asked for by name."""
        return False

    def __len__(self) -> int:
        return len(self.scenes)

    def load(self, index: int) -> Scene:
        """Person `index` in a square of the picture's own pixels."""
        file, person = self.scenes[index]
        picture = load_stored(file.path, file.height, file.width)
        rgb, left, top = cut_square(picture, person.box)
        joints = person.joints.clone()
        joints[joints[:, 2] > 0, :2] -= torch.tensor([left, top]).float()
        return Scene(f"{file.path.stem}-{person.annotation_id}", rgb, keypoints_px=joints[None, :, None])


def cut_square(picture: Tensor, box: Box) -> tuple[Tensor, int, int]:
    """The square around a box: [3, 1, S, S], and the pixel of the picture at its left and upper edge.

    S is 1.25 times the longer side of the box, in whole pixels; what lies outside the picture is black.

    Args:
        picture: [3, 1, H, W].
        box: It lies in the picture and has an area.
    """
    x, y, width, height = box
    side = max(1, round(BOX_SCALE * max(width, height)))
    left, top = round(x + (width - side) / 2), round(y + (height - side) / 2)
    margins = (-left, left + side - picture.shape[3], -top, top + side - picture.shape[2])
    # A negative margin cuts off.
    return F.pad(picture, margins), left, top
