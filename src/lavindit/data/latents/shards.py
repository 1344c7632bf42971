"""Shards of stored episodes: plain tar files, read by the number of an episode.

An episode is a run of members with one key, as webdataset groups them: `KEY.inputs.npy`, `KEY.targets.npy` and, where
they are kept, `KEY.inputs_std.npy` and `KEY.targets_std.npy`, then `KEY.json`. The headers of the tar are its index.
Arrays are NumPy's format without pickles, so reading a shard cannot run code.
"""

import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.files import write_atomically

MEANS = ("inputs", "targets")
SPREADS = ("inputs_std", "targets_std")
REMEDY = "run the same `lavindit encode` again"


@dataclass(frozen=True, eq=False)
class StoredEpisode:
    """The latents of an episode's K + 1 pairs, the one that was made as the query coming last.

    Attributes:
        latents: Posterior means `inputs` [K+1, C, t, h, w] and `targets` [K+1, C, t', h, w], normalised; where they are
            kept, the standard deviations `inputs_std` and `targets_std`.
        sample_id: Sample id of the episode.
        scenes: Scene id of each pair.
    """

    latents: dict[str, Tensor]
    sample_id: str
    scenes: tuple[str, ...]


def write_shard(path: Path, keys: Sequence[str], episodes: Sequence[StoredEpisode], config_hash: str) -> None:
    """Write a shard, whole or not at all; the same episodes give the same bytes.

    Args:
        path: The file; replaced where it exists.
        keys: Of the episodes, without dots.
        episodes: What is in it.
        config_hash: Of the set that it belongs to.

    Raises:
        LavinditError: It cannot be written.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for key, episode in zip(keys, episodes, strict=True):
            parts = [(f"{name}.npy", _npy(latents)) for name, latents in episode.latents.items()]
            meta = {"config": config_hash, "sample_id": episode.sample_id, "scenes": list(episode.scenes)}
            meta["crc32"] = _checksum(meta, [data for _, data in parts])
            for suffix, data in [*parts, ("json", json.dumps(meta, sort_keys=True).encode())]:
                member = tarfile.TarInfo(f"{key}.{suffix}")  # of no time and no owner
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    write_atomically(path, content.getvalue())


class Shard:
    """A shard on disk. No file stays open, so that it may go to other processes.

    Args:
        path: The file.
        keys: Of the episodes that it must hold, in order.
        names: Of their latents.
        config_hash: Of the set that it must belong to.

    Raises:
        LavinditError: It is missing, cut short, or no such shard.
    """

    def __init__(self, path: Path, keys: Sequence[str], names: Sequence[str], config_hash: str) -> None:
        self.path, self.names, self.config_hash = path, tuple(names), config_hash
        try:
            with tarfile.open(path, "r:") as tar:
                members = tar.getmembers()
        except (OSError, tarfile.TarError) as error:
            raise self._damaged(getattr(error, "strerror", None) or str(error)) from error
        suffixes = [*(f"{name}.npy" for name in names), "json"]
        if [member.name for member in members] != [f"{key}.{suffix}" for key in keys for suffix in suffixes]:
            raise self._damaged(f"it does not hold the {len(keys)} episodes from {keys[0]} on")
        places = [(member.offset_data, member.size) for member in members]
        self._places = np.array(places, dtype=np.int64).reshape(len(keys), len(suffixes), 2)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[StoredEpisode]:
        return (self.read(place) for place in range(len(self)))

    def read(self, place: int) -> StoredEpisode:
        """The episode at a place, in the type it is stored in.

        Raises:
            LavinditError: Its bytes are not those that were written, or of another set.
        """
        parts = []
        try:
            with self.path.open("rb") as file:
                for start, size in self._places[place].tolist():
                    file.seek(start)
                    parts.append(file.read(size))
            meta = json.loads(parts.pop())
            found = meta.pop("crc32")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"episode {place} of it cannot be read") from error
        if found != _checksum(meta, parts):
            raise self._damaged(f"the checksum of its episode {place} is wrong")
        if meta["config"] != self.config_hash:
            raise self._damaged("it belongs to another set of latents")
        latents = {name: _tensor(data) for name, data in zip(self.names, parts, strict=True)}
        return StoredEpisode(latents, meta["sample_id"], tuple(meta["scenes"]))

    def _damaged(self, why: str) -> LavinditError:
        return LavinditError(f"the latents {self.path} are damaged: {why}; {REMEDY}")


def _checksum(meta: dict, parts: Sequence[bytes]) -> int:
    """CRC-32 of all that an episode holds."""
    found = zlib.crc32(json.dumps(meta, sort_keys=True).encode())
    for data in parts:
        found = zlib.crc32(data, found)
    return found


def _npy(latents: Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, latents.cpu().contiguous().numpy(), allow_pickle=False)
    return file.getvalue()


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))
