"""Where a task's scenes come from when it brings none of its own."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lavindit.data.photos import PhotoSource
from lavindit.data.world import WorldSource
from lavindit.errors import LavinditError
from lavindit.flow.noise import seed_from
from lavindit.task import FolderTask, Task
from lavindit.types import Scene, Source


@dataclass(frozen=True)
class SourceConfig:
    """The framework's own scenes.

    Attributes:
        resolution: Side in pixels, a multiple of 16: 8 for the VAE, twice that for the J-DiT's 2x2 patches.
        scenes: Scenes of the training split; each is rendered once and kept.
        test_scenes: Scenes of the validation and of the test split.
        seed: Seed of the scenes.
        photos: Folder of photographs; None: those inside scikit-image.
        max_bad_photos: Share of unreadable files in that folder above which a run stops; below it they are skipped,
            counted and named.
        photo_share: Share of photographs among the training scenes of tasks that need nothing but colours.
        fit: How the pairs of a folder become squares: "crop" takes the largest centred square, "stretch" the whole
            picture without keeping its aspect ratio (the release).
    """

    resolution: int = 64
    scenes: int = 4096
    test_scenes: int = 512
    seed: int = 0
    photos: str | None = None
    max_bad_photos: float = 0.05
    photo_share: float = 0.0
    fit: Literal["crop", "stretch"] = "crop"

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
def _world(config: SourceConfig, split: str, frames: int) -> WorldSource:
    scenes = config.scenes if split == "train" else config.test_scenes
    return WorldSource(split, config.resolution, scenes, config.seed, frames)


@lru_cache(maxsize=16)
def _photos(config: SourceConfig, split: str) -> PhotoSource:
    folder = Path(config.photos) if config.photos else None
    return PhotoSource(split, config.resolution, seed=config.seed, folder=folder, max_bad_share=config.max_bad_photos)


def source_for(task: Task, split: str, config: SourceConfig) -> Source:
    """The scenes of a task: its own, else the embedded world, blended with photographs in training.

    The rendered scenes are shared by all tasks of a process.

    Raises:
        LavinditError: The source lacks a field that the task requires.
    """
    if isinstance(task, FolderTask) and config.fit != "crop":
        source = task.make_source(split, config.resolution, config.fit)
    else:
        source = task.make_source(split, config.resolution)
    if source is None:
        source = _world(config, split, 13 if task.modality == "video" else 1)
        if split == "train" and config.photo_share > 0 and not task.requires:
            source = BlendedSource(source, _photos(config, split), config.photo_share, config.seed)
    missing = task.requires - source.provides
    if missing:
        raise LavinditError(f"task {task.name} requires {', '.join(sorted(missing))}, which its scenes lack")
    return source
