"""What the baseline trains on: the mixture's pictures for the tokenizer, its episodes as stored tokens for the decoder.

The stored episodes are those of `lavindit encode` with the same config, photographs, number and seed. The training
stream draws from them by the rule that the stream of stored latents has, batch for batch where batches are as large. A
set of tokens is a folder with one file `TASK.npz` a task and a `tokens.json` that says what they are of; a task that is
written is not written again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import yaml
from torch import Tensor

from autoregressive.model import Decoder, next_token_loss
from autoregressive.tokenizer import Tokenizer
from lavindit.cli.configs import expand_configs
from lavindit.data import EpisodeData, SourceConfig
from lavindit.data.episodes import EpisodeMaker, collate
from lavindit.data.latents import choose_places, share_out, stored_episode
from lavindit.data.latents.description import source_facts, stem_of, task_facts
from lavindit.data.mixture import EpisodeMixture, EpisodeTest
from lavindit.data.world import WORLD_VERSION
from lavindit.errors import LavinditError
from lavindit.files import new_file, write_atomically
from lavindit.flow.noise import seed_from
from lavindit.task import Task
from lavindit.training.protocols import has_clips

DESCRIPTION, UNFINISHED = "tokens.json", "unfinished_tokens.json"
EPISODES_A_PASS = 8
PARTS = ("inputs", "targets")
Progress = Callable[[int, int], None]


def read_data(config: str, photos: str | None = None) -> EpisodeData:
    """The data that a config describes.

    Args:
        config: A path, or the name of a shipped config.
        photos: Folder of photographs, in place of the config's.

    Raises:
        LavinditError: There is no such config, or it says of data what makes no sense.
    """
    merged: dict[str, Any] = {}
    for text in expand_configs(["--config", config])[1::2]:
        merged = _over(merged, yaml.safe_load(text).get("data") or {})
    merged.pop("latents", None)
    try:
        source = merged.get("source", {})
        merged["source"] = SourceConfig(**source if photos is None else source | {"photos": photos})
        return EpisodeData(**merged)
    except TypeError as error:
        raise LavinditError(f"the config {config} has data that cannot be used: {error}") from error


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings joined key by key, as configs are."""
    joined = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _over(joined[key], value) if both else value
    return joined


def image_tasks(data: EpisodeData) -> list[Task]:
    """Tasks that are trained and have no clips.

    Raises:
        LavinditError: There is none.
    """
    weights = data.training_weights()
    found = [task for task in data.trained_tasks if task.name in weights and not has_clips(task)]
    if not found:
        raise LavinditError("the config trains no task of images, and the autoregressive baseline has no clips")
    return found


def mixture_of(data: EpisodeData, tasks: list[Task], batch_size: int, pairs: tuple[int, int]) -> EpisodeMixture:
    """The training stream of tasks, weighted as in the data."""
    makers = {task.name: EpisodeMaker(task, "train", data.source) for task in tasks}
    return EpisodeMixture(makers, data.weights, batch_size, 1, pairs, data.seed)


class Pictures:
    """Pictures of the mixture, step by step: inputs and targets of single episodes, clips frame by frame.

    Args:
        data: The mixture; all of its trained tasks.
        count: Pictures a step.
    """

    def __init__(self, data: EpisodeData, count: int) -> None:
        weights = data.training_weights()
        tasks = [task for task in data.trained_tasks if task.name in weights]
        self.mixture, self.count = mixture_of(data, tasks, max(1, count // 2), (0, 0)), count

    def __getitem__(self, step: int) -> Tensor:
        """[B, 3, 1, H, W] in [0, 1]; of clips the step draws as many frames."""
        batch = self.mixture[step]
        frames = [part.flatten(0, 1).movedim(2, 1).flatten(0, 1) for part in (batch.inputs, batch.targets)]
        pictures = torch.cat(frames).unsqueeze(2)
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed_from("frames", step)))
        return pictures[order[: self.count]]


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Stored tokens.

    Attributes:
        description: What tokens.json says.
        tasks: By task, `inputs` and `targets` [E, K + 1, n] as uint16, and `scenes` [E, K + 1].
    """

    description: dict[str, Any]
    tasks: dict[str, dict[str, np.ndarray]]

    @classmethod
    def read(cls, folder: Path) -> "TokenSet":
        """Read a finished set.

        Raises:
            LavinditError: There is none, or a file is damaged.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise LavinditError(f"no tokens in {folder} ({DESCRIPTION} is missing); `autoregressive_train.py tokens`")
        try:
            description, tasks = json.loads(path.read_text()), {}
            for name, count in description["episodes"].items():
                with np.load(folder / f"{stem_of(name)}.npz", allow_pickle=False) as file:
                    tasks[name] = {key: file[key] for key in ("inputs", "targets", "scenes")}
                if len(tasks[name]["inputs"]) != count:
                    raise ValueError(f"{name} has {len(tasks[name]['inputs'])} episodes and not {count}")
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise LavinditError(
                f"the tokens in {folder} are damaged: {error}; delete them and write them again"
            ) from error
        return cls(description, tasks)


def describe_tokens(data: EpisodeData, tasks: list[Task], pairs: int, tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """What a set of tokens depends on, but for the number of its episodes."""
    return {
        "tasks": task_facts(tasks),
        "source": source_facts(data.source),
        "world_version": WORLD_VERSION,
        "pairs": pairs,
        "seed": data.seed,
        "tokenizer": dict(tokenizer),
    }


def write_tokens(
    tokenizer: Tokenizer,
    data: EpisodeData,
    folder: Path,
    episodes: int,
    identity: Mapping[str, Any],
    progress: Progress,
) -> dict[str, int]:
    """Write the mixture's episodes as tokens, task by task, or go on with it; K is the data's largest.

    Args:
        tokenizer: The tokenizer.
        data: The mixture; clips are left out.
        folder: Of the set.
        episodes: Of the whole mixture, shared out by the weights of all tasks as `lavindit encode` does.
        identity: What tells the tokenizer from others.
        progress: Told the episodes that are done, and of all.

    Returns:
        Episodes of each task.

    Raises:
        LavinditError: The folder holds other tokens, or a task fails.
    """
    tasks, pairs = image_tasks(data), data.pairs[1]
    every = share_out(episodes, data.training_weights())
    counts = {task.name: every[task.name] for task in tasks}
    said = describe_tokens(data, tasks, pairs, identity) | {"episodes": counts}
    if _is_finished(folder, said):
        return counts
    done = 0
    for task in tasks:
        file, count = folder / f"{stem_of(task.name)}.npz", counts[task.name]
        if not file.is_file():
            maker = EpisodeMaker(task, "train", data.source)
            told = partial(_tell, progress, done, sum(counts.values()))
            arrays: dict[str, Any] = _tokens_of(tokenizer, maker, pairs, data.seed, count, told)
            with new_file(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **arrays)
        done += count
    write_atomically(folder / DESCRIPTION, json.dumps(said, indent=2).encode())
    (folder / UNFINISHED).unlink()
    return counts


def use_of_codes(store: TokenSet) -> tuple[int, float]:
    """How many codes a set has, and their perplexity: as many as would be used, were all used alike."""
    counts = np.bincount(np.concatenate([stored[part].ravel() for stored in store.tasks.values() for part in PARTS]))
    shares = counts[counts > 0] / counts.sum()
    return len(shares), float(np.exp(-(shares * np.log(shares)).sum()))


def held_out_loss(tokenizer: Tokenizer, decoder: Decoder, data: EpisodeData, episodes: int) -> dict[str, float]:
    """Cross-entropy of the targets' tokens in validation episodes of the most pairs: by task, and "all"."""
    found: dict[str, float] = {}
    for task in image_tasks(data):
        maker = EpisodeMaker(task, "val", data.source)
        test, losses = EpisodeTest(maker, episodes, EPISODES_A_PASS, data.pairs[1], data.seed, 1), []
        for place in range(len(test)):
            tokens = [tokenizer.encode(part) for part in (test[place].inputs, test[place].targets)]
            losses += [float(next_token_loss(decoder, *tokens, on_targets=True))] * len(tokens[0])
        found[task.name] = sum(losses) / len(losses)
    return found | {"all": sum(found.values()) / len(found)}


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    """Tell the episodes of all tasks, by those of one."""
    progress(before + done, total)


def _is_finished(folder: Path, said: Mapping[str, Any]) -> bool:
    """Whether a folder has all tokens that are asked for; if not, it is marked as begun.

    Raises:
        LavinditError: It holds others.
    """
    found = next((folder / name for name in (DESCRIPTION, UNFINISHED) if (folder / name).is_file()), None)
    if found is not None and json.loads(found.read_text()) != json.loads(json.dumps(said)):
        raise LavinditError(f"{folder} holds tokens of other data, another tokenizer or number; choose another folder")
    if found is None:
        write_atomically(folder / UNFINISHED, json.dumps(said, indent=2).encode())
    return found == folder / DESCRIPTION


def _tokens_of(
    tokenizer: Tokenizer, maker: EpisodeMaker, pairs: int, seed: int, count: int, told: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """The arrays of one task."""
    parts: dict[str, list[np.ndarray]] = {"inputs": [], "targets": [], "scenes": []}
    for first in range(0, count, EPISODES_A_PASS):
        numbers = range(first, min(count, first + EPISODES_A_PASS))
        batch = collate([stored_episode(maker, pairs, seed, number) for number in numbers])
        parts["inputs"].append(tokenizer.encode(batch.inputs).numpy().astype(np.uint16))
        parts["targets"].append(tokenizer.encode(batch.targets).numpy().astype(np.uint16))
        shown = [[str(pair.meta["scene_id"]) for pair in (*e.pairs, e.query)] for e in batch.episodes]
        parts["scenes"].append(np.array(shown))
        told(numbers.stop)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


class TokenMixture:
    """The training stream of stored tokens.

    Args:
        mixture: The stream of the tasks.
        store: Their tokens.
    """

    def __init__(self, mixture: EpisodeMixture, store: TokenSet) -> None:
        self.mixture, self.store = mixture, store

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Tokens of inputs and targets, int64 [B, K + 1, n] each; the query comes last."""
        pairs, bucket = self.mixture.plan(step)
        rows = []
        for number in self.mixture.share(step, bucket):
            maker, _, generator = self.mixture.draw(bucket, number)
            stored = self.store.tasks[maker.task.name]
            episode = int(torch.randint(len(stored["inputs"]), (1,), generator=generator))
            places = choose_places(stored["scenes"][episode].tolist(), pairs, generator)
            rows.append([torch.from_numpy(stored[name][episode][places].astype(np.int64)) for name in PARTS])
        inputs, targets = (torch.stack(part) for part in zip(*rows, strict=True))
        return inputs, targets
