"""The training mixture: an endless, seekable stream of batches over tasks."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.flow.noise import seed_from
from lavindit.types import Episode, EpisodeBatch


class EpisodeMixture(Dataset[EpisodeBatch]):
    """Episode e of training is always the same: task, scene, context come from (seed, e) alone, K from (seed, step).

    Step i holds episodes i B, i B + 1, ..., B being the larger of the two batch sizes; all of them are of one shape
    (images, clips, ...: a bucket) and are shared evenly by the processes. So a run sees the same episodes however many
    processes there are, and one that is resumed at step i sees what an undisturbed one would have seen. A task's share
    of all episodes is its share of the weights, whatever the buckets.

    Args:
        makers: Episode maker by task name.
        weights: Weight of each task; 1 where it is not named.
        batch_size: Episodes a step, over all processes.
        clip_batch_size: Episodes a step where a picture is a clip.
        pairs: Smallest and largest K.
        seed: Seed of the stream.
        rank: This process.
        processes: How many there are.
        clip_share: Share of the steps that are of clips, where there are images, too; None: as the weights make it.
    """

    def __init__(
        self,
        makers: Mapping[str, EpisodeMaker],
        weights: Mapping[str, float],
        batch_size: int,
        clip_batch_size: int,
        pairs: tuple[int, int],
        seed: int,
        rank: int = 0,
        processes: int = 1,
        clip_share: float | None = None,
    ) -> None:
        self.buckets = _shared(_buckets(makers, weights, batch_size, clip_batch_size), clip_share)
        self.pairs, self.seed, self.stride = pairs, seed, max(batch_size, clip_batch_size)
        self.rank, self.processes = rank, processes

    def __getitem__(self, step: int) -> EpisodeBatch:
        """This process's part of a step."""
        pairs, bucket = self.plan(step)
        return collate([self.episode(bucket, number, pairs) for number in self.share(step, bucket)])

    def plan(self, step: int) -> tuple[int, "Bucket"]:
        """K and the bucket of a step."""
        low, high = self.pairs
        generator = torch.Generator().manual_seed(seed_from("pairs", self.seed, step))
        pairs = int(torch.randint(low, high + 1, (1,), generator=generator))
        rates = torch.tensor([bucket.rate for bucket in self.buckets])
        return pairs, self.buckets[int(torch.multinomial(rates, 1, generator=generator))]

    def share(self, step: int, bucket: "Bucket") -> range:
        """Numbers of this process's episodes of a step."""
        share = bucket.batch_size // self.processes
        first = step * self.stride + self.rank * share
        return range(first, first + share)

    def draw(self, bucket: "Bucket", number: int) -> tuple[EpisodeMaker, int, torch.Generator]:
        """The task of episode `number`, the episode's seed, and the generator that draws the rest of it."""
        seed = seed_from("episode", self.seed, number)
        generator = torch.Generator().manual_seed(seed)
        return bucket.makers[int(torch.multinomial(bucket.weights, 1, generator=generator))], seed, generator

    def episode(self, bucket: "Bucket", number: int, pairs: int) -> Episode:
        """Episode `number` of the stream."""
        maker, seed, generator = self.draw(bucket, number)
        query = maker.next_accepted(int(torch.randint(len(maker), (1,), generator=generator)))
        return maker.episode(query, pairs, seed, number=number)


@dataclass(frozen=True, eq=False)
class Bucket:
    """Tasks whose pictures have the same shape.

    Attributes:
        makers: Their episode makers, by name.
        weights: Their weights.
        batch_size: Episodes a step.
        rate: How often a step is theirs, relative to other buckets.
        clips: Whether some of their pictures are clips.
    """

    makers: list[EpisodeMaker]
    weights: Tensor
    batch_size: int
    rate: float
    clips: bool


def _buckets(
    makers: Mapping[str, EpisodeMaker], weights: Mapping[str, float], batch_size: int, clip_batch_size: int
) -> list[Bucket]:
    """Tasks by shape; a bucket's rate is its weight over its batch, since each of its steps brings that many."""
    shapes = sorted({(maker.task.input_frames, maker.task.target_frames) for maker in makers.values()})
    found = []
    for shape in shapes:
        names = [n for n in sorted(makers) if (makers[n].task.input_frames, makers[n].task.target_frames) == shape]
        own = torch.tensor([weights.get(name, 1.0) for name in names])
        size = batch_size if max(shape) == 1 else clip_batch_size
        if float(own.sum()) > 0:
            found.append(Bucket([makers[name] for name in names], own, size, float(own.sum()) / size, max(shape) > 1))
    return found


def _shared(buckets: list[Bucket], clip_share: float | None) -> list[Bucket]:
    """Buckets with rates that give clips their share of the steps; what gets none is left out."""
    if clip_share is None or len({bucket.clips for bucket in buckets}) == 1:
        return buckets
    totals = {clips: sum(b.rate for b in buckets if b.clips == clips) for clips in (False, True)}
    shares = {False: 1 - clip_share, True: clip_share}
    rated = [replace(b, rate=b.rate / totals[b.clips] * shares[b.clips]) for b in buckets]
    return [bucket for bucket in rated if bucket.rate > 0]


class StreamSampler(Sampler[int]):
    """Endless step numbers: first_step, first_step + 1, ...

    Args:
        first_step: Steps that are already done; where a resumed run goes on.
    """

    def __init__(self, first_step: int) -> None:
        self.first_step = first_step

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first_step)


class ShareSampler(Sampler[int]):
    """A process's share of a list of batches: rank, rank + processes, ...

    All processes get the same number, or those that train in step would wait for ever: where the list does not divide
    evenly, some batches come twice.

    Args:
        batches: Batches of the list.
        rank: This process.
        processes: How many there are.
    """

    def __init__(self, batches: int, rank: int, processes: int) -> None:
        self.batches, self.rank, self.processes = batches, rank, processes

    def __len__(self) -> int:
        return -(-self.batches // self.processes)

    def __iter__(self) -> Iterator[int]:
        return iter([(i * self.processes + self.rank) % self.batches for i in range(len(self))])


class EpisodeTest(Dataset[EpisodeBatch]):
    """A fixed list of test batches, each of one task and one draw of context.

    Args:
        maker: Episode maker of the task.
        samples: Number of queries: the first scenes of the split that the task accepts; None: all of them.
        batch_size: Queries a batch.
        pairs: K.
        seed: Seed of the context draw.
        draws: How often every query is asked, each time with another context.
    """

    def __init__(
        self, maker: EpisodeMaker, samples: int | None, batch_size: int, pairs: int, seed: int, draws: int = 1
    ) -> None:
        self.maker, self.pairs, self.seed, self.draws = maker, pairs, seed, draws
        # Where all are shown, a query that is one of them has a pair less than others.
        self.batch_size = 1 if maker.choice.whole else batch_size
        self.scenes = maker.accepted(len(maker) if samples is None else samples)

    def __len__(self) -> int:
        return self.draws * self._batches

    def __getitem__(self, index: int) -> EpisodeBatch:
        """Batch `index`: all queries of draw 0 come first, then those of draw 1, ..."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        draw, batch = divmod(index, self._batches)
        first = batch * self.batch_size
        numbers = range(first, min(first + self.batch_size, len(self.scenes)))
        episodes = [self.maker.episode(self.scenes[n], self.pairs, self.seed, draw, n) for n in numbers]
        return collate(episodes)

    @property
    def _batches(self) -> int:
        return -(-len(self.scenes) // self.batch_size)
