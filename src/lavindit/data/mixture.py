"""The training mixture: an endless, seekable stream of batches over tasks."""

import itertools
from collections.abc import Iterator, Mapping

import torch
from torch.utils.data import Dataset, Sampler

from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.flow.noise import seed_from
from lavindit.types import Episode, EpisodeBatch


class EpisodeMixture(Dataset[EpisodeBatch]):
    """Episode e of training is always the same: task, scene, context come from (seed, e) alone, K from (seed, step).

    Step i holds episodes i B to (i + 1) B - 1, shared evenly by the processes. So a run sees the same episodes however
    many processes there are, and one that is resumed at step i sees what an undisturbed one would have seen.

    Args:
        makers: Episode maker by task name.
        weights: Weight of each task; 1 where it is not named.
        batch_size: Episodes a step, B, over all processes.
        pairs: Smallest and largest K.
        seed: Seed of the stream.
        rank: This process.
        processes: How many there are.
    """

    def __init__(
        self,
        makers: Mapping[str, EpisodeMaker],
        weights: Mapping[str, float],
        batch_size: int,
        pairs: tuple[int, int],
        seed: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.makers = [makers[name] for name in sorted(makers)]
        self.weights = torch.tensor([weights.get(name, 1.0) for name in sorted(makers)])
        self.pairs, self.seed = pairs, seed
        self.batch_size, self.share, self.rank = batch_size, batch_size // processes, rank

    def __getitem__(self, step: int) -> EpisodeBatch:
        """This process's part of a step."""
        low, high = self.pairs
        generator = torch.Generator().manual_seed(seed_from("pairs", self.seed, step))
        pairs = int(torch.randint(low, high + 1, (1,), generator=generator))
        first = step * self.batch_size + self.rank * self.share
        return collate([self.episode(number, pairs) for number in range(first, first + self.share)])

    def episode(self, number: int, pairs: int) -> Episode:
        """Episode `number` of the stream."""
        seed = seed_from("episode", self.seed, number)
        generator = torch.Generator().manual_seed(seed)
        maker = self.makers[int(torch.multinomial(self.weights, 1, generator=generator))]
        query = int(torch.randint(len(maker), (1,), generator=generator))
        return maker.episode(query, pairs, seed)


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
    """A fixed list of test batches, each of one task.

    Args:
        maker: Episode maker of the task.
        samples: Number of queries: scenes 0 .. samples - 1 of the split.
        batch_size: Queries a batch.
        pairs: K.
        seed: Seed of the context draw.
    """

    def __init__(self, maker: EpisodeMaker, samples: int, batch_size: int, pairs: int, seed: int) -> None:
        self.maker, self.batch_size, self.pairs, self.seed = maker, batch_size, pairs, seed
        self.samples = min(samples, len(maker))

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __getitem__(self, index: int) -> EpisodeBatch:
        """Batch `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * self.batch_size
        queries = range(first, min(first + self.batch_size, self.samples))
        return collate([self.maker.episode(query, self.pairs, self.seed) for query in queries])
