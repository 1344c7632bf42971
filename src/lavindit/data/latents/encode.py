"""From a mixture of tasks and a VAE to a set of stored latents."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.data.latents.description import (
    NAME,
    UNFINISHED_NAME,
    LatentsConfig,
    LatentsDescription,
    first_difference,
    keys_of,
    parse_description,
    shard_name,
)
from lavindit.data.latents.shards import MEANS, Shard, StoredEpisode, write_shard
from lavindit.errors import LavinditError
from lavindit.flow.noise import seed_from
from lavindit.models import STVAE
from lavindit.models.stvae.statistics import LatentMoments
from lavindit.types import Episode, EpisodeBatch

DTYPES = {"float16": torch.float16, "float32": torch.float32}
SHARD_EPISODES, SHARD_BYTES = 256, 64 * 2**20
"""A shard holds at most so many episodes, and so many bytes where one episode is not more."""

Moments = dict[str, LatentMoments]


def share_out(episodes: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Divide a number of episodes among tasks by their weights, to the nearest whole ones; each gets at least one.

    Raises:
        LavinditError: There are fewer than tasks.
    """
    if episodes < len(weights):
        raise LavinditError(f"{episodes} episodes are too few for {len(weights)} tasks; ask for {len(weights)} or more")
    spare, total = episodes - len(weights), sum(weights.values())
    exact = {name: spare * weight / total for name, weight in weights.items()}
    counts = {name: 1 + math.floor(value) for name, value in exact.items()}
    order = sorted(weights, key=lambda name: (math.floor(exact[name]) - exact[name], name))
    for name in order[: episodes - sum(counts.values())]:
        counts[name] += 1
    return counts


def stored_episode(maker: EpisodeMaker, pairs: int, seed: int, number: int) -> Episode:
    """Episode `number` of a task in a set; it does not depend on how many there are, or on other tasks."""
    own_seed = seed_from("latents", seed, maker.task.name, number)
    drawn = torch.randint(len(maker), (1,), generator=torch.Generator().manual_seed(own_seed))
    return maker.episode(maker.next_accepted(int(drawn)), pairs, own_seed, number=number)


@torch.no_grad()
def encode_pictures(vae: STVAE, pictures: Tensor, std: bool) -> list[Tensor]:
    """Normalised posterior means of pictures [..., 3, T, H, W] in [0, 1], and with `std` the standard deviations.

    Returns:
        One or two float32 tensors [..., C, t, h, w], on the CPU.
    """
    posterior = vae.encode(pictures.flatten(0, -5).to(vae.latent_shift.device) * 2 - 1)
    shift, scale = (values[:, None, None, None] for values in (vae.latent_shift, vae.latent_scale))
    found = [(posterior.mean - shift) * scale]
    if std:
        found.append((0.5 * posterior.logvar).exp() * scale)
    return [part.cpu().unflatten(0, pictures.shape[:-4]) for part in found]


class LatentWriter:
    """Writes a set of latents, shard by shard, and goes on where it was interrupted.

    A folder is a finished set once it holds latents.json; until then it holds unfinished.json. Shards that are there
    and whole are kept. More episodes than a finished set has make it longer; its episodes stay as they are.

    Args:
        vae: The VAE, in eval mode, on the device that it is to run on.
        config: What decides the content.
        makers: Makers of training episodes, by task.
        folder: Of the set.
        episodes: Episodes of each task.
        batch_size: Episodes a pass of the VAE.
        workers: Processes that make episodes; 0: this one.
        shard_bytes: About the size of a shard.

    Raises:
        LavinditError: The folder holds another set.
    """

    def __init__(
        self,
        vae: STVAE,
        config: LatentsConfig,
        makers: Mapping[str, EpisodeMaker],
        folder: Path,
        episodes: Mapping[str, int],
        batch_size: int = 8,
        workers: int = 0,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.vae, self.makers, self.folder = vae, makers, folder
        self.batch_size, self.workers = batch_size, workers
        sizes = {name: self._episode_bytes(config, name) for name in config.tasks}
        full = {name: max(1, min(SHARD_EPISODES, shard_bytes // size)) for name, size in sizes.items()}
        self.plan = LatentsDescription(config, dict(episodes), full)
        self.total = sum(self.plan.episodes.values())
        found = next((folder / name for name in (NAME, UNFINISHED_NAME) if (folder / name).is_file()), None)
        if found is not None:
            self._join(parse_description(found))
        elif any(folder.glob("*.tar")):
            raise LavinditError(f"{folder} holds tar files, but no latents; choose another folder")

    def run(self, progress: Callable[[int, int], None] | None = None) -> LatentsDescription:
        """Write what is missing.

        Args:
            progress: Told the number of episodes that are done, and of all, again and again.

        Raises:
            LavinditError: A task fails on a scene, latents are not finite, or the disk is full.
        """
        self._remove_leftovers()
        measured: dict[str, Moments] = {}
        missing: list[tuple[str, range]] = []
        for task in self.plan.config.tasks:
            for numbers in self.plan.shards_of(task):
                kept = self._measure(task, numbers)
                if kept is None:
                    missing.append((task, numbers))
                else:
                    measured[shard_name(task, numbers.start)] = kept
        if missing or not (self.folder / NAME).is_file():
            self.plan.write(self.folder / UNFINISHED_NAME)
            (self.folder / NAME).unlink(missing_ok=True)
        self._write(missing, measured, progress)
        return self._finish(measured)

    def _join(self, found: LatentsDescription) -> None:
        """Go on with a set that is there already."""
        difference = first_difference(found.config, self.plan.config)
        if difference is not None:
            raise LavinditError(f"{self.folder} holds latents with {difference}; choose another folder, or delete it")
        longer = {name: max(count, found.episodes[name]) for name, count in self.plan.episodes.items()}
        self.plan = replace(self.plan, episodes=longer, shard_episodes=found.shard_episodes)
        self.total = sum(longer.values())

    def _remove_leftovers(self) -> None:
        """What a killed process left under temporary names."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _open(self, task: str, numbers: range) -> Shard:
        config = self.plan.config
        path = self.folder / shard_name(task, numbers.start)
        return Shard(path, keys_of(task, numbers), config.names, config.hash)

    def _measure(self, task: str, numbers: range) -> Moments | None:
        """Moments of a shard's inputs and targets, read back and checked; None where it has to be written."""
        moments = {name: LatentMoments(self.vae.config.latent_channels) for name in MEANS}
        if not (self.folder / shard_name(task, numbers.start)).is_file():
            return None
        try:
            for episode in self._open(task, numbers):
                for name, found in moments.items():
                    found.update(episode.latents[name])
        except LavinditError:
            return None
        return moments

    def _write(
        self,
        missing: Sequence[tuple[str, range]],
        measured: dict[str, Moments],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        config, size = self.plan.config, self.batch_size
        work = [(t, n[i : i + size]) for t, n in missing for i in range(0, len(n), size)]
        batches = _Batches(self.makers, work, config.pairs, config.seed)
        loader = iter(DataLoader(batches, batch_size=None, num_workers=self.workers))
        done = self.total - sum(len(numbers) for _, numbers in missing)
        for task, numbers in missing:
            stored: list[StoredEpisode] = []
            while len(stored) < len(numbers):
                found = self._encode(next(loader))
                stored += found
                done += len(found)
                if progress is not None:
                    progress(done, self.total)
            name = shard_name(task, numbers.start)
            write_shard(self.folder / name, keys_of(task, numbers), stored, config.hash)
            written = self._measure(task, numbers)
            if written is None:
                raise LavinditError(f"{self.folder / name} is not what was written to it; look after the disk")
            measured[name] = written

    def _encode(self, batch: EpisodeBatch) -> list[StoredEpisode]:
        """The episodes of a batch as they are stored."""
        config = self.plan.config
        parts = zip(
            *(encode_pictures(self.vae, pictures, config.std) for pictures in (batch.inputs, batch.targets)),
            strict=True,
        )
        latents = [part.to(DTYPES[config.dtype]) for pair in parts for part in pair]
        if not all(bool(part.isfinite().all()) for part in latents):
            hint = "; try --dtype float32" if config.dtype == "float16" else ""
            raise LavinditError(f"latents of task {batch.tasks[0]} are not finite in {config.dtype}{hint}")
        return [
            StoredEpisode(
                {name: part[row] for name, part in zip(config.names, latents, strict=True)},
                episode.sample_id,
                tuple(pair.meta["scene_id"] for pair in (*episode.pairs, episode.query)),
            )
            for row, episode in enumerate(batch.episodes)
        ]

    def _finish(self, measured: Mapping[str, Moments]) -> LatentsDescription:
        statistics = {}
        for task in self.plan.config.tasks:
            joined = {name: LatentMoments(self.vae.config.latent_channels) for name in MEANS}
            for numbers in self.plan.shards_of(task):
                for name, found in joined.items():
                    found.merge(measured[shard_name(task, numbers.start)][name])
            statistics[task] = {
                name.removesuffix("s"): {"mean": found.mean.tolist(), "std": found.std.tolist()}
                for name, found in joined.items()
            }
        sizes = {name: (self.folder / name).stat().st_size for name in sorted(measured)}
        description = replace(self.plan, shards=sizes, statistics=statistics)
        description.write(self.folder / NAME)
        (self.folder / UNFINISHED_NAME).unlink(missing_ok=True)
        return description

    def _episode_bytes(self, config: LatentsConfig, name: str) -> int:
        """Bytes of an episode's latents."""
        side, facts = config.source["resolution"] // 8, config.tasks[name]
        frames = sum((facts[f"{part}_frames"] - 1) // 4 + 1 for part in ("input", "target"))
        values = (config.pairs + 1) * self.vae.config.latent_channels * frames * side**2
        return values * DTYPES[config.dtype].itemsize * (2 if config.std else 1)


class _Batches(Dataset[EpisodeBatch]):
    """Episodes that are encoded together."""

    def __init__(
        self, makers: Mapping[str, EpisodeMaker], work: Sequence[tuple[str, range]], pairs: int, seed: int
    ) -> None:
        self.makers, self.work, self.pairs, self.seed = makers, work, pairs, seed

    def __len__(self) -> int:
        return len(self.work)

    def __getitem__(self, index: int) -> EpisodeBatch:
        task, numbers = self.work[index]
        return collate([stored_episode(self.makers[task], self.pairs, self.seed, number) for number in numbers])
