"""Pascal-5i: one class of a picture at a time, in four folds of five classes.

Shaban et al., "One-Shot Learning for Semantic Segmentation", BMVC 2017; pictures and masks of Pascal VOC 2012
(Everingham et al., IJCV 2010), optionally with the additional masks of SBD (Hariharan et al., ICCV 2011).
"""

from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from lavindit.data.readers.base import Reader, choose_of_one, choose_part, require_scenes
from lavindit.data.readers.coco_files import load_stored
from lavindit.data.readers.rasters import read_indices
from lavindit.errors import LavinditError
from lavindit.types import Scene

CLASSES = 20
FOLDS = 4
UNLABELLED = 255
MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
LISTS = Path("ImageSets", "Segmentation")
TRAIN, TEST = "train", "val"
CITATION = (
    'Shaban et al., "One-Shot Learning for Semantic Segmentation", BMVC 2017; '
    'Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010'
)


class Shown(NamedTuple):
    """A picture and the class that it is about."""

    name: str
    class_id: int


class PascalReader(Reader):
    """Pascal-5i in the layout of VOC 2012.

    The root holds `JPEGImages/*.jpg`, the masks in `SegmentationClassAug/*.png` or else `SegmentationClass/*.png`, and
    `ImageSets/Segmentation/train.txt` and `val.txt`. Fold f, 0 to 3, has the classes 5 f + 1 to 5 f + 5. Scenes are
    the pictures of a list with each class of the fold that they hold, however few its pixels: queries of a test from
    val.txt, context and training from train.txt. With one list only, every tenth picture is tested on.

    Scenes have `class_ids` (that one class, 0 elsewhere), `instance_ids` (1 on the class, 0 elsewhere) and `labelled`
    (False on the borders that the masks leave open, value 255). Scenes of one class form a group.

    Args:
        root: Folder of the data set.
        split: "train", "val" or "test".
        resolution: Side of the scenes in pixels.
        fit: "crop" or "stretch".
        frames: 1.
        fold: 0 to 3.

    Raises:
        LavinditError: There is no such fold, a list or a mask is missing or broken, or the split has no scene.
    """

    layout: ClassVar[str] = "pascal_5i"
    provides = frozenset({"class_ids", "instance_ids", "labelled"})

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        if not 0 <= fold < FOLDS:
            raise LavinditError(f"Pascal-5i has the folds 0 to {FOLDS - 1}, not {fold} ({self.root})")
        self.masks = next((self.root / name for name in MASK_FOLDERS if (self.root / name).is_dir()), None)
        lists = [name for name in (TRAIN, TEST) if self._list(name).is_file()]
        if self.masks is None or not lists or not (self.root / "JPEGImages").is_dir():
            raise LavinditError(
                f"{self.root} (pascal_5i) needs JPEGImages/, SegmentationClass/ or SegmentationClassAug/, and "
                f"{LISTS / 'train.txt'} and val.txt: name the folder VOC2012"
            )
        classes = range(5 * fold + 1, 5 * fold + 6)
        self.scenes = [
            Shown(name, class_id)
            for name in self._names(lists)
            for class_id in sorted(_classes_in(self.masks / f"{name}.png"))
            if class_id in classes
        ]
        require_scenes(len(self.scenes), self.root, split)
        self.protocol = self._describe(lists)

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether there is a folder of masks and a list of pictures."""
        return any((root / name).is_dir() for name in MASK_FOLDERS) and (root / LISTS).is_dir()

    def __len__(self) -> int:
        return len(self.scenes)

    def group_of(self, index: int) -> int:
        """The class: context shows the query's class."""
        return self.scenes[index].class_id

    def load(self, index: int) -> Scene:
        """Scene `index` at its picture's size."""
        name, class_id = self.scenes[index]
        assert self.masks is not None
        indices = read_indices(self.masks / f"{name}.png")
        there = indices == class_id
        return Scene(
            f"{name}-{class_id:02}",
            load_stored(self.root / "JPEGImages" / f"{name}.jpg", *indices.shape[2:]),
            instance_ids=there.long(),
            class_ids=torch.where(there, class_id, 0),
            labelled=indices != UNLABELLED,
        )

    def _list(self, name: str) -> Path:
        return self.root / LISTS / f"{name}.txt"

    def _names(self, lists: list[str]) -> list[str]:
        """The pictures of the split."""
        if len(lists) == 1:
            return choose_of_one(_read_list(self._list(lists[0])), self.split)
        names = _read_list(self._list(TEST if self.split == "test" else TRAIN))
        return choose_part(names, names, self.split)

    def _describe(self, lists: list[str]) -> str:
        assert self.masks is not None
        first, last = 5 * self.fold + 1, 5 * self.fold + 5
        if len(lists) == 1:
            where = f"every tenth picture of {lists[0]}.txt is a query, context comes from the others"
        else:
            where = "queries: val.txt; context: train.txt (published episodes take both from val.txt)"
        return (
            f"Pascal-5i fold {self.fold} (classes {first} to {last}), masks of {self.masks.name}; {where}; "
            f"context is of the query's class. Published figures are over 1000 episodes a fold. {CITATION}."
        )


def _read_list(file: Path) -> list[str]:
    """The names in a list of pictures, one a line."""
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise LavinditError(f"cannot read the list {file} ({error}); replace it by the published one") from error


def _classes_in(mask: Path) -> frozenset[int]:
    """The classes in a mask, 1 to 20.

    Raises:
        LavinditError: The file is missing, cannot be read, or has values that are no class.
    """
    try:
        state = mask.stat()
    except OSError as error:
        raise LavinditError(f"cannot read {mask}: {error.strerror or error}; the data set is not complete") from error
    return _read_classes(mask.resolve(), state.st_mtime_ns, state.st_size)


@cache
def _read_classes(mask: Path, changed_ns: int, size: int) -> frozenset[int]:
    """`_classes_in` of a file in the state that time and size tell; kept, for every fold and split asks again."""
    values = set(read_indices(mask).unique().tolist()) - {0, UNLABELLED}
    if values and max(values) > CLASSES:
        raise LavinditError(f"{mask} has the value {max(values)}; classes are 0 to {CLASSES}, and {UNLABELLED} is open")
    return frozenset(values)
