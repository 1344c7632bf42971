"""Where a task's scenes come from when it brings none of its own."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lavindit.data.photos import PhotoSource
from lavindit.data.readers import Reader, open_layout
from lavindit.data.world import WorldSource
from lavindit.errors import LavinditError
from lavindit.flow.noise import seed_from
from lavindit.task import FolderTask, Task, all_tasks
from lavindit.types import CLIP_FRAMES, Scene, Source


@dataclass(frozen=True)
class SourceConfig:
    """The framework's own scenes.

    Attributes:
        resolution: Side in pixels, a multiple of 16: 8 for the VAE, twice that for the J-DiT's 2x2 patches.
        scenes: Scenes of the training split; each is rendered once and kept.
        test_scenes: Scenes of the validation and of the test split.
        clips: Clips of the training split.
        test_clips: Clips of the validation and of the test split.
        seed: Seed of the scenes.
        photos: Folder of photographs; None: those inside scikit-image.
        max_bad_photos: Share of unreadable files in that folder above which a run stops; below it they are skipped,
            counted and named.
        photo_share: Share of photographs among the training scenes of tasks that need nothing but colours.
        fit: How the pairs of a folder become squares: "crop" takes the largest centred square, "stretch" the whole
            picture without keeping its aspect ratio (the release). Public data sets alike.
        root: Folder of a public data set that takes the place of the framework's scenes.
        layout: Which data set lies there; None: as its files tell.
        fold: Which part of a data set that is tested in parts (Pascal-5i: 0 to 3).
    """

    resolution: int = 64
    scenes: int = 4096
    test_scenes: int = 512
    clips: int = 512
    test_clips: int = 128
    seed: int = 0
    photos: str | None = None
    max_bad_photos: float = 0.05
    photo_share: float = 0.0
    fit: Literal["crop", "stretch"] = "crop"
    root: str | None = None
    layout: str | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        if self.resolution % 16 or self.resolution < 16:
            nearest = max(16, round(self.resolution / 16) * 16)
            raise LavinditError(
                f"resolution {self.resolution} must be a multiple of 16 (VAE 8, patch 2); try {nearest}"
            )


class BlendedSource:
    """Two sources as one: scene i comes from `second` with probability `share`, from `first` otherwise.

    Args:
        first: Main source; its length is the length of the blend.
        second: Other source.
        share: Share of the second.
        seed: Seed of the choice.
    """

    def __init__(self, first: Source, second: Source, share: float, seed: int) -> None:
        self.first, self.second, self.share, self.seed = first, second, share, seed
        self.provides = first.provides & second.provides

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index` of whichever source it falls to."""
        if seed_from("blend", self.seed, index) % 10_000 < self.share * 10_000:
            return self.second[index % len(self.second)]
        return self.first[index]


@lru_cache(maxsize=16)
def _world(config: SourceConfig, split: str, clips: bool) -> WorldSource:
    stills = config.scenes if split == "train" else config.test_scenes
    moving = config.clips if split == "train" else config.test_clips
    frames, scenes = (CLIP_FRAMES, moving) if clips else (1, stills)
    return WorldSource(split, config.resolution, scenes, config.seed, frames, chunk=16 if clips else 64)


@lru_cache(maxsize=16)
def photos_of(config: SourceConfig, split: str) -> PhotoSource:
    """Crops of the photographs of a split, read once in a process."""
    folder = Path(config.photos) if config.photos else None
    crops = config.scenes if split == "train" else config.test_scenes
    return PhotoSource(split, config.resolution, crops, config.seed, folder, config.max_bad_photos)


@lru_cache(maxsize=16)
def _data_set(config: SourceConfig, split: str, frames: int) -> Reader:
    return open_layout(
        Path(config.root or ""),
        split,
        config.resolution,
        layout=config.layout,
        fit=config.fit,
        frames=frames,
        fold=config.fold,
    )


def source_for(task: Task, split: str, config: SourceConfig) -> Source:
    """The scenes of a task: its own, else a public data set, else the embedded world, blended with photographs.

    Photographs join the training scenes of tasks that need nothing but colours. The scenes are shared by all tasks of
    a process.

    Raises:
        LavinditError: The source lacks a field that the task requires.
    """
    if isinstance(task, FolderTask):
        source = task.make_source(split, config.resolution, config.fit)
    else:
        source = task.make_source(split, config.resolution)
    clips = max(task.input_frames, task.target_frames) > 1
    if source is None and config.root is not None:
        source = _data_set(config, split, CLIP_FRAMES if clips else 1)
    elif source is None:
        source = _world(config, split, clips)
        if split == "train" and config.photo_share > 0 and not task.requires and not clips:
            source = BlendedSource(source, photos_of(config, split), config.photo_share, config.seed)
    missing = task.requires - source.provides
    if missing:
        needs = f"task {task.name} requires {', '.join(sorted(missing))}, which"
        if config.root is None:
            raise LavinditError(f"{needs} its scenes lack")
        served = [t.name for t in all_tasks().values() if t.requires and t.requires <= source.provides]
        offer = f"; name others with --task: {', '.join(served)}" if served else ""
        raise LavinditError(f"{needs} the data set at {config.root} lacks{offer}")
    return source
