"""COCO panoptic: every pixel has a class, and the pixels of things also an instance.

Kirillov et al., "Panoptic Segmentation", CVPR 2019; format: https://cocodataset.org/#format-data.
"""

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lavindit.data.readers.base import Reader
from lavindit.data.readers.coco_files import (
    Listing,
    PictureFile,
    check_category,
    check_image,
    choose_pictures,
    describe_split,
    kept,
    load_stored,
    read_annotations,
    read_listing,
    value_of,
)
from lavindit.data.readers.rasters import read_raster
from lavindit.errors import LavinditError
from lavindit.types import Scene

CITATION = (
    'Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; '
    'Kirillov et al., "Panoptic Segmentation", CVPR 2019'
)


class Part(NamedTuple):
    """Where a part lies below the root: the annotations, their PNG files, the pictures."""

    annotations: str
    segments: str
    pictures: str


PARTS = {
    "train2017": Part("annotations/panoptic_train2017.json", "annotations/panoptic_train2017", "train2017"),
    "val2017": Part("annotations/panoptic_val2017.json", "annotations/panoptic_val2017", "val2017"),
}
EXAMPLES = Part("panoptic_examples.json", "panoptic_examples", "input_images")
"""The layout of the two pictures that come with COCO's panoptic API."""


class Segment(NamedTuple):
    """What the pixels of one colour are; a crowd is a region of uncounted things."""

    category_id: int
    crowd: bool


class Segmentation(NamedTuple):
    """The segments of a picture by id; their pixels are in the PNG file `name`."""

    name: str
    segments: dict[int, Segment]


class PanopticFile(NamedTuple):
    """An annotation file: its pictures and categories, and the segmentations by image id."""

    listing: Listing
    segmentations: dict[int, Segmentation]


@kept
def read_segmentations(file: Path, folder: Path) -> PanopticFile:
    """The segmentations of an annotation file whose pictures lie in `folder`.

    Raises:
        LavinditError: The file is broken, or an annotation names an image or a category that it does not list.
    """
    data = read_annotations(file)
    listing = read_listing(file, data, folder)
    found: dict[int, Segmentation] = {}
    for entry in data["annotations"]:
        image_id = value_of(entry, "image_id", f"an annotation of {file}")
        owner = f"the annotation of image {image_id} of {file}"
        check_image(image_id, listing, owner)
        name, entries = (value_of(entry, key, owner) for key in ("file_name", "segments_info"))
        found[image_id] = Segmentation(name, dict(_segment(segment, listing, owner) for segment in entries))
    return PanopticFile(listing, found)


class CocoPanopticReader(Reader):
    """COCO panoptic in its published layout, or in that of the panoptic API's two examples.

    The root holds `annotations/panoptic_{part}.json`, the PNG files in `annotations/panoptic_{part}/` and the pictures
    in `{part}/`, the parts being train2017 and val2017; or `panoptic_examples.json`, `panoptic_examples/` and
    `input_images/`. With one part only, every tenth picture is tested on. A pixel's segment is R + 256 G + 65536 B.

    Scenes have `class_ids` (COCO's category ids), `instance_ids` (things from 1 on in the order of the file; stuff 0)
    and `labelled`: False in crowds and where no segment is, which have class and instance 0.

    Raises:
        LavinditError: An annotation file is broken or does not fit the pictures, or the split has none.
    """

    layout: ClassVar[str] = "coco_panoptic"
    provides = frozenset({"class_ids", "instance_ids", "labelled"})

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        self._parts = _parts_in(self.root)
        if not self._parts:
            wanted = " and ".join(PARTS["val2017"])
            raise LavinditError(f"{self.root} (coco_panoptic) needs {wanted}, the same of train2017, or the examples")
        names = list(self._parts)
        self.part, self.pictures = choose_pictures(names, self._pictures_of, self.split, self.root)
        self.protocol = f"COCO panoptic; {describe_split(names)}. {CITATION}."
        self._read = self._open(self.part)

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether there is an annotation file of panoptic segmentations."""
        return any((root / part.annotations).is_file() for part in (*PARTS.values(), EXAMPLES))

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, index: int) -> Scene:
        """Picture `index` at its own size."""
        picture = self.pictures[index]
        segmentation = self._read.segmentations[picture.image_id]
        file = self.root / self._parts[self.part].segments / segmentation.name
        colours, _ = read_raster(file, ("RGB",))
        maps = draw_segments(colours, segmentation.segments, self._read.listing.categories, file)
        height, width = colours.shape[:2]
        return Scene(picture.path.stem, load_stored(picture.path, height, width), **maps)

    def _open(self, part: str) -> PanopticFile:
        where = self._parts[part]
        return read_segmentations(self.root / where.annotations, self.root / where.pictures)

    def _pictures_of(self, part: str) -> list[PictureFile]:
        """The pictures of a part that have a segmentation, by name."""
        read = self._open(part)
        return sorted((read.listing.pictures[number] for number in read.segmentations), key=lambda file: file.path)


def draw_segments(
    colours: np.ndarray, segments: dict[int, Segment], categories: dict[int, bool], file: Path
) -> dict[str, Tensor]:
    """The maps of a picture's segments: `class_ids`, `instance_ids` int64 and `labelled` bool, all [1, 1, H, W].

    Args:
        colours: uint8 [H, W, 3].
        segments: By id, R + 256 G + 65536 B.
        categories: For each category id whether it is countable.
        file: Where the colours are from, for the error.

    Raises:
        LavinditError: A colour is that of no segment.
    """
    red, green, blue = np.moveaxis(colours.astype(np.int64), 2, 0)
    ids = red + (green << 8) + (blue << 16)
    table = {0: (0, 0, False)}
    things = 0
    for number, segment in segments.items():
        counted = categories[segment.category_id] and not segment.crowd
        things += counted
        table[number] = (0, 0, False) if segment.crowd else (segment.category_id, things if counted else 0, True)
    listed = np.array(sorted(table))
    places = np.searchsorted(listed, ids).clip(max=len(listed) - 1)
    unknown = ids[listed[places] != ids]
    if len(unknown):
        raise LavinditError(
            f"{file} has pixels of segment {unknown[0]}, which its annotation does not list; replace one of the two"
        )
    columns = zip(*(table[int(number)] for number in listed), strict=True)
    maps = zip(("class_ids", "instance_ids", "labelled"), columns, strict=True)
    return {name: torch.from_numpy(np.array(values)[places])[None, None] for name, values in maps}


def _parts_in(root: Path) -> dict[str, Part]:
    """The parts that are complete; the examples where no published part is."""
    published = {name: part for name, part in PARTS.items() if _is_complete(root, part)}
    return published or ({EXAMPLES.pictures: EXAMPLES} if _is_complete(root, EXAMPLES) else {})


def _is_complete(root: Path, part: Part) -> bool:
    return (root / part.annotations).is_file() and all(
        (root / name).is_dir() for name in (part.segments, part.pictures)
    )


def _segment(entry: Any, listing: Listing, owner: str) -> tuple[int, Segment]:
    number = value_of(entry, "id", f"a segment of {owner}")
    owner = f"segment {number} of {owner}"
    category_id = value_of(entry, "category_id", owner)
    check_category(category_id, listing, owner)
    return number, Segment(category_id, bool(entry.get("iscrowd", 0)))
