"""COCO 2017: objects with their outlines, people with their joints.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; format: https://cocodataset.org/#format-data.
"""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lavindit.data.readers.base import Reader
from lavindit.data.readers.coco_annotations import (
    JOINTS,
    ObjectFile,
    PersonFile,
    draw_objects,
    read_objects,
    read_people,
)
from lavindit.data.readers.coco_files import PictureFile, choose_pictures, describe_split, load_stored
from lavindit.errors import LavinditError
from lavindit.types import Scene

PARTS = ("train2017", "val2017")
CITATION = 'Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014'


class CocoReader(Reader):
    """COCO 2017 in its published layout.

    The root holds `annotations/instances_{part}.json`, `annotations/person_keypoints_{part}.json` or both, and the
    pictures in `{part}/`; the parts are train2017 and val2017. With one part only, every tenth picture is tested on.

    Scenes have, of `instances`, `instance_ids` (1, 2, ... in the order of the file; of two objects the smaller one
    covers the larger), `class_ids` (COCO's category ids; 0 elsewhere) and `labelled` (False in a crowd, except on
    objects that are outlined themselves); of `person_keypoints`, `keypoints_px` [M, 17, 1, 3] of the people with a
    labelled joint, visibility as in COCO (0 not labelled, 1 hidden, 2 visible).

    Attributes:
        skipped: Annotations, or polygons of them, that were left out, by reason. Objects too thin to cover the centre
            of a pixel have no pixels, and are not counted.

    Raises:
        LavinditError: An annotation file is broken or does not fit the pictures, or the split has none.
    """

    layout: ClassVar[str] = "coco"
    kinds: ClassVar[tuple[str, ...]] = ("instances", "person_keypoints")

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        parts = [
            part
            for part in PARTS
            if (self.root / part).is_dir() and any(_file(self.root, kind, part).is_file() for kind in self.kinds)
        ]
        if not parts:
            wanted = " or ".join(str(_file(Path(), kind, PARTS[1])) for kind in self.kinds)
            raise LavinditError(
                f"{self.root} ({self.layout}) needs {wanted} and the pictures in {PARTS[1]}/, or the same of {PARTS[0]}"
            )
        self.part, self.pictures = choose_pictures(parts, self._pictures_of, self.split, self.root)
        self.protocol = f"COCO 2017; {describe_split(parts)}. {CITATION}."
        self.provides = frozenset()
        self.skipped: Counter[str] = Counter()
        self._objects, self._people = self._read(self.part)
        if self._objects is not None:
            self.provides |= {"instance_ids", "class_ids", "labelled"}
            self.skipped += self._objects.skipped
        if self._people is not None:
            self.provides |= {"keypoints_px"}
            self.skipped += self._people.skipped

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether there is an annotation file of objects or of people."""
        return any(_file(root, kind, part).is_file() for kind in cls.kinds for part in PARTS)

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, index: int) -> Scene:
        """Picture `index` at its own size."""
        file = self.pictures[index]
        rgb = load_stored(file.path, file.height, file.width)
        truths: dict[str, Tensor] = {}
        if self._objects is not None:
            objects = self._objects.objects.get(file.image_id, [])
            truths |= draw_objects(objects, file, self._objects.listing.file)
        if self._people is not None:
            people = [person.joints for person in self._people.people.get(file.image_id, [])]
            truths["keypoints_px"] = torch.stack(people)[:, :, None] if people else torch.zeros(0, JOINTS, 1, 3)
        return Scene(file.path.stem, rgb, **truths)

    def _read(self, part: str) -> tuple[ObjectFile | None, PersonFile | None]:
        """What the annotation files of a part hold, of those that are there."""
        objects, people = (_file(self.root, kind, part) for kind in ("instances", "person_keypoints"))
        folder = self.root / part
        return (
            read_objects(objects, folder) if "instances" in self.kinds and objects.is_file() else None,
            read_people(people, folder) if people.is_file() else None,
        )

    def _pictures_of(self, part: str) -> list[PictureFile]:
        """The pictures of a part that all of its annotation files list, by name."""
        listings = [read.listing.pictures for read in self._read(part) if read is not None]
        shared = set.intersection(*(set(listing) for listing in listings))
        return sorted((listings[0][number] for number in shared), key=lambda picture: picture.path)


def _file(root: Path, kind: str, part: str) -> Path:
    return root / "annotations" / f"{kind}_{part}.json"
