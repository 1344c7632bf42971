"""Compiled prompts: pairs that a model has read once, for any number of queries."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.inference.presets import Settings
from lavindit.inference.sampler import ReadPairs, can_read_once
from lavindit.models import JDiT
from lavindit.models.jdit import JDiTConfig
from lavindit.models.jdit.cost import cache_bytes
from lavindit.task import Task
from lavindit.types import Codec, Pair

GIB = 2**30


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is left of a task's pairs once a model has read them.

    Attributes:
        task: The task that they show.
        codec: Of the pairs, and of every answer.
        pairs: The pairs as pictures, for reports.
        read: Keys and values of every block, batch 1.
        settings: What it was compiled with; sampling may be chosen anew with each query, the rest is fixed.
        named: What the task was named by: its registered name, plugin file or folder; None for one that was handed over
            as an object.
    """

    task: Task
    codec: Codec
    pairs: tuple[Pair, ...]
    read: ReadPairs
    settings: Settings
    named: str | None = None

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return self.read.bytes


class PromptStore:
    """Prompts in memory, by name, no more than a limit of bytes; the one that was asked least recently goes first.

    Args:
        limit_bytes: Of keys and values, all prompts together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prompts)

    def __contains__(self, name: str) -> bool:
        return name in self._prompts

    def __getitem__(self, name: str) -> Prompt:
        self._prompts.move_to_end(name)
        return self._prompts[name]

    @property
    def bytes(self) -> int:
        """Of all prompts together."""
        return sum(prompt.bytes for prompt in self._prompts.values())

    def add(self, name: str, prompt: Prompt) -> list[str]:
        """Keep a prompt, in the place of one of that name.

        Returns:
            The names of those that had to go.

        Raises:
            LavinditError: It alone is larger than the limit; nothing has changed.
        """
        if prompt.bytes > self.limit_bytes:
            raise LavinditError(
                f"the prompt {name!r} takes {prompt.bytes / GIB:.2f} GiB, the store holds "
                f"{self.limit_bytes / GIB:.2f} GiB: fewer pairs, or a larger limit"
            )
        self._prompts.pop(name, None)
        gone = []
        while self.bytes + prompt.bytes > self.limit_bytes:
            gone.append(self._prompts.popitem(last=False)[0])
        self._prompts[name] = prompt
        return gone


def pair_of_pictures(shown: Tensor, answer: Tensor) -> Pair:
    """A pair of which the pictures [3, T, H, W] and [3, T', H, W] alone are known; they stand for the truth, too."""
    return Pair(shown, answer, native=answer, valid=torch.ones_like(answer[:1], dtype=torch.bool))


def check_compiles(model: JDiT) -> None:
    """Refuse a model of which nothing can be kept.

    Raises:
        LavinditError: Its context sees the noise.
    """
    if not can_read_once(model):
        raise LavinditError(
            "this model has context_attention: joint: its pairs see the noise, so nothing of them can be kept; "
            "fine-tune it with `lavindit fit --config experiment/causal_from_joint.yaml`"
        )


def check_memory(config: JDiTConfig, frames: int, side_px: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse pairs that do not fit into the memory that is free.

    Args:
        config: Of the model.
        frames: Latent frames of all pairs.
        side_px: Side of the model's square.
        dtype: Of the model's weights.
        device: Where it runs.

    Raises:
        LavinditError: They need more.
    """
    tokens = (side_px // 8 // config.patch) ** 2
    needed, free = cache_bytes(config, frames, tokens, dtype.itemsize), free_bytes(device)
    if free is not None and needed > free:
        raise LavinditError(
            f"the pairs take {needed / GIB:.1f} GiB as keys and values, {free / GIB:.1f} GiB is free: "
            "fewer --pairs or a smaller --resolution"
        )


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
