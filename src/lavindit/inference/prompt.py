"""Compiled prompts: pairs that a model has read once, for any number of queries."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.inference.presets import Settings
from lavindit.inference.sampler import ReadPairs, can_read_once
from lavindit.models import STVAE, JDiT
from lavindit.models.jdit import JDiTConfig
from lavindit.models.jdit.cost import cache_bytes
from lavindit.task import Task
from lavindit.types import Codec, Pair

UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


@dataclass(frozen=True, eq=False, repr=False)
class Prompt:
    """What is left of a task's pairs once a model has read them.

    Attributes:
        task: The task that they show.
        codec: Of the pairs, and of every answer.
        pairs: The pairs as pictures, for reports.
        read: Keys and values of every block, batch 1.
        settings: What it was compiled with; sampling may be chosen anew with each query, the rest is fixed.
        model: `mark_model` of the model that read them.
        named: What the task was named by: its registered name, plugin file or folder; None for one that was handed over
            as an object.
    """

    task: Task
    codec: Codec
    pairs: tuple[Pair, ...]
    read: ReadPairs
    settings: Settings
    model: str
    named: str | None = None

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return self.read.bytes

    def __repr__(self) -> str:
        """What it is; its numbers would fill the screen."""
        shown = f"task={self.task.name!r}, pairs={len(self.pairs)}, resolution={self.settings.resolution}"
        memory = f"{in_units(self.bytes)} of {name_of(self.read.pairs.keys.dtype)}"
        return f"Prompt({shown}, codec={self.codec.name!r}, {memory})"


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
        """The prompt of a name.

        Raises:
            LavinditError: There is none, or it had to go.
        """
        if name not in self._prompts:
            held = ", ".join(map(repr, self._prompts)) or "nothing"
            raise LavinditError(
                f"no prompt {name!r} in the store, which holds {held}: add it again; of more than "
                f"{in_units(self.limit_bytes)} the one that was asked least recently goes"
            )
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
                f"the prompt {name!r} takes {in_units(prompt.bytes)}, the store holds "
                f"{in_units(self.limit_bytes)}: fewer pairs, or a larger limit"
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


def mark_model(vae: STVAE, jdit: JDiT) -> str:
    """What tells models apart at once, on whatever device: their options and the first number of each tensor.

    Cheap enough for every call. A file is held against `fingerprint`, which looks at every number.
    """
    tensors = [value for network in (vae, jdit) for value in network.state_dict().values()]
    first = torch.stack([value.detach()[(0,) * value.ndim].float() for value in tensors])
    return hashlib.sha256(repr((vae.config, jdit.config)).encode() + first.cpu().numpy().tobytes()).hexdigest()


def check_asked(prompt: Prompt, vae: STVAE, jdit: JDiT) -> None:
    """Refuse a prompt that a model cannot go on from.

    Raises:
        LavinditError: Another model compiled it, or this one in another type or on another device.
    """
    keys, weights = prompt.read.pairs.keys, next(jdit.parameters())
    if keys.dtype != weights.dtype:
        raise LavinditError(
            f"the prompt was compiled in {name_of(keys.dtype)}, this model is loaded in {name_of(weights.dtype)}: load "
            f"it with dtype=torch.{name_of(keys.dtype)}, or compile the prompt again"
        )
    if prompt.model != mark_model(vae, jdit):
        raise LavinditError("the prompt was compiled by another model: ask that one, or compile it again with this one")
    if keys.device != weights.device:
        raise LavinditError(
            f"the prompt lies on {keys.device}, this model on {weights.device}: compile it there, or write it with "
            "save_prompt and read it with load_prompt"
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
            f"the pairs take {in_units(needed)} as keys and values, {in_units(free)} is free: "
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


def in_units(count: int) -> str:
    """Bytes in the largest unit of which there is one: "3.20 GiB", "512.00 KiB", "12 bytes"."""
    for unit, size in UNITS:
        if count >= size:
            return f"{count / size:,.2f} {unit}"
    return f"{count} bytes"


def name_of(dtype: torch.dtype) -> str:
    """A type's name without torch's: "float32"."""
    return str(dtype).removeprefix("torch.")
