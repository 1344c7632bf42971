"""The training mixture: an endless, seekable stream of batches over tasks."""

from collections.abc import Iterator, Mapping

import torch
from torch.utils.data import Dataset, Sampler

from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.flow.noise import seed_from
from lavindit.types import EpisodeBatch


class EpisodeMixture(Dataset[EpisodeBatch]):
    """Batch i of training is always the same: tasks, scenes, context and K come from (seed, i) alone.

    So a run that is resumed at batch i sees what an undisturbed run would have seen, and processes share a stream
    by taking every n-th batch. K is one for a batch, drawn from the range.

    Args:
        makers: Episode maker by task name.
        weights: Weight of each task; 1 where it is not named.
        batch_size: Episodes a batch.
        pairs: Smallest and largest K.
        seed: Seed of the stream.
        processes: Processes that share the stream; batches i of the same step get the same K.
    """

    def __init__(
        self,
        makers: Mapping[str, EpisodeMaker],
        weights: Mapping[str, float],
        batch_size: int,
        pairs: tuple[int, int],
        seed: int,
        processes: int = 1,
    ) -> None:
        self.makers = [makers[name] for name in sorted(makers)]
        self.weights = torch.tensor([weights.get(name, 1.0) for name in sorted(makers)])
        self.batch_size, self.pairs, self.seed, self.processes = batch_size, pairs, seed, processes

    def __getitem__(self, index: int) -> EpisodeBatch:
        """Batch `index`."""
        step_seed = seed_from("pairs", self.seed, index // self.processes)
        low, high = self.pairs
        k = int(torch.randint(low, high + 1, (1,), generator=torch.Generator().manual_seed(step_seed)))
        seed = seed_from("batch", self.seed, index)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, self.batch_size, replacement=True, generator=generator).tolist()
        episodes = []
        for place, which in enumerate(chosen):
            maker = self.makers[which]
            query = int(torch.randint(len(maker), (1,), generator=generator))
            episodes.append(maker.episode(query, k, seed_from(seed, place)))
        return collate(episodes)


class StreamSampler(Sampler[int]):
    """Endless batch numbers of one process: start, start + processes, start + 2 processes, ...

    Args:
        first_step: Steps that are already done; where a resumed run goes on.
        rank: This process.
        processes: How many there are.
    """

    def __init__(self, first_step: int, rank: int = 0, processes: int = 1) -> None:
        self.first_step, self.rank, self.processes = first_step, rank, processes

    def __iter__(self) -> Iterator[int]:
        step = self.first_step
        while True:
            yield step * self.processes + self.rank
            step += 1


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
