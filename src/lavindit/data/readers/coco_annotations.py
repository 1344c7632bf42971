"""The entries of COCO's annotation files: objects with outlines, people with joints; and the maps drawn from them."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lavindit.data.readers.coco_files import (
    Listing,
    PictureFile,
    check_category,
    check_image,
    kept,
    read_annotations,
    read_listing,
    value_of,
)
from lavindit.data.readers.masks import Mask, segmentation_mask
from lavindit.errors import LavinditError

_log = logging.getLogger(__name__)

JOINTS = 17
NO_BOX = "box without area"
NO_OUTLINE = "empty segmentation"
BROKEN_POLYGON = "polygon of fewer than three points"

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels; 0 is the left or upper edge of the first pixel."""


class Object(NamedTuple):
    """An annotated object: `outline` as `segmentation_mask` takes it; a crowd is a region of uncounted objects."""

    annotation_id: int
    category_id: int
    crowd: bool
    outline: Any


class Person(NamedTuple):
    """A person with one labelled joint or more: `joints` [17, 3] (x, y, visibility); `box` lies in the picture."""

    annotation_id: int
    joints: Tensor
    box: Box


@dataclass(frozen=True)
class ObjectFile:
    """The objects of `instances_*.json` by image id, and how many annotations were left out, by reason."""

    listing: Listing
    objects: dict[int, list[Object]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class PersonFile:
    """The people of `person_keypoints_*.json` by image id, and how many annotations were left out, by reason."""

    listing: Listing
    people: dict[int, list[Person]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


@kept
def read_objects(file: Path, folder: Path) -> ObjectFile:
    """The objects of an annotation file whose pictures lie in `folder`.

    Raises:
        LavinditError: The file is broken, or an annotation names an image or a category that it does not list.
    """
    data = read_annotations(file)
    read = ObjectFile(read_listing(file, data, folder))
    for entry in data["annotations"]:
        owner, number, image_id, category_id = _heading(entry, read.listing)
        outline = _outline(value_of(entry, "segmentation", owner), owner, read.skipped)
        if outline is None:
            continue
        if not _has_area(_box(entry, owner)):
            read.skipped[NO_BOX] += 1
            continue
        found = Object(number, category_id, bool(entry.get("iscrowd", 0)), outline)
        read.objects.setdefault(image_id, []).append(found)
    _tell(read.skipped, file)
    return read


@kept
def read_people(file: Path, folder: Path) -> PersonFile:
    """The people of an annotation file whose pictures lie in `folder`; those without a labelled joint are left out.

    Raises:
        LavinditError: The file is broken, or an annotation names an image or a category that it does not list.
    """
    data = read_annotations(file)
    read = PersonFile(read_listing(file, data, folder))
    for entry in data["annotations"]:
        owner, number, image_id, _ = _heading(entry, read.listing)
        joints = _joints(entry, owner)
        if entry.get("iscrowd", 0) or not (joints[:, 2] > 0).any():
            continue
        box = _clip(_box(entry, owner), read.listing.pictures[image_id])
        if not _has_area(box):
            read.skipped[NO_BOX] += 1
            continue
        read.people.setdefault(image_id, []).append(Person(number, joints, box))
    _tell(read.skipped, file)
    return read


def draw_objects(objects: list[Object], picture: PictureFile, file: Path) -> dict[str, Tensor]:
    """The maps of a picture's objects: `instance_ids`, `class_ids` int64 and `labelled` bool, all [1, 1, H, W].

    Instances are numbered from 1 in the order of the list; crowds have no number. Of two objects in one place the one
    of fewer pixels is in front. A crowd is not labelled, except where an object of its own lies on it.

    Args:
        objects: Of the picture.
        picture: With the height and width of the maps.
        file: Where the objects are from, for the error.

    Raises:
        LavinditError: An outline does not fit the picture.
    """
    size = (picture.height, picture.width)
    masks = [_mask(found, size, file) for found in objects]
    instances, classes = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    things = [place for place, found in enumerate(objects) if not found.crowd]
    for place in sorted(things, key=lambda place: -int(masks[place].sum())):
        instances[masks[place]] = 1 + things.index(place)
        classes[masks[place]] = objects[place].category_id
    crowd = np.zeros(size, dtype=bool)
    for found, mask in zip(objects, masks, strict=True):
        if found.crowd:
            crowd |= mask
    maps = {"instance_ids": instances, "class_ids": classes, "labelled": ~crowd | (instances > 0)}
    return {name: torch.from_numpy(values)[None, None] for name, values in maps.items()}


def _mask(found: Object, size: tuple[int, int], file: Path) -> Mask:
    try:
        return segmentation_mask(found.outline, *size)
    except ValueError as error:
        raise LavinditError(f"annotation {found.annotation_id} of {file}: {error}; mend it or remove it") from error


def _heading(entry: Any, listing: Listing) -> tuple[str, int, int, int]:
    """What to call an annotation in an error, its id, its image and its category."""
    number = value_of(entry, "id", f"an annotation of {listing.file}")
    owner = f"annotation {number} of {listing.file}"
    image_id, category_id = (value_of(entry, key, owner) for key in ("image_id", "category_id"))
    check_image(image_id, listing, owner)
    check_category(category_id, listing, owner)
    return owner, number, image_id, category_id


def _outline(segmentation: Any, owner: str, skipped: Counter[str]) -> Any:
    """A segmentation in less memory: polygons and run lengths as arrays. None, and counted, where there is none."""
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list | str):
        counts = segmentation["counts"]
        if not counts:
            skipped[NO_OUTLINE] += 1
            return None
        return segmentation | {"counts": _numbers(counts, owner) if isinstance(counts, list) else counts}
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise LavinditError(
            f"{owner} has a segmentation that is neither polygons nor run lengths; mend it or remove it"
        )
    if not segmentation:
        skipped[NO_OUTLINE] += 1
    whole = [_numbers(polygon, owner) for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if len(whole) < len(segmentation):
        skipped[BROKEN_POLYGON] += len(segmentation) - len(whole)
    return whole or None


def _joints(entry: dict[str, Any], owner: str) -> Tensor:
    """Joints [17, 3]: x, y, visibility."""
    values = _numbers(value_of(entry, "keypoints", owner), owner)
    if len(values) != 3 * JOINTS:
        raise LavinditError(f"{owner} has {len(values)} key point values, not {JOINTS} x 3; mend it or remove it")
    return torch.from_numpy(values).float().view(JOINTS, 3)


def _numbers(values: Any, owner: str) -> np.ndarray:
    try:
        numbers = np.asarray(values)
    except ValueError:
        numbers = np.asarray(None)
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iuf"):
        raise LavinditError(f"{owner} has a list that does not consist of numbers; mend it or remove it")
    return numbers


def _box(entry: dict[str, Any], owner: str) -> Box:
    box = _numbers(value_of(entry, "bbox", owner), owner).tolist()
    if len(box) != 4:
        raise LavinditError(f"{owner} has a bbox of {len(box)} numbers, not x, y, width, height; mend it or remove it")
    left, top, width, height = box
    return left, top, width, height


def _clip(box: Box, picture: PictureFile) -> Box:
    """The part of a box that lies in a picture; without area where none does."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], picture.width), min(box[1] + box[3], picture.height)
    return left, top, right - left, bottom - top


def _has_area(box: Box) -> bool:
    return box[2] > 0 and box[3] > 0


def _tell(skipped: Counter[str], file: Path) -> None:
    if skipped:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in sorted(skipped.items()))
        _log.warning("%s: left out of the annotations: %s", file, reasons)
