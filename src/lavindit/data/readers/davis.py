"""DAVIS: clips with the masks of their moving objects."""

from pathlib import Path

import torch
from torch import Tensor

from lavindit.data.readers.base import Reader, choose_of_one, choose_part, cut_windows, require_scenes
from lavindit.data.readers.rasters import INDICES, load_frames, read_raster, stack_frames
from lavindit.errors import LavinditError
from lavindit.types import Scene

VOID = 255
LISTS = ("2017", "2016", "480p")
SIZES = ("480p", "Full-Resolution", "1080p")
CITATION = (
    "Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016; "
    "Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation, 2017"
)


class DavisReader(Reader):
    """Clips of DAVIS 2016 and 2017 with the masks of their objects.

    Layout: `JPEGImages/480p/CLIP/NNNNN.jpg`, `Annotations/480p/CLIP/NNNNN.png` and the lists
    `ImageSets/2017/{train,val}.txt` (or `2016`, or `480p` as in 2016; the first of them that there is). Masks of 2017
    are palette files whose index is the object; 255 is void. Masks of 2016 are gray; what is not 0 is the one object.

    `instance_ids` is the object's index (0 is background), `class_ids` is 1 on objects, `labelled` is False on void.
    With `frames` 1 every frame is a scene; otherwise clips are cut into windows of that many frames without overlap.
    The clips of the test split are those of `val.txt`, the truth of the other test sets not being public.
    """

    layout = "davis"
    clips = True
    provides = frozenset({"instance_ids", "class_ids", "labelled"})

    def __init__(
        self, root: Path | str, split: str, resolution: int, fit: str = "crop", frames: int = 1, fold: int = 0
    ) -> None:
        super().__init__(root, split, resolution, fit, frames, fold)
        self.images, self.masks = (_sized(self.root / kind) for kind in ("JPEGImages", "Annotations"))
        lists = next((p for name in LISTS if (p := self.root / "ImageSets" / name / "val.txt").is_file()), None)
        if lists is None:
            names = choose_of_one(sorted(p.name for p in self.images.iterdir() if p.is_dir()), self.split)
            queries = "every tenth clip, for want of ImageSets"
        else:
            names = choose_part(_read_list(lists.with_name("train.txt")), _read_list(lists), self.split)
            queries = f"the clips of ImageSets/{lists.parent.name}/val.txt"
        self.files = {name: _frames_of(self.images, self.masks, name) for name in names}
        self.windows = cut_windows({name: len(files) for name, files in self.files.items()}, frames, self.root)
        require_scenes(len(self.windows), self.root, split)
        cut = "every frame" if frames == 1 else f"cut into windows of {frames} frames without overlap"
        self.protocol = f"DAVIS: queries are {queries}, {cut}. {CITATION}."

    @classmethod
    def detect(cls, root: Path) -> bool:
        """Whether pictures and masks lie in folders of sizes, and these in folders of clips."""
        return any((root / "JPEGImages" / size).is_dir() and (root / "Annotations" / size).is_dir() for size in SIZES)

    def __len__(self) -> int:
        return len(self.windows)

    def load(self, index: int) -> Scene:
        """Window `index`."""
        clip, first = self.windows[index]
        files = self.files[clip][first : first + self.frames]
        instance_ids, labelled = zip(*(_read_mask(mask) for _, mask in files), strict=True)
        masks = [mask for _, mask in files]
        ids = stack_frames(instance_ids, masks)
        return Scene(
            scene_id=f"{clip}/{files[0][0].stem}",
            rgb=load_frames([image for image, _ in files]),
            instance_ids=ids,
            class_ids=(ids > 0).long(),
            labelled=stack_frames(labelled, masks),
        )


def _sized(folder: Path) -> Path:
    """The folder of the first size that there is."""
    for size in SIZES:
        if (folder / size).is_dir():
            return folder / size
    raise LavinditError(f"{folder} has none of the folders {', '.join(SIZES)}; unpack DAVIS there")


def _read_list(path: Path) -> list[str]:
    """Clips of a list: their names (2017), or two files a line (2016), whose folder is the clip."""
    if not path.is_file():
        raise LavinditError(f"no such file: {path}; the data set is not complete")
    firsts = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    names = [Path(first).parent.name if "/" in first else first for first in firsts]
    if not names:
        raise LavinditError(f"{path} names no clip; download it again")
    return list(dict.fromkeys(names))


def _frames_of(images: Path, masks: Path, clip: str) -> list[tuple[Path, Path]]:
    """Picture and mask of every frame."""
    if not (images / clip).is_dir():
        raise LavinditError(f"no such clip: {images / clip}; add it, or remove {clip} from the list")
    files = [(image, masks / clip / f"{image.stem}.png") for image in sorted((images / clip).glob("*.jpg"))]
    there = set((masks / clip).iterdir()) if (masks / clip).is_dir() else set()
    for image, mask in files:
        if mask not in there:
            raise LavinditError(f"{image} has no mask {mask}; add it or remove the picture")
    return files


def _read_mask(path: Path) -> tuple[Tensor, Tensor]:
    """Object of each pixel, int64 [1, 1, H, W], and where it is known, bool [1, 1, H, W]."""
    values, mode = read_raster(path, INDICES)
    ids = torch.from_numpy(values.astype("int64"))[None, None]
    if mode == "P":
        void = ids == VOID
        return torch.where(void, 0, ids), ~void
    return (ids > 0).long(), torch.ones_like(ids, dtype=torch.bool)
