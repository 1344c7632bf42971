"""Protocols of the benchmark: how many queries, draws and pairs, under a fixed name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lavindit.errors import LavinditError
from lavindit.inference.presets import FEW_PAIRS, usual_pairs
from lavindit.task import Task, all_tasks
from lavindit.task.registry import BUILT_IN


@dataclass(frozen=True)
class Protocol:
    """How a model is tested; figures compare only within one protocol.

    Attributes:
        name: What it is called; where single values were changed, it says which.
        images: Queries of a task of images: the first test scenes that the task accepts.
        clips: Queries of a task of clips.
        draws: How often each is asked, every time with other pairs and other noise.
        scenes: Training scenes that pairs are drawn from.
        scene_clips: Training clips that pairs are drawn from.
        pairs: Pairs shown with each query.
        seed: Seed of queries, contexts and noise.
    """

    name: str
    images: int
    clips: int
    draws: int
    scenes: int
    scene_clips: int
    pairs: int = FEW_PAIRS
    seed: int = 0

    def queries(self, task: Task) -> int:
        """Queries of a task."""
        return self.clips if has_clips(task) else self.images


PROTOCOLS = {
    "quick": Protocol("quick", images=24, clips=8, draws=2, scenes=256, scene_clips=64),
    "full": Protocol("full", images=200, clips=200, draws=3, scenes=1024, scene_clips=256),
}


def choose_protocol(name: str, info: Mapping[str, Any], **changes: int | None) -> Protocol:
    """A protocol by name, for a model, with single values changed.

    Args:
        name: "quick" or "full".
        info: The model directory's info: a model that was trained with 8 pairs or more is shown 8, another 4.
        **changes: `n` (queries of every task), `pairs`, `draws`, `seed`; None: as the protocol says.

    Raises:
        LavinditError: There is no such protocol, or a value makes no sense.
    """
    if name not in PROTOCOLS:
        raise LavinditError(f"unknown protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    protocol = replace(PROTOCOLS[name], pairs=usual_pairs(info))
    said = {key: value for key, value in changes.items() if value is not None}
    for key, value in said.items():
        if value < (0 if key == "seed" else 1):
            raise LavinditError(f"--{key} must be at least {0 if key == 'seed' else 1}, got {value}")
    count = said.pop("n", None)
    changed = replace(protocol, **said, **({} if count is None else {"images": count, "clips": count}))
    differing = [key for key, value in asdict(changed).items() if value != getattr(protocol, key)]
    if not differing:
        return protocol
    return replace(changed, name=f"{name} with {', '.join(f'{key} {getattr(changed, key)}' for key in differing)}")


def built_in_tasks() -> list[str]:
    """Names of the tasks that come with the framework, in order."""
    return [name for name, task in all_tasks().items() if type(task).__module__.split(".")[0] == BUILT_IN]


def has_clips(task: Task) -> bool:
    """Whether a task has clips as input or target."""
    return max(task.input_frames, task.target_frames) > 1
