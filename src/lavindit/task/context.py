"""How the pairs that show a task are chosen: one component, named by one text.

`random` draws them, `nearest` takes the scenes that look most like the query, `fixed:3,1,8` those of these numbers, in
this order, and `all` every scene there is.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lavindit.errors import LavinditError, describe_failure, file_of
from lavindit.task.contract import Task
from lavindit.types import Scene, Source

CHOICES = ("random", "nearest", "all", "fixed:I,J,...")
LARGEST_CONTEXT = 64
"""Most pairs that `all` takes: attention grows with their square."""

POOL = 256
"""Scenes among which `nearest` looks, of a larger source."""

MOST_REFUSED = 2000
"""Scenes that a task may refuse in a row before the search ends."""


class ContextChoice(ABC):
    """The order in which scenes are offered as context.

    Attributes:
        by_query: Whether the order depends on the query.
        whole: Whether all that are offered are shown, however many were asked for.
    """

    by_query: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    @abstractmethod
    def order(
        self, task: Task, source: Source, candidates: Sequence[int], generator: torch.Generator, query: Tensor | None
    ) -> Iterable[int]:
        """Scene numbers among `candidates`, the best first; `query` is the picture [3, T, H, W] that is asked about."""


class RandomContext(ContextChoice):
    """Scenes in random order.

    Args:
        replacement: Offer the same scene again and again, as the release does.
    """

    def __init__(self, replacement: bool = False) -> None:
        self.replacement = replacement

    def order(
        self, task: Task, source: Source, candidates: Sequence[int], generator: torch.Generator, query: Tensor | None
    ) -> Iterator[int]:
        """A permutation, or an endless draw."""
        if not self.replacement:
            yield from (candidates[i] for i in torch.randperm(len(candidates), generator=generator).tolist())
        while self.replacement:
            yield candidates[int(torch.randint(len(candidates), (), generator=generator))]


class NearestContext(ContextChoice):
    """Scenes whose inputs look most like the query, by `look` of their pictures.

    Of more than `POOL` candidates, a fixed subset of that many is looked at.
    """

    by_query = True

    def __init__(self) -> None:
        self._looks: dict[tuple[int, int], Tensor] = {}

    def order(
        self, task: Task, source: Source, candidates: Sequence[int], generator: torch.Generator, query: Tensor | None
    ) -> list[int]:
        """By cosine distance, the nearest first."""
        assert query is not None
        pool = list(candidates)
        if len(pool) > POOL:
            chosen = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:POOL]
            pool = [pool[i] for i in chosen.sort().values.tolist()]
        wanted = look(query)
        looks = torch.stack([self._look_at(task, source, index) for index in pool])
        return [pool[i] for i in (looks @ wanted).argsort(descending=True, stable=True).tolist()]

    def _look_at(self, task: Task, source: Source, index: int) -> Tensor:
        key = (id(source), index)
        if key not in self._looks:
            scene = source[index]
            # A scene that will be refused has no input; it may stand anywhere.
            found = look(plain_input(task, scene)) if accepts(task, scene) else None
            self._looks[key] = torch.zeros(LOOK_SIZE) if found is None else found
        return self._looks[key]


class FixedContext(ContextChoice):
    """The scenes of these numbers, in this order, but for the query's own."""

    whole = True

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = tuple(numbers)

    def order(
        self, task: Task, source: Source, candidates: Sequence[int], generator: torch.Generator, query: Tensor | None
    ) -> list[int]:
        """The list."""
        if max(self.numbers) >= len(source):
            raise LavinditError(f"context fixed:{max(self.numbers)} names no scene; there are 0 to {len(source) - 1}")
        offered = set(candidates)
        return [number for number in self.numbers if number in offered]


class AllContext(ContextChoice):
    """Every scene, in order."""

    whole = True

    def order(
        self, task: Task, source: Source, candidates: Sequence[int], generator: torch.Generator, query: Tensor | None
    ) -> Sequence[int]:
        """All candidates."""
        return candidates


def parse_context(text: str) -> ContextChoice:
    """The choice that a text names.

    Raises:
        LavinditError: It names none.
    """
    kind, _, rest = text.partition(":")
    if kind == "fixed":
        numbers = [part.strip() for part in rest.split(",") if part.strip()]
        if numbers and all(number.isdigit() for number in numbers):
            return FixedContext([int(number) for number in numbers])
        raise LavinditError(f"context {text!r} names no scenes; write fixed:3,1,8")
    known = {"random": RandomContext, "nearest": NearestContext, "all": AllContext}
    if text not in known:
        raise LavinditError(f"unknown context {text!r}; there are {', '.join(CHOICES)}")
    return known[text]()


def choose_scenes(
    choice: ContextChoice,
    task: Task,
    source: Source,
    pairs: int,
    generator: torch.Generator,
    exclude: str | None = None,
    group: int | None = None,
    query: Tensor | None = None,
) -> list[Scene]:
    """Choose the scenes of `pairs` context pairs, never the one named `exclude`.

    Args:
        choice: How.
        task: Scenes that it does not accept are passed over.
        source: Where they come from.
        pairs: How many; a choice that is `whole` shows all it offers instead.
        generator: Source of all that is random.
        exclude: Name of the query's scene.
        group: The query's group, where its source has groups.
        query: The query's picture [3, T, H, W], for a choice that looks at it.

    Raises:
        LavinditError: There are too few.
    """
    if pairs == 0:
        return []
    candidates = range(len(source)) if group is None else _members(source, group)
    found: list[Scene] = []
    refused: set[int] = set()
    in_a_row = 0
    for index in choice.order(task, source, candidates, generator, query) if candidates else ():
        scene = None if index in refused else source[index]
        if scene is None or scene.scene_id == exclude or not accepts(task, scene):
            refused.add(index)
            in_a_row += 1
        else:
            found.append(scene)
            in_a_row = 0
        if not choice.whole and len(found) == pairs:
            return found
        if choice.whole and len(found) > LARGEST_CONTEXT:
            raise LavinditError(
                f"the context of task {task.name} would be more than {LARGEST_CONTEXT} pairs; use random or nearest"
            )
        if len(refused) == len(candidates) or in_a_row == MOST_REFUSED:
            break
    if choice.whole and found:
        return found
    raise LavinditError(
        f"task {task.name} can show {len(found)} pairs beside the query, {pairs} were asked for; ask for fewer "
        "(--pairs, in Python pairs=; in fit and test data.max_pairs, data.eval_pairs) or add some"
    )


def accepts(task: Task, scene: Scene) -> bool:
    """`task.accepts`; whatever goes wrong names the task and the scene."""
    try:
        return task.accepts(scene)
    except LavinditError:
        raise
    except Exception as error:
        what = describe_failure(error, file_of(task))
        raise LavinditError(f"task {task.name} fails to accept or refuse scene {scene.scene_id}: {what}") from error


def group_of(source: Source, index: int) -> int | None:
    """The group of a scene, None where its source has no groups."""
    ask = getattr(source, "group_of", None)
    return None if ask is None else ask(index)


def _members(source: Source, group: int) -> list[int]:
    return [index for index in range(len(source)) if group_of(source, index) == group]


def plain_input(task: Task, scene: Scene, seed: int = 0) -> Tensor:
    """What the task asks about a scene [3, T, H, W], with a codec of the scene alone; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return task.make_pair(scene, task.make_codec([scene], generator), generator).input


LOOK_SIDE = 8
LOOK_SIZE = 4 * LOOK_SIDE**2


def look(picture: Tensor) -> Tensor:
    """What a picture [3, T, H, W] looks like from afar, of unit length [256]: colours and strength of edges, 8 by 8.

    Needs no network: each of the two parts is freed of its mean and scaled to equal weight. A clip is the mean of its
    frames.
    """
    frame = picture.mean(1)
    down = F.pad((frame[:, 1:] - frame[:, :-1]).abs().mean(0), (0, 0, 0, 1))
    across = F.pad((frame[:, :, 1:] - frame[:, :, :-1]).abs().mean(0), (0, 1))
    parts = [F.adaptive_avg_pool2d(part, LOOK_SIDE).flatten() for part in (frame, (down + across)[None])]
    scaled = [(part - part.mean()) / (part - part.mean()).norm().clamp_min(1e-6) for part in parts]
    return torch.cat(scaled) / 2**0.5
