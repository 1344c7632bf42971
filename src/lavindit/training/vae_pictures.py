"""Which pictures a VAE is tested on, and the linear codes that it is compared with."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lavindit.data import EpisodeData
from lavindit.data.episodes import EpisodeMaker
from lavindit.data.sources import BlendedSource, SourceConfig, photos_of
from lavindit.inference.block_pca import BlockMoments, BlockPCA
from lavindit.task import Task
from lavindit.types import Codec, Episode

MODALITIES = {
    "identity": "rgb",
    "mask": "masks",
    "palette": "palettes",
    "panoptic": "palettes",
    "boxes": "palettes",
    "keypoints": "skeletons",
}
"""What the pictures of a codec are called; those of others by the codec's own name."""
PHOTOS, WHOLE_PHOTOS = "photographs, cropped", "photographs, whole"
ORDER = ("rgb", PHOTOS, WHOLE_PHOTOS, "depth", "normals", "masks", "palettes", "edges", "flow", "skeletons")


class Kind(NamedTuple):
    """Pictures that are scored together.

    Attributes:
        frames: Frames of each; 1 for images.
        modality: What they show.
    """

    frames: int
    modality: str

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Sorts kinds as a report shows them: images first, inputs of single tasks last."""
        place = ORDER.index(self.modality) if self.modality in ORDER else len(ORDER)
        return self.frames > 1, place, self.modality


def target_kind(task: Task, codec: Codec, target: Tensor) -> Kind:
    """What a target [3, T, H, W] shows: what the task calls it, else what its codec draws."""
    return Kind(target.shape[1], task.pictures or MODALITIES.get(codec.name, codec.name))


def input_kind(task: Task, episode: Episode) -> Kind | None:
    """What the input of an episode's query shows; None if another task's pictures are what it shows.

    A task with a field of its own (depth, masks, ...) is shown the picture itself. One that restores is shown a damaged
    one, which is scored apart. The others make a picture from what is another task's target.
    """
    shown = episode.query.input
    if episode.codec.name != "identity":
        return Kind(shown.shape[1], "rgb")
    if task.restores and shown.shape == episode.query.target.shape:
        return Kind(shown.shape[1], f"input of {task.name}")
    return None


def kinds_of(task: Task, episode: Episode) -> list[tuple[Kind, Tensor]]:
    """The query's target, then its input if it has a kind, each with its kind."""
    query = episode.query
    found = [(target_kind(task, episode.codec, query.target), query.target)]
    shown = input_kind(task, episode)
    return found if shown is None else [*found, (shown, query.input)]


@dataclass(frozen=True, eq=False)
class BlockBaselines:
    """Principal components of 8x8 blocks, fitted on training pictures.

    Attributes:
        mixture: Of the pictures of all trained tasks, weighted as in training; None if no task is trained.
        own: Of the pictures of one kind alone, damaged or not a kind of its own.
        tasks: The tasks of the mixture.
        kinds: Kinds of the pictures of each task that is tested.
        pictures: How many pictures they were fitted on; a clip counts as one.
    """

    mixture: BlockPCA | None
    own: dict[Kind, BlockPCA]
    tasks: list[str]
    kinds: dict[str, list[Kind]]
    pictures: int


def fit_baselines(data: EpisodeData, components: int, pictures: int) -> BlockBaselines:
    """Fit the baselines on the first training pictures that the tasks find, the tasks taking turns.

    Args:
        data: The data that is tested.
        components: Numbers a block.
        pictures: About how many pictures are looked at; at least one episode a task. A clip stands for four.
    """
    mixture, own, blended = BlockMoments.none(), {}, {}
    kinds: dict[str, list[Kind]] = {}
    trained, seen = data.trained_tasks, 0
    for place, task in enumerate(data.tasks):
        maker = EpisodeMaker(task, "train", data.source)
        share = max(1, pictures // (2 * len(data.tasks)))
        share = math.ceil(share / 4) if max(task.input_frames, task.target_frames) > 1 else share
        episodes = min(share, len(maker))
        weight = data.weights.get(task.name, 1.0) / episodes if task in trained else 0.0
        # Photographs among the scenes would make the components of renders those of something else.
        place_of = blended if isinstance(maker.queries, BlendedSource) else own
        for episode in _training_episodes(maker, place * share, episodes, data.seed):
            found = kinds_of(task, episode)
            kinds.setdefault(task.name, [kind for kind, _ in found])
            for kind, picture in found:
                moments = BlockMoments.of(picture).scaled(1 / kind.frames)
                mixture = mixture + moments.scaled(weight)
                place_of[kind] = place_of.get(kind, BlockMoments.none()) + moments
                seen += 1
    fitted = {kind: BlockPCA.fit(moments, components) for kind, moments in (blended | own).items()}
    return BlockBaselines(
        BlockPCA.fit(mixture, components) if mixture.count else None,
        fitted,
        sorted(task.name for task in trained),
        kinds,
        seen,
    )


def _training_episodes(maker: EpisodeMaker, first: int, count: int, seed: int) -> Iterator[Episode]:
    """Episodes of successive training scenes that the task accepts, from number `first` on, around the end."""
    scene = first
    for _ in range(count):
        scene = maker.next_accepted(scene % len(maker))
        yield maker.episode(scene, 0, seed)
        scene += 1


def fit_photographs(source: SourceConfig, components: int, pictures: int) -> BlockPCA:
    """Principal components of crops of the training photographs."""
    photos, moments = photos_of(source, "train"), BlockMoments.none()
    for index in range(min(pictures, len(photos))):
        moments = moments + BlockMoments.of(photos[index].rgb)
    return BlockPCA.fit(moments, components)
