"""A folder of pairs is a task, with no Python: `NAME_input.png` beside `NAME_target.png`."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lavindit.codecs import IdentityCodec
from lavindit.codecs.base import Codec
from lavindit.errors import LavinditError
from lavindit.metrics import RestorationMetric
from lavindit.pictures import SUFFIXES, center_square, load_picture, stretch
from lavindit.task.contract import Column, Task
from lavindit.types import Pair, Scene

INPUT, TARGET = "_input", "_target"
ASPECT_TOLERANCE = 0.01


class FolderSource:
    """The pairs of a folder, each a scene whose `target` is the ready-made answer.

    Input and target may differ in size: each is resized alone.

    Args:
        pairs: Input and target files.
        resolution: Side in pixels.
        fit: "crop" takes the centred square of each, so their aspect ratios have to agree within 1 %; "stretch"
            the whole of each.
    """

    provides = frozenset({"target"})

    def __init__(
        self, pairs: list[tuple[Path, Path]], resolution: int, fit: Literal["crop", "stretch"] = "crop"
    ) -> None:
        self.pairs, self.resolution, self.fit = pairs, resolution, fit

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Scene:
        """Scene of pair `index`."""
        input_file, target_file = self.pairs[index]
        picture, target = load_picture(input_file), load_picture(target_file)
        if self.fit == "crop" and abs(_aspect(picture) / _aspect(target) - 1) > ASPECT_TOLERANCE:
            sizes = " and ".join(f"{p.shape[3]}x{p.shape[2]}" for p in (picture, target))
            raise LavinditError(
                f"{input_file} and {target_file.name} differ in size ({sizes}); give both the same aspect ratio"
            )
        square = center_square if self.fit == "crop" else stretch
        return Scene(
            scene_id=input_file.stem.removesuffix(INPUT),
            rgb=square(picture, self.resolution),
            target=square(target, self.resolution),
        )


def _aspect(picture: Tensor) -> float:
    return picture.shape[3] / picture.shape[2]


class FolderTask(Task):
    """The task that a folder of pairs shows. Its answers are pictures, scored as pictures.

    Args:
        folder: Holds `*_input.*` and `*_target.*` image files.

    Raises:
        LavinditError: The folder is empty, or an input has no target or the other way round.
    """

    version = 1
    summary = "Whatever the pairs of a folder show."
    requires = frozenset({"target"})
    restores = True
    columns = (
        Column("psnr", "dB", "max", headline=True),
        Column("ssim", "1", "max"),
        Column("mse", "1", "min"),
    )

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        self.pairs = find_pairs(self.folder)

    def make_source(self, split: str, resolution: int, fit: Literal["crop", "stretch"] = "crop") -> FolderSource:
        """All pairs of the folder, whatever the split: a folder that shows a task has no test set."""
        return FolderSource(self.pairs, resolution, fit)

    def make_codec(self, generator: torch.Generator) -> Codec:
        """Pictures are their own native."""
        return IdentityCodec()

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """The pair as it lies in the folder."""
        assert scene.target is not None
        valid = torch.ones_like(scene.target[:1], dtype=torch.bool)
        return Pair(scene.rgb, codec.encode(scene.target, valid), scene.target, valid)

    def make_metric(self) -> RestorationMetric:
        """Fidelity of pictures."""
        return RestorationMetric()


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Input and target files of a folder, sorted by name.

    Raises:
        LavinditError: No pairs, or a half of one.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files and path.stem.endswith((INPUT, TARGET)):
            raise LavinditError(f"{files[path.stem]} and {path.name} are one half of the same pair; remove one of them")
        files[path.stem] = path
    inputs = [stem for stem in files if stem.endswith(INPUT)]
    for stem in files:
        for own, other in ((INPUT, TARGET), (TARGET, INPUT)):
            if stem.endswith(own) and stem.removesuffix(own) + other not in files:
                wanted = folder / (stem.removesuffix(own) + other + files[stem].suffix)
                raise LavinditError(f"{files[stem]} has no partner; add {wanted} or remove the file")
    if not inputs:
        raise LavinditError(f"no pairs in {folder}; a task folder holds NAME{INPUT}.png and NAME{TARGET}.png files")
    return [(files[stem], files[stem.removesuffix(INPUT) + TARGET]) for stem in inputs]
