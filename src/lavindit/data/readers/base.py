"""What every reader of a public data set has in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import ClassVar, Literal, TypeVar, cast, get_args

from torch import Tensor

from lavindit.data.readers.squares import SquareFit, square_scene
from lavindit.errors import LavinditError
from lavindit.types import Scene

Split = Literal["train", "val", "test"]
Item = TypeVar("Item")
ONE_IN = 10


class Reader(ABC):
    """A data set on disk, read as it was published: a `Source` of square scenes.

    A subclass sets `layout` and `protocol`, lists its scenes in `__init__` (after `super().__init__`), sets `provides`
    there where it depends on the files, and implements `detect`, `__len__` and `load`.

    Args:
        root: Folder of the data set.
        split: "train" (training scenes, and the context of every test), "val" or "test".
        resolution: Side of the scenes in pixels.
        fit: "crop" takes the largest centred square of a picture, "stretch" the whole of it.
        frames: Frames of a scene: 1, or 4k + 1 for a clip.
        fold: Which fold, for data sets that have folds.

    Attributes:
        layout: Key in `LAYOUTS`.
        clips: Whether the layout has clips; others are read with `frames` 1 only.
        provides: Fields of `Scene` that every scene has besides rgb.
        protocol: What the report says: which files, which split, and the citation.

    Raises:
        LavinditError: No such folder, split, fit or number of frames; or whatever the files lack.
    """

    layout: ClassVar[str]
    clips: ClassVar[bool] = False
    provides: frozenset[str]
    protocol: str

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise LavinditError(f"no such folder: {self.root}")
        if split not in get_args(Split):
            raise LavinditError(f"split {split!r} of {self.root}: choose train, val or test")
        if fit not in get_args(SquareFit):
            raise LavinditError(f"fit {fit!r} of {self.root}: choose crop or stretch")
        if frames < 1 or frames % 4 != 1:
            raise LavinditError(f"frames={frames} of {self.root}: clips have 4k + 1 frames (1, 5, 9, 13, ...)")
        if frames > 1 and not self.clips:
            raise LavinditError(
                f"{self.root} ({self.layout}) holds single pictures; video tasks need a layout of clips"
            )
        self.split: Split = cast(Split, split)
        self.fit: SquareFit = cast(SquareFit, fit)
        self.resolution, self.frames, self.fold = resolution, frames, fold

    @classmethod
    @abstractmethod
    def detect(cls, root: Path) -> bool:
        """Whether the folder looks like this layout, by a few file names."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> Scene:
        """Scene `index` at the size of its files.

        Raises:
            LavinditError: A file is missing or cannot be read.
        """

    def group_of(self, index: int) -> int | None:
        """Scenes may show only those of their own group; None: any other scene."""
        return None

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, resolution x resolution.

        Raises:
            LavinditError: A file is missing or cannot be read, or its truths differ in size from the picture.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        scene = self.load(index)
        self._check(scene)
        return square_scene(scene, self.resolution, self.fit)

    def _check(self, scene: Scene) -> None:
        """Every field of a scene has the size of its picture, and the scene has all that was promised."""
        for name in (f.name for f in fields(scene)):
            value = getattr(scene, name)
            if isinstance(value, Tensor) and name not in ("keypoints_px", "target"):
                got, wanted = value.shape[1:], scene.rgb.shape[1:]
                if got != wanted:
                    raise LavinditError(
                        f"{self.root}: {name} of scene {scene.scene_id} is {_size(got)}, its picture {_size(wanted)}; "
                        "replace the file that is wrong"
                    )
        assert self.provides <= scene.known(), f"{self.layout} promised {self.provides}, gave {scene.known()}"


def _size(shape: Sequence[int]) -> str:
    frames, height, width = shape
    return f"{width}x{height}" + (f" of {frames} frames" if frames > 1 else "")


def choose_part(train: Sequence[Item], test: Sequence[Item], split: Split) -> list[Item]:
    """The items of a split, where a data set has a part to train on and a part to test on.

    "test" is the whole second part. "val" is every tenth item of the first, beginning with its first, and "train" is
    the rest; a first part of one item is both.
    """
    if split == "test":
        return list(test)
    if len(train) < 2:
        return list(train)
    return [item for place, item in enumerate(train) if (place % ONE_IN == 0) == (split == "val")]


def choose_of_one(items: Sequence[Item], split: Split) -> list[Item]:
    """The items of a split, where a data set has one part: every tenth item, from the first, is tested on.

    The rest is split into "train" and "val" as `choose_part` does.
    """
    rest = [item for place, item in enumerate(items) if place % ONE_IN]
    return choose_part(rest, items[::ONE_IN], split)


def cut_windows(lengths: Mapping[str, int], frames: int, root: Path) -> list[tuple[str, int]]:
    """Non-overlapping windows of `frames` consecutive frames: (clip, first frame); a shorter rest is dropped.

    With `frames` 1 every frame is a window.

    Raises:
        LavinditError: A clip is shorter than a window.
    """
    for clip, length in lengths.items():
        if length < frames:
            raise LavinditError(
                f"clip {clip} of {root} has {length} frames, {frames} were asked for; ask for fewer or remove the clip"
            )
    return [(clip, first) for clip, length in lengths.items() for first in range(0, length - frames + 1, frames)]


def require_scenes(count: int, root: Path, split: str) -> None:
    """Refuse an empty split.

    Raises:
        LavinditError: There is no scene.
    """
    if not count:
        raise LavinditError(f"{root} holds no scene for the split {split!r}; add files, or choose another split")
