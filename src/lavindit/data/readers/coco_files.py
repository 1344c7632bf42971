"""What the readers of COCO's files share: annotation files, the pictures that they list, and how these are stored."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor

from lavindit.data.readers.base import Split, choose_of_one, choose_part, require_scenes
from lavindit.errors import LavinditError
from lavindit.pictures import load_picture

Made = TypeVar("Made")

KEPT_FILES = 4
"""Annotation files kept in memory: instances and persons of a part to train on and a part to test on."""

_EXIF_ORIENTATION = 0x0112


class PictureFile(NamedTuple):
    """A picture that an annotation file lists; height and width in pixels are what the file says."""

    image_id: int
    path: Path
    height: int
    width: int


class Listing(NamedTuple):
    """The pictures of an annotation file by their ids, and its categories: id to whether it is countable."""

    file: Path
    pictures: dict[int, PictureFile]
    categories: dict[int, bool]


def read_annotations(file: Path) -> dict[str, Any]:
    """An annotation file of COCO: a dict with at least the lists `images`, `annotations` and `categories`.

    Raises:
        LavinditError: The file is missing, is no JSON or lacks one of the lists.
    """
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise LavinditError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise LavinditError(f"{file} is not JSON ({error}); replace it by the published file") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise LavinditError(f"{file} has no list {key!r}; it is no annotation file of COCO")
    return data


def read_listing(file: Path, data: dict[str, Any], folder: Path) -> Listing:
    """The pictures and categories of an annotation file; all pictures must lie in `folder`.

    Raises:
        LavinditError: An entry lacks something, a picture is not there, or a category has an id below 1.
    """
    categories = {}
    for entry in data["categories"]:
        number = value_of(entry, "id", f"a category of {file}")
        if not isinstance(number, int) or number < 1:
            raise LavinditError(f"{file} has a category with id {number!r}; 0 means unlabelled, so ids begin at 1")
        categories[number] = bool(entry.get("isthing", 1))
    there = set(_names_in(folder))
    pictures, missing = {}, []
    for entry in data["images"]:
        number = value_of(entry, "id", f"an image of {file}")
        owner = f"image {number} of {file}"
        name, height, width = (value_of(entry, key, owner) for key in ("file_name", "height", "width"))
        pictures[number] = PictureFile(number, folder / name, height, width)
        if name not in there and not (folder / name).is_file():
            missing.append(name)
    if missing:
        raise LavinditError(
            f"{len(missing)} of {len(pictures)} images that {file} lists are not in {folder}, {missing[0]} for one; "
            "complete the folder or take them out of the file"
        )
    return Listing(file, pictures, categories)


def value_of(entry: Any, key: str, owner: str) -> Any:
    """Value `key` of an entry of an annotation file; `owner` names the entry in the error.

    Raises:
        LavinditError: The entry lacks it.
    """
    if not isinstance(entry, dict) or key not in entry:
        raise LavinditError(f"{owner} lacks {key!r}; complete it or remove it")
    return entry[key]


def check_category(category_id: int, listing: Listing, owner: str) -> None:
    """Refuse a category that the file does not list.

    Raises:
        LavinditError: Naming the category and the entry (`owner`) that has it.
    """
    if category_id not in listing.categories:
        raise LavinditError(
            f"{owner} has category {category_id}, which the file does not list; add the category or remove the entry"
        )


def check_image(image_id: int, listing: Listing, owner: str) -> None:
    """Refuse a picture that the file does not list.

    Raises:
        LavinditError: Naming the picture and the entry (`owner`) that has it.
    """
    if image_id not in listing.pictures:
        raise LavinditError(
            f"{owner} belongs to image {image_id}, which the file does not list; add the image or remove the entry"
        )


def kept(make: Callable[[Path, Path], Made]) -> Callable[[Path, Path], Made]:
    """A function of an annotation file and its picture folder that is not called twice while the file is the same.

    COCO's files take seconds to read, and several tasks, and the parts of a split, share them.
    """

    @lru_cache(maxsize=KEPT_FILES)
    def remember(file: Path, folder: Path, changed_ns: int, size: int) -> Made:
        return make(file, folder)

    def call(file: Path, folder: Path) -> Made:
        state = file.stat()
        return remember(file.resolve(), folder.resolve(), state.st_mtime_ns, state.st_size)

    return call


def choose_pictures(
    parts: list[str], pictures_of: Callable[[str], list[PictureFile]], split: Split, root: Path
) -> tuple[str, list[PictureFile]]:
    """The part that a split is read from, and its pictures.

    Args:
        parts: What the root holds: the part to train on and the part to test on, or one part for both.
        pictures_of: The pictures of a part, in order; only called for the part that is needed.
        split: The split.
        root: The root, for the error.

    Raises:
        LavinditError: There is no picture.
    """
    if len(parts) == 1:
        part = parts[0]
        chosen = choose_of_one(pictures_of(part), split)
    else:
        part = parts[1] if split == "test" else parts[0]
        pictures = pictures_of(part)
        chosen = choose_part(pictures, pictures, split)
    require_scenes(len(chosen), root, split)
    return part, chosen


def describe_split(parts: list[str]) -> str:
    """Which pictures are tested on, for the report."""
    if len(parts) == 1:
        return f"one part, {parts[0]}: every tenth picture by name is a query, context comes from the others"
    return f"queries: all pictures of {parts[1]}; context: {parts[0]} (every tenth picture kept for validation)"


def load_stored(path: Path, height: int, width: int) -> Tensor:
    """A picture [3, 1, H, W] in [0, 1], turned as its annotations are.

    Masks and joints count the pixels as they are stored: pycocotools and torchvision ignore a camera's note (EXIF) on
    how to turn a picture. Some tools draw on the turned picture instead and state its height and width. So a picture is
    read as stored, and turned only where the stated size fits nothing else.

    Args:
        path: The picture.
        height: H of its annotations.
        width: W of its annotations.

    Raises:
        LavinditError: The file cannot be read, or has another size.
    """
    upright = load_picture(path)
    with Image.open(path) as image:
        stored = _turn_back(upright, image.getexif().get(_EXIF_ORIENTATION, 1))
    for picture in (stored, upright):
        if picture.shape[2:] == (height, width):
            return picture
    raise LavinditError(
        f"{path} is {stored.shape[3]}x{stored.shape[2]}, its annotations are for {width}x{height}; replace the file"
    )


def _turn_back(picture: Tensor, orientation: int) -> Tensor:
    """Undo the turn that an EXIF orientation asks for, 1 to 8 (Exif 2.3, tag 0x0112); others ask for none."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(2, 3)
    flips = {2: (3,), 3: (2, 3), 4: (2,), 6: (2,), 7: (2, 3), 8: (3,)}.get(orientation, ())
    return torch.flip(picture, flips) if flips else picture


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError as error:
        raise LavinditError(f"cannot list {folder}: {error.strerror or error}") from error
