"""Training from stored latents: the mixture's stream with episodes that were encoded before."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lavindit.data.latents.description import keys_of, read_description, shard_name
from lavindit.data.latents.shards import MEANS, REMEDY, SPREADS, Shard, StoredEpisode
from lavindit.data.mixture import Bucket, EpisodeMixture
from lavindit.errors import LavinditError
from lavindit.types import LatentBatch, LatentEpisode


class LatentStore:
    """A finished set of latents, read by task and number.

    Args:
        folder: The set.

    Raises:
        LavinditError: There is none, it is not finished, or a shard is missing or cut short.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.description = read_description(self.folder)
        for name, size in self.description.shards.items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                what = "has another size than it was written with" if path.is_file() else "is missing"
                raise LavinditError(f"the latents {path} are damaged: the file {what}; {REMEDY}")
        self._shards: dict[str, Shard] = {}

    def count(self, task: str) -> int:
        """Episodes of a task."""
        return self.description.episodes[task]

    def read(self, task: str, number: int) -> StoredEpisode:
        """Episode `number` of a task, as it is stored.

        Raises:
            LavinditError: Its shard is damaged.
        """
        numbers = self.description.shard_of(task, number)
        name = shard_name(task, numbers.start)
        if name not in self._shards:
            config = self.description.config
            self._shards[name] = Shard(self.folder / name, keys_of(task, numbers), config.names, config.hash)
        return self._shards[name].read(number - numbers.start)


def choose_places(scenes: Sequence[str], pairs: int, generator: torch.Generator) -> list[int]:
    """Which of a stored episode's pairs are shown, in their order, and last which one asks.

    Any of them may ask: they share one codec, and a task takes its query and its context from the same scenes in
    training. Where a scene comes twice (photographs that stand in for the world), neither asks, so that no query is in
    its own context.

    Args:
        scenes: Scene id of each of the K + 1 pairs.
        pairs: How many are shown, at most K.
        generator: Source of the choice.
    """
    may_ask = [place for place, scene in enumerate(scenes) if scenes.count(scene) == 1]
    query = may_ask[int(torch.randint(len(may_ask), (1,), generator=generator))]
    others = [place for place in range(len(scenes)) if place != query]
    order = torch.randperm(len(others), generator=generator)[:pairs].tolist()
    return [*(others[i] for i in order), query]


class LatentMixture(Dataset[LatentBatch]):
    """The training stream of a mixture, from stored latents.

    Step i has the K, the bucket and the tasks that the mixture itself has at step i, for whatever number of processes.
    Which stored episode of its task an episode is, which of its pairs are shown and which one asks come from (seed, the
    episode's number) alone.

    Args:
        mixture: The mixture.
        store: The latents of its tasks.
    """

    def __init__(self, mixture: EpisodeMixture, store: LatentStore) -> None:
        self.mixture, self.store = mixture, store
        self.with_std = store.description.config.std

    def __getitem__(self, step: int) -> LatentBatch:
        """This process's part of a step, as float32."""
        pairs, bucket = self.mixture.plan(step)
        numbers = list(self.mixture.share(step, bucket))
        rows: dict[str, list[Tensor]] = {name: [] for name in self.store.description.config.names}
        tasks, sample_ids = [], []
        for number in numbers:
            task, episode, places = self.choose(bucket, number, pairs)
            for name, row in rows.items():
                row.append(episode.latents[name][places].float())
            tasks.append(task)
            sample_ids.append(episode.sample_id)
        parts = {name: torch.stack(row) for name, row in rows.items()}
        mean = LatentEpisode(*(parts[name] for name in MEANS))
        std = LatentEpisode(*(parts[name] for name in SPREADS)) if self.with_std else None
        return LatentBatch(mean, std, tasks, numbers, sample_ids)

    def choose(self, bucket: Bucket, number: int, pairs: int) -> tuple[str, StoredEpisode, list[int]]:
        """Task of episode `number`, its stored episode, and which pairs of that are shown and asked, in order."""
        maker, _, generator = self.mixture.draw(bucket, number)
        task = maker.task.name
        stored = self.store.read(task, int(torch.randint(self.store.count(task), (1,), generator=generator)))
        return task, stored, choose_places(stored.scenes, pairs, generator)
