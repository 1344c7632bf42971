"""Readers of public data sets, each in the layout in which it was published."""

import difflib
from pathlib import Path

from lavindit.data.readers.base import Reader
from lavindit.data.readers.coco import CocoReader
from lavindit.data.readers.coco_panoptic import CocoPanopticReader
from lavindit.data.readers.coco_person import CocoPersonReader
from lavindit.data.readers.davis import DavisReader
from lavindit.data.readers.flyingchairs import FlyingChairsReader
from lavindit.data.readers.movi import MoviReader
from lavindit.data.readers.nyuv2 import NYUv2Reader
from lavindit.data.readers.pascal import PascalReader
from lavindit.data.readers.squares import square_scene
from lavindit.errors import LavinditError

READERS: tuple[type[Reader], ...] = (
    CocoReader,
    CocoPersonReader,
    CocoPanopticReader,
    PascalReader,
    NYUv2Reader,
    FlyingChairsReader,
    DavisReader,
    MoviReader,
)
LAYOUTS: dict[str, type[Reader]] = {reader.layout: reader for reader in READERS}

__all__ = ["LAYOUTS", "Reader", "open_layout", "square_scene"]


def open_layout(
    root: Path | str,
    split: str,
    resolution: int,
    *,
    layout: str | None = None,
    fit: str = "crop",
    frames: int = 1,
    fold: int = 0,
) -> Reader:
    """The reader of a folder.

    Args:
        root: Folder of the data set.
        split: "train", "val" or "test".
        resolution: Side of the scenes in pixels.
        layout: Key in `LAYOUTS`; None: the first one whose `detect` knows the folder.
        fit: "crop" or "stretch".
        frames: Frames of a scene, 1 or 4k + 1.
        fold: Which fold, for data sets that have folds.

    Raises:
        LavinditError: No such folder or layout, the folder is of none that is known, or its files are not complete.
    """
    root = Path(root)
    if not root.is_dir():
        raise LavinditError(f"no such folder: {root}")
    if layout is None:
        layout = next((name for name, reader in LAYOUTS.items() if reader.detect(root)), None)
        if layout is None:
            known = ", ".join(LAYOUTS)
            raise LavinditError(
                f"{root} has none of the layouts {known}; see docs/readers.md, or name one with data.source.layout"
            )
    elif layout not in LAYOUTS:
        near = difflib.get_close_matches(layout, LAYOUTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(LAYOUTS)}"
        raise LavinditError(f"no layout is called {layout!r} ({root}): {hint}")
    return LAYOUTS[layout](root, split, resolution, fit, frames, fold)
