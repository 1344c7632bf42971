"""Photographs: any folder of images; by default those inside scikit-image."""

import logging
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.flow.noise import seed_from
from lavindit.pictures import list_images, load_picture, resize
from lavindit.types import Scene

_log = logging.getLogger(__name__)

BUNDLED_TRAIN = (
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "ihc.png",
    "retina.jpg",
    "camera.png",
    "clock_motion.png",
    "coins.png",
    "moon.png",
    "brick.png",
    "grass.png",
    "gravel.png",
)
BUNDLED_TEST = ("astronaut.png", "coffee.png", "chelsea.png")
TEST_EVERY = 10
LARGEST_SIDE = 512


def bundled_photo(name: str) -> Path:
    """Path of a photograph inside scikit-image, e.g. "astronaut.png"."""
    return Path(str(files("skimage.data") / name))


def split_of(folder: Path, split: str) -> list[Path]:
    """Files of one split: every tenth file, by name, is for "test", the one after it for "val", the rest "train"."""
    found = list_images(folder)
    if len(found) < TEST_EVERY:
        raise LavinditError(f"{folder} holds {len(found)} images; {TEST_EVERY} or more are needed to keep a test split")
    place = {"test": {0}, "val": {1}}.get(split, set(range(2, TEST_EVERY)))
    return [path for i, path in enumerate(found) if i % TEST_EVERY in place]


class PhotoSource:
    """Random square crops of photographs as scenes that know nothing but their colours.

    Crop i is always the same: which photograph, where, how large and whether mirrored come from (seed, split, i).
    A file that cannot be read is skipped and counted; too many of them stop the run.

    Args:
        split: "train", "val" or "test".
        resolution: Side in pixels.
        scenes: Number of crops.
        seed: Seed of the crops.
        folder: Folder of images; None takes scikit-image's (astronaut, coffee and chelsea are its test and
            validation split).
        max_bad_share: Share of unreadable files above which the run stops.

    Raises:
        LavinditError: The folder is missing or empty, or too many of its files cannot be read.
    """

    provides: frozenset[str] = frozenset()

    def __init__(
        self,
        split: str,
        resolution: int,
        scenes: int = 1024,
        seed: int = 0,
        folder: Path | str | None = None,
        max_bad_share: float = 0.05,
    ) -> None:
        self.split, self.resolution, self.scenes, self.seed = split, resolution, scenes, seed
        if folder is None:
            paths = [bundled_photo(name) for name in (BUNDLED_TRAIN if split == "train" else BUNDLED_TEST)]
        else:
            paths = split_of(Path(folder), split)
        self.photos: list[tuple[str, Tensor]] = []
        self.bad: list[str] = []
        for path in paths:
            try:
                self.photos.append((path.stem, self._shrink(load_picture(path))))
            except LavinditError as error:
                self.bad.append(str(error))
        if len(self.bad) > max_bad_share * len(paths) or not self.photos:
            listing = "; ".join(self.bad[:20])
            raise LavinditError(f"{len(self.bad)} of {len(paths)} photographs are unreadable: {listing}")
        if self.bad:
            _log.warning("skipped %d of %d photographs (%s): %s", len(self.bad), len(paths), split, "; ".join(self.bad))

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> Scene:
        """Crop `index`."""
        generator = torch.Generator().manual_seed(seed_from("photo", self.seed, self.split, index))
        which = int(torch.randint(len(self.photos), (1,), generator=generator))
        mirror, size, down, right = torch.rand(4, generator=generator).tolist()
        name, photo = self.photos[which]
        height, width = photo.shape[2:]
        low = min(self.resolution, height, width)
        side = low + int(size * (min(height, width) - low + 1))
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        crop = photo[:, :, top : top + side, left : left + side].float() / 255
        crop = resize(crop, self.resolution, self.resolution)
        return Scene(f"{name}-{index}", crop.flip(3) if mirror < 0.5 else crop)

    @staticmethod
    def _shrink(photo: Tensor) -> Tensor:
        """Keep a photograph as uint8, at most 512 pixels on its longer side."""
        scale = min(1.0, LARGEST_SIDE / max(photo.shape[2:]))
        height, width = (max(1, round(side * scale)) for side in photo.shape[2:])
        small = resize(photo, height, width)
        return (small * 255).round().to(torch.uint8)
