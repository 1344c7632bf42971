"""What a set of stored latents says of itself: latents.json."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from lavindit.data.latents.shards import MEANS, SPREADS
from lavindit.data.sources import SourceConfig
from lavindit.data.world import WORLD_VERSION
from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.models import STVAEConfig
from lavindit.models.released import model_folder
from lavindit.models.store import VAE_NAME
from lavindit.models.weights import file_sha256
from lavindit.task import Task

FORMAT, FORMAT_VERSION = "lavindit-latents", 1
Stored = Literal["float16", "float32"]
NAME, UNFINISHED_NAME = "latents.json", "unfinished.json"
AGAIN = "or run `lavindit encode` into another folder"

# Of the framework's scenes, what no training episode depends on.
FREE_OF_SOURCE = ("test_scenes", "test_clips", "max_bad_photos")


@dataclass(frozen=True)
class LatentsConfig:
    """Everything that decides what an episode of a set holds.

    Attributes:
        tasks: By name, the version and the frames of input and target.
        source: Options of the framework's scenes; of folders the name alone, since they may lie elsewhere.
        world_version: Version of the embedded world.
        pairs: K: context pairs of an episode, beside its query.
        seed: Seed of the episodes.
        std: Whether the posterior's standard deviations are kept beside its means.
        dtype: Type that latents are stored in: "float16" or "float32".
        precision: Type of the VAE's weights while it encoded.
        vae_sha256: Of the VAE's weight file, its statistics included.
        vae: Options of the VAE.
    """

    tasks: dict[str, dict[str, int]]
    source: dict[str, Any]
    world_version: int
    pairs: int
    seed: int
    std: bool
    dtype: str
    precision: str
    vae_sha256: str
    vae: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of an episode's latents."""
        return MEANS + SPREADS if self.std else MEANS

    @property
    def hash(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class LatentsDescription:
    """A set of stored latents.

    Attributes:
        config: What decides its content.
        episodes: Episodes of each task.
        shard_episodes: Episodes of a task's full shard; the last may hold fewer.
        shards: Size of each shard in bytes, by file name.
        statistics: By task, "input" or "target", "mean" or "std": the normalised means by channel, as stored.
    """

    config: LatentsConfig
    episodes: dict[str, int]
    shard_episodes: dict[str, int]
    shards: dict[str, int] = field(default_factory=dict)
    statistics: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def shard_of(self, task: str, number: int) -> range:
        """Numbers of the episodes that are in one shard with episode `number` of a task."""
        count, size = self.episodes[task], self.shard_episodes[task]
        first = number // size * size
        return range(first, min(first + size, count))

    def shards_of(self, task: str) -> list[range]:
        """Numbers of the episodes in each shard of a task."""
        return [self.shard_of(task, first) for first in range(0, self.episodes[task], self.shard_episodes[task])]

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "config_hash": self.config.hash} | asdict(self)
        write_atomically(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def read_description(folder: Path | str) -> LatentsDescription:
    """Read the latents.json of a finished set.

    Raises:
        LavinditError: There is none, it is not finished, or no such file.
    """
    folder = Path(folder)
    if (folder / UNFINISHED_NAME).is_file():
        raise LavinditError(f"the latents in {folder} are not finished; run the same `lavindit encode` again")
    if not (folder / NAME).is_file():
        raise LavinditError(f"no latents in {folder} ({NAME} is missing); `lavindit encode` writes them")
    return parse_description(folder / NAME)


def parse_description(path: Path) -> LatentsDescription:
    """Read a description, finished or not.

    Raises:
        LavinditError: It is of another format or version, or not as it was written.
    """
    try:
        content = json.loads(path.read_bytes())
        kind = (content.pop("format"), content.pop("format_version"))
        found = content.pop("config_hash")
        if kind != (FORMAT, FORMAT_VERSION):
            raise LavinditError(f"{path} is {kind[0]} of version {kind[1]}, which this lavindit does not read")
        description = LatentsDescription(LatentsConfig(**content.pop("config")), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LavinditError(f"{path} does not describe latents: {error}; {AGAIN}") from error
    if description.config.hash != found:
        raise LavinditError(f"{path} was changed by hand: its hash is not that of its config; {AGAIN}")
    return description


def stem_of(task: str) -> str:
    """What a task's shards and keys begin with: its name without dots, slashes and spaces."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", task)


def shard_name(task: str, first: int) -> str:
    """File name of the shard of a task that begins with episode `first`."""
    return f"{stem_of(task)}-{first:08d}.tar"


def keys_of(task: str, numbers: range) -> list[str]:
    """Keys of a task's episodes."""
    return [f"{stem_of(task)}-{number:08d}" for number in numbers]


def task_facts(tasks: Sequence[Task]) -> dict[str, dict[str, int]]:
    """What `LatentsConfig.tasks` says of tasks."""
    return {
        task.name: {"version": task.version, "input_frames": task.input_frames, "target_frames": task.target_frames}
        for task in tasks
    }


def source_facts(source: SourceConfig) -> dict[str, Any]:
    """What `LatentsConfig.source` says of scenes."""
    facts = {key: value for key, value in asdict(source).items() if key not in FREE_OF_SOURCE}
    for key in ("root", "photos"):
        facts[key] = None if facts[key] is None else Path(facts[key]).resolve().name
    return facts


def vae_hash(vae: Path | str) -> str:
    """SHA-256 of the VAE's weight file in a model directory or run folder.

    Raises:
        LavinditError: There is none.
    """
    path = model_folder(vae) / VAE_NAME
    try:
        return file_sha256(path)
    except OSError as error:
        raise LavinditError(f"cannot read {path}: {error.strerror or error}; name a model directory") from error


def latents_config(
    tasks: Sequence[Task],
    source: SourceConfig,
    pairs: int,
    seed: int,
    vae: STVAEConfig,
    vae_folder: Path,
    std: bool = False,
    dtype: Stored = "float16",
    precision: str = "float32",
) -> LatentsConfig:
    """Everything that decides what a set holds; the arguments are those of `LatentsConfig`.

    Raises:
        LavinditError: Two tasks would share their files, or there is no VAE.
    """
    stems = [stem_of(task.name) for task in tasks]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise LavinditError(f"two tasks would share the shards {twice[0]}-*.tar; rename one of them")
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(vae).items()}
    return LatentsConfig(
        tasks=task_facts(tasks),
        source=source_facts(source),
        world_version=WORLD_VERSION,
        pairs=pairs,
        seed=seed,
        std=std,
        dtype=dtype,
        precision=precision,
        vae_sha256=vae_hash(vae_folder),
        vae=options,
    )


def check_data(folder: Path, config: LatentsConfig, tasks: Sequence[Task], source: SourceConfig, pairs: int) -> None:
    """Refuse a set whose episodes are not those that a config's training would see.

    The seed need not agree, and the set may have more tasks and pairs: all of its episodes are of the training split.

    Args:
        folder: Of the set, for the message.
        config: Of the set.
        tasks: That will be trained.
        source: The framework's scenes, as the training has them.
        pairs: Largest K of the training.

    Raises:
        LavinditError: Something differs; the line names the first that does.
    """
    for name, facts in task_facts(tasks).items():
        stored = config.tasks.get(name)
        if stored is None:
            known = ", ".join(sorted(config.tasks))
            raise LavinditError(f"the latents in {folder} have no task {name} ({known}); leave it out, {AGAIN}")
        for key, value in facts.items():
            if stored[key] != value:
                what = f"task {name} has {key} {stored[key]}, here {value}"
                raise LavinditError(f"in the latents in {folder}, {what}; run `lavindit encode` into another folder")
    for key, value in source_facts(source).items():
        if config.source.get(key) != value:
            what = f"data.source.{key} {config.source.get(key)}, this config has {value}"
            raise LavinditError(f"the latents in {folder} were made with {what}; set it so, {AGAIN}")
    if config.world_version != WORLD_VERSION:
        what = f"version {config.world_version} of the embedded world, this is {WORLD_VERSION}"
        raise LavinditError(f"the latents in {folder} show {what}; run `lavindit encode` into another folder")
    if pairs > config.pairs:
        what = f"{config.pairs} pairs beside the query, this config asks for up to {pairs}"
        raise LavinditError(f"the latents in {folder} have {what}; set data.max_pairs {config.pairs}, {AGAIN}")


def first_difference(one: LatentsConfig, other: LatentsConfig) -> str | None:
    """The first thing that two configs differ in, in words; None where they agree."""
    for entry in fields(LatentsConfig):
        ours, theirs = getattr(one, entry.name), getattr(other, entry.name)
        if isinstance(ours, dict) and ours != theirs:
            key = next(key for key in sorted(ours | theirs) if ours.get(key) != theirs.get(key))
            return f"{entry.name}.{key} {ours.get(key)} and not {theirs.get(key)}"
        if ours != theirs:
            return f"{entry.name} {ours} and not {theirs}"
    return None
