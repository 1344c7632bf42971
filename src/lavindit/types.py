"""What is handed from room to room: frozen dataclasses, torch only.

Shape legend: B batch, K pairs, T frames, H W pixels, C latent channels, h w latent size, N native channels.

A *picture* is float32 RGB in [0, 1] of shape [3, T, H, W]; an image has T = 1. Everything that people look
at (inputs, targets, answers) is a picture; only the networks see [-1, 1]. A *native* tensor holds the same
thing in the units of its field (metres, unit vectors, class ids): a codec turns one into the other.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lavindit.clips import save_clip
from lavindit.pictures import save_array, save_picture

CLIP_FRAMES = 13
"""Frames of a clip where nothing else is said: 4k + 1, as the VAE compresses time by four after the first frame."""


class Codec(Protocol):
    """The bridge between a native tensor and its picture; see `lavindit.codecs.base` for the base class."""

    name: str
    unit: str

    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Native [N, T, H, W] (or a list of things) and valid [1, T, H, W] -> picture [3, T, H, W] in [0, 1]."""
        ...

    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] -> native [N, T, H, W] (or a list of things)."""
        ...

    def rescale(self, native: Tensor, across: float, down: float) -> Tensor:
        """Native of a picture that was resized after `encode`, in the units of its new size."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """One image or clip with whatever truth its source knows: the raw material of every task.

    Attributes:
        scene_id: Name, unique within the source.
        rgb: Picture [3, T, H, W].
        depth_m: Distance along the optical axis in metres [1, T, H, W]; inf where the ray meets nothing, NaN where it
            is not known.
        normals: Camera-space unit normals [3, T, H, W], x right, y up, z towards the camera; 0 where none.
        instance_ids: int64 [1, T, H, W], over all things of the scene; 0 is stuff (ground, walls, sky).
        class_ids: int64 [1, T, H, W]; things and stuff have a class, 0 is unlabelled.
        labelled: bool [1, T, H, W]: whether the ids are known (not so in crowds, say); None: everywhere.
        keypoints_px: [M, J, T, 3]: x, y in pixels (pixel centres at integers) and visibility
            (0 outside the frame, 1 hidden, 2 visible), for M figures of J joints.
        flow_px: [2, T, H, W], (dx, dy) in pixels from frame i to i + 1; the last frame is NaN.
        occluded: bool [1, T, H, W]: the point seen in frame i is hidden in, or outside, frame i + 1.
        target: Picture [3, T', H, W] of a ready-made answer, where a folder of pairs holds one.
    """

    scene_id: str
    rgb: Tensor
    depth_m: Tensor | None = None
    normals: Tensor | None = None
    instance_ids: Tensor | None = None
    class_ids: Tensor | None = None
    labelled: Tensor | None = None
    keypoints_px: Tensor | None = None
    flow_px: Tensor | None = None
    occluded: Tensor | None = None
    target: Tensor | None = None

    def known(self) -> frozenset[str]:
        """Names of the fields that this scene has."""
        return frozenset(f.name for f in fields(self) if f.name != "scene_id" and getattr(self, f.name) is not None)


class Source(Protocol):
    """A map-style dataset of scenes; scene i is always the same.

    A source may have a method `group_of(index) -> int | None`: scenes of another group cannot show this one its task
    (another class of Pascal-5i, say).

    Attributes:
        provides: Fields of `Scene` that every scene of it has besides rgb.
    """

    provides: frozenset[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene: ...


@dataclass(frozen=True, eq=False)
class Pair:
    """An input and what a task makes of it.

    Attributes:
        input: Picture [3, T, H, W].
        target: Picture [3, T', H, W], the codec's encoding of `native`.
        native: The truth in native units [N, T', H, W], or the list of things of a codec that is not pixelwise.
        valid: bool [1, T', H, W]; pixels whose truth is known. Only these are scored.
        meta: What else a metric or a report may want (scene id, class, ...).
    """

    input: Tensor
    target: Tensor
    native: Tensor
    valid: Tensor
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Episode:
    """K pairs that show a task and a query that asks for it; one codec for all of them.

    Attributes:
        task: Registry name.
        sample_id: Stable name of the query, e.g. "depth_estimation/test/17": seeds its noise.
        pairs: The K context pairs, in order.
        query: The query as a pair; its target is the truth, which only training and scoring may look at.
        codec: The codec of this episode.
        number: Number of the query in its test list; in training, of the episode in its stream.
        draw: Number of the context draw.
    """

    task: str
    sample_id: str
    pairs: tuple[Pair, ...]
    query: Pair
    codec: Codec
    number: int = 0
    draw: int = 0


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """B episodes with the same number of pairs; pair K is the query.

    Attributes:
        inputs: [B, K+1, 3, T, H, W] in [0, 1].
        targets: [B, K+1, 3, T', H, W] in [0, 1].
        episodes: The episodes themselves, for decoding and scoring.
    """

    inputs: Tensor
    targets: Tensor
    episodes: tuple[Episode, ...]

    @property
    def tasks(self) -> list[str]:
        """Task name of each episode."""
        return [episode.task for episode in self.episodes]

    @property
    def numbers(self) -> list[int]:
        """Number of each episode."""
        return [episode.number for episode in self.episodes]

    @property
    def sample_ids(self) -> list[str]:
        """Sample id of each episode."""
        return [episode.sample_id for episode in self.episodes]

    def __len__(self) -> int:
        return len(self.episodes)

    def to(self, device: torch.device | str) -> "EpisodeBatch":
        """The batch with its stacked pictures on `device`; the episodes stay where they are."""
        return EpisodeBatch(self.inputs.to(device), self.targets.to(device), self.episodes)


@dataclass(frozen=True, eq=False)
class LatentEpisode:
    """A batch of episodes in the VAE's normalised latent space, pair K being the query.

    Attributes:
        inputs: [B, K+1, C, T, h, w].
        targets: [B, K+1, C, T', h, w].
    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class LatentBatch:
    """B training episodes as a set of stored latents gives them; pair K is the query.

    Attributes:
        mean: Posterior means.
        std: Posterior standard deviations, in the same normalised space; None where only means are asked for.
        tasks: Task name of each episode.
        numbers: Number of each episode in its stream.
        sample_ids: Sample id of each stored episode.
    """

    mean: LatentEpisode
    std: LatentEpisode | None
    tasks: list[str]
    numbers: list[int]
    sample_ids: list[str]

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device | str) -> "LatentBatch":
        """The batch with its latents on `device`."""
        moved = [
            None if part is None else LatentEpisode(part.inputs.to(device), part.targets.to(device))
            for part in (self.mean, self.std)
        ]
        assert moved[0] is not None
        return LatentBatch(moved[0], moved[1], self.tasks, self.numbers, self.sample_ids)


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """An answer.

    Attributes:
        task: Name of the task, or of the folder, that was shown.
        sample_id: Name of the query.
        image: Picture or clip [3, T, H, W], cropped back to the query's own size.
        native: The answer in the codec's units [N, T, H, W].
        unit: Unit of `native`, as the codec states it.
        seconds: Time it took, shared evenly over the batch it was computed in.
    """

    task: str
    sample_id: str
    image: Tensor
    native: Tensor
    unit: str
    seconds: float

    def __repr__(self) -> str:
        """Sizes of the tensors; their numbers would fill the screen."""
        sizes = f"image={list(self.image.shape)}, native={list(self.native.shape)}, unit={self.unit!r}"
        return f"Prediction(task={self.task!r}, sample_id={self.sample_id!r}, {sizes}, seconds={self.seconds:.3g})"

    def save(self, path: Path | str, native: bool = False) -> None:
        """Write the picture, and with `native` the native values beside it as .npy.

        Args:
            path: `NAME.png` (a clip becomes a film strip), or for a clip `NAME.mp4` or, without a suffix, a folder of
                frames.
            native: Also write the values in native units.

        Raises:
            LavinditError: The folder cannot be written to.
        """
        path = Path(path)
        if path.suffix.lower() == ".png":
            save_picture(self.image, path)
        else:
            save_clip(self.image, path)
        if native:
            save_array(self.native, native_file(path))


def native_file(path: Path) -> Path:
    """Where `Prediction.save` writes native values: beside the picture of that path."""
    return path.with_name(path.stem + ".npy")
