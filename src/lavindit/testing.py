"""What every task promises, as plain functions: `check_task("my_task.py")` in a test is all that a plugin needs.

Each `check_*` function looks at one promise on a few small scenes and raises AssertionError with a sentence that names
the task and what it broke. Mistakes that stop an episode from being made at all come as `LavinditError`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lavindit.codecs import Codec
from lavindit.data import EpisodeMaker, SourceConfig, source_for
from lavindit.errors import LavinditError
from lavindit.task import Task, get_task
from lavindit.task.context import RandomContext, choose_scenes
from lavindit.types import Episode, Pair, Scene, Source

SMALL = SourceConfig(resolution=64, scenes=8, test_scenes=8, clips=4, test_clips=3)
"""Few and small scenes, which every check takes unless it is given others."""

FEWEST, ENOUGH, MOST_LOOKED_AT = 4, 8, 512
FIGURE_TOLERANCE = 1e-4
LOST_THINGS = 0.3


def check_task(task: Task | str | Path, config: SourceConfig = SMALL) -> None:
    """Check every promise of a task; takes about a second for images and three for clips.

    Args:
        task: A registered name, a plugin file, a folder of pairs, or a Task.
        config: The scenes that it is checked on: the first of each split, at least 4 training scenes it accepts.

    Raises:
        AssertionError: It breaks a promise; the sentence says which.
        LavinditError: There is no such task, it has too few scenes, or it fails on one.
    """
    task = task if isinstance(task, Task) else get_task(task)
    for check in CHECKS:
        check(task, config)


def check_facts(task: Task, config: SourceConfig = SMALL) -> None:
    """What it says about itself is there and fits together."""
    _demand(bool(task.summary), task, "summary is empty; say in one sentence what it does")
    _demand(task.version >= 1, task, f"version is {task.version}; versions start at 1")
    for name, frames in (("input_frames", task.input_frames), ("target_frames", task.target_frames)):
        _demand(frames % 4 == 1, task, f"{name} is {frames}; clips have 4k + 1 frames")
    _demand(
        (task.modality == "video") == (task.target_frames > 1),
        task,
        f"modality is {task.modality}, and targets have {task.target_frames} frame(s)",
    )


def check_pairs(task: Task, config: SourceConfig = SMALL) -> None:
    """Inputs and targets are pictures of the stated frames, each with a mask and at least one valid pixel."""
    side = config.resolution
    episode = _episodes(task, config, 1, pairs=3)[0]
    for pair in _pairs_of(episode):
        halves = (("input", pair.input, task.input_frames), ("target", pair.target, task.target_frames))
        for name, picture, frames in halves:
            shape, wanted = tuple(picture.shape), (3, frames, side, side)
            _demand(shape == wanted, task, f"the {name} has shape {shape}, not {wanted}")
            _demand(picture.dtype == torch.float32, task, f"the {name} is {picture.dtype}, not float32")
            inside = bool(((picture >= 0) & (picture <= 1)).all())  # false for NaN too
            _demand(inside, task, f"the {name} has values outside [0, 1]")
        shape, wanted = tuple(pair.valid.shape), (1, *pair.target.shape[1:])
        _demand(shape == wanted, task, f"valid has shape {shape}, not {wanted}")
        _demand(pair.valid.dtype == torch.bool, task, f"valid is {pair.valid.dtype}, not bool")
        _demand(bool(pair.valid.any()), task, "a pair has no valid pixel; pass its scene over with `accepts`")
        if _codec(task, episode).pixelwise:
            shape, wanted = tuple(pair.native.shape[1:]), tuple(pair.target.shape[1:])
            _demand(shape == wanted, task, f"the native has frames and size {shape}, its target {wanted}")


def check_targets(task: Task, config: SourceConfig = SMALL) -> None:
    """Targets are encoded natives, and decode to them within the codec's tolerance."""
    for episode in _episodes(task, config, 3, pairs=1):
        codec = _codec(task, episode)
        for pair in _pairs_of(episode):
            again = codec.encode(pair.native, pair.valid)
            same = torch.equal(pair.target.where(pair.valid, 0.0), again.where(pair.valid, 0.0))
            _demand(same, task, "a target is not what the codec makes of the native")
            if codec.pixelwise:
                error = float((codec.decode(pair.target) - pair.native).abs().where(pair.valid, 0.0).max())
                words = f"a target decodes to {error:.3g} {codec.unit} off its native; {codec.tolerance:g} is allowed"
                _demand(error <= codec.tolerance, task, words)
            else:
                _check_things(task, replace(episode, query=pair))


def _check_things(task: Task, episode: Episode) -> None:
    """Things that are read back from their own drawing are worth most of what a perfect answer is worth.

    Drawings of things may hide one another, so some may be lost.
    """
    key, target = task.headline.metric, episode.query.target
    drawn, blank = (_figures(task, [episode], [episode.codec.decode(p)])[key] for p in (target, 0 * target))
    loss, most = abs(drawn - _ideals(task)[key]), LOST_THINGS * abs(blank - _ideals(task)[key])
    words = f"the truth, drawn and read back, scores {key} {drawn:.4g}; a blank answer scores {blank:.4g}"
    _demand(math.isfinite(loss) and not loss > most, task, words)


def check_same_seed(task: Task, config: SourceConfig = SMALL) -> None:
    """The same seed gives the same episode: all that is random comes from the generator."""
    made = _maker(task, config)
    scene = made.accepted(2)[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = made.episode(scene, 2, seed=5)
        torch.manual_seed(2)
        torch.rand(7)
        second = made.episode(scene, 2, seed=5)
    _demand(_is_same(first, second), task, "the same seed gave two episodes; draw from the generator alone")


def check_draws(task: Task, config: SourceConfig = SMALL) -> None:
    """Another draw asks the same query with another context."""
    made = _maker(task, config)
    scene = made.accepted(2)[-1]
    first, *others = (made.episode(scene, 2, seed=0, draw=draw) for draw in range(4))
    for other in others:
        same = torch.equal(first.query.input, other.query.input) and _is_equal(first.query.native, other.query.native)
        # What the codec draws may depend on the context, what the query asks may not.
        _demand(same, task, "another draw changed the query; its pair must not depend on the context")
    _demand(not all(_is_same(first, other) for other in others), task, "four draws gave the same context")
    names = {episode.sample_id for episode in (first, *others)}
    _demand(len(names) == 4, task, "draws share a sample id, and so their noise")


def check_query_not_in_context(task: Task, config: SourceConfig = SMALL) -> None:
    """The query is never in its own context, though context and query come from the same scenes in training."""
    train = _maker(task, config, "train")
    scenes = train.accepted(ENOUGH)
    for scene in scenes:
        episode = train.episode(scene, len(scenes) - 1, seed=0)  # all scenes but one
        shown = [pair.input if task.requires else pair.native for pair in _pairs_of(episode)]
        equal = any(_is_equal(shown[i], shown[j]) for i in range(len(shown)) for j in range(i))
        _demand(not equal, task, "one scene comes twice in an episode; give every scene of its source its own scene_id")


def check_accepts(task: Task, config: SourceConfig = SMALL) -> None:
    """Scenes that it does not accept are passed over."""
    made = _maker(task, config)
    accepted = made.accepted(len(made))
    kept = all(task.accepts(made.queries[scene]) for scene in accepted)
    kept = kept and {made.next_accepted(scene) for scene in range(len(made))} == set(accepted)
    _demand(kept, task, "`accepts` says now this, now that of a scene")


def check_small_source(task: Task, config: SourceConfig = SMALL) -> None:
    """Every accepted scene can be shown, and one pair more than there are is refused in one line."""
    source, generator = _maker(task, config).context, torch.Generator().manual_seed(0)
    scenes = [source[index] for index in range(len(source)) if task.accepts(source[index])]
    count, choice = len(scenes), RandomContext()
    chosen = choose_scenes(choice, task, source, count, generator)
    same = sorted(scene.scene_id for scene in chosen) == sorted(scene.scene_id for scene in scenes)
    _demand(same, task, "some scenes that it accepts are not shown")
    for wanted, exclude, shown in ((count + 1, None, count), (count, scenes[-1].scene_id, count - 1)):
        try:
            choose_scenes(choice, task, source, wanted, generator, exclude=exclude)
        except LavinditError as error:
            words = f"task {task.name} can show {shown} pairs"
            _demand(words in str(error), task, f"too small a source is told as: {error}")
        else:
            _demand(False, task, f"{wanted} pairs were shown of a source that has {shown}")


def check_columns(task: Task, config: SourceConfig = SMALL) -> None:
    """Its columns are keys of its metric, with the metric's units, and one is the headline."""
    metric = task.make_metric()
    names = [column.metric for column in task.columns]
    _demand(len(set(names)) == len(names), task, "two columns have the same metric")
    lengths = {len(metric.names), len(metric.units), len(metric.ideals)}
    _demand(len(lengths) == 1, task, "the metric has not one unit and one ideal for each name")
    units = dict(zip(metric.names, metric.units, strict=True))
    for column in task.measured:
        known = ", ".join(metric.names)
        _demand(column.metric in units, task, f"column {column.metric} is no key of its metric, which has {known}")
        words = f"column {column.metric} says unit {column.unit!r}, its metric {units[column.metric]!r}"
        _demand(units[column.metric] == column.unit, task, words)
    _demand(sum(column.headline for column in task.columns) == 1, task, "not exactly one column is the headline")
    words = "every column needs weights; add one that can be measured without"
    _demand(any(not column.needs for column in task.columns), task, words)


def check_figures(task: Task, config: SourceConfig = SMALL) -> None:
    """A perfect answer scores the ideal of every figure, noise over the truth no better, and noise alone worse."""
    episodes, ideals = _episodes(task, config, 3, pairs=0), _ideals(task)
    perfect = _figures(task, episodes, [episode.query.native for episode in episodes])
    # An unbiased distance between sets of few samples is below 0 for equal ones.
    sets = {column.metric for column in task.columns if column.needs == "inception"}
    for name, figure in perfect.items():
        near = name in sets or abs(figure - ideals[name]) <= FIGURE_TOLERANCE
        _demand(near, task, f"a perfect answer scores {name} {figure:.6g}, its ideal is {ideals[name]:g}")
    generator = torch.Generator().manual_seed(0)
    for share in (0.3, 1.0):
        noisy = [
            torch.lerp(e.query.target, torch.rand(e.query.target.shape, generator=generator), share) for e in episodes
        ]
        worse = _figures(task, episodes, [e.codec.decode(n) for e, n in zip(episodes, noisy, strict=True)])
        for column in task.measured:
            key, sign = column.metric, 1 if column.direction == "min" else -1
            best = perfect[key] if key in sets else ideals[key]
            loss = sign * (worse[key] - best)
            words = f"{share:.0%} noise scores {key} {worse[key]:.6g}, a perfect answer {best:.6g} ({column.direction})"
            # Masks and colours are read by the nearest, so a little noise does not hurt them.
            _demand(math.isfinite(loss) and (loss > 0 or (loss >= 0 and share < 0.5)), task, words)


def check_prepare_query(task: Task, config: SourceConfig = SMALL) -> None:
    """A person's picture stays a picture of its size."""
    picture = torch.rand(3, task.input_frames, 24, 32, generator=torch.Generator().manual_seed(0))
    prepared = task.prepare_query(picture.clone())
    inside = prepared.shape == picture.shape and bool(((prepared >= 0) & (prepared <= 1)).all())
    _demand(inside, task, "prepare_query must give a picture in [0, 1] of the size that it is given")


def check_known_pixels(task: Task, config: SourceConfig = SMALL) -> None:
    """Where a query is said to show its answer, it does; one whose detail is kept is as large as its answer."""
    for episode in _episodes(task, config, 3, pairs=0):
        query = episode.query
        as_large = query.input.shape == query.target.shape
        _demand(as_large or not task.keeps_detail, task, "keeps_detail needs inputs as large as their targets")
        known = task.known_pixels(query.input)
        if known is not None:
            fits = known.dtype == torch.bool and known.shape == query.input[:1].shape
            _demand(fits, task, "known_pixels must give a mask [1, T, H, W] of bool, of its query's size")
            same = (query.input == query.target).all(0, keepdim=True)
            _demand(bool(same[known].all()), task, "known_pixels names pixels where input and target differ")


CHECKS: tuple[Callable[[Task, SourceConfig], None], ...] = (
    check_facts,
    check_pairs,
    check_targets,
    check_same_seed,
    check_draws,
    check_query_not_in_context,
    check_accepts,
    check_small_source,
    check_columns,
    check_figures,
    check_prepare_query,
    check_known_pixels,
)
"""All of them, in the order of `check_task`."""


class _FirstScenes:
    """The first scenes of a source, as if there were no others, and no groups among them."""

    def __init__(self, source: Source, count: int) -> None:
        self.source, self.count, self.provides = source, count, source.provides

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        return self.source[index]


def _first(task: Task, split: str, config: SourceConfig) -> _FirstScenes:
    """As many of the first scenes as hold enough that the task accepts."""
    source, accepted, count = source_for(task, split, config), 0, 0
    while count < min(len(source), MOST_LOOKED_AT) and accepted < ENOUGH:
        accepted += task.accepts(source[count])
        count += 1
    if split == "train" and accepted < FEWEST:
        raise LavinditError(
            f"task {task.name} accepts {accepted} of {count} training scenes; a check needs {FEWEST}, give it more"
        )
    return _FirstScenes(source, count)


def _maker(task: Task, config: SourceConfig, split: str = "test") -> EpisodeMaker:
    made = EpisodeMaker(task, split, config)
    made.queries, made.context = _first(task, split, config), _first(task, "train", config)
    return made


def _episodes(task: Task, config: SourceConfig, count: int, pairs: int) -> list[Episode]:
    """Episodes of the first test scenes that the task accepts."""
    made = _maker(task, config)
    return [made.episode(scene, pairs, seed=0) for scene in made.accepted(count)]


def _pairs_of(episode: Episode) -> tuple[Pair, ...]:
    return (*episode.pairs, episode.query)


def _codec(task: Task, episode: Episode) -> Codec:
    _demand(isinstance(episode.codec, Codec), task, "make_codec must return a lavindit.codecs.Codec")
    assert isinstance(episode.codec, Codec)
    return episode.codec


def _figures(task: Task, episodes: Sequence[Episode], answers: Sequence[Tensor]) -> dict[str, float]:
    """All figures of its metric for native answers."""
    metric = task.make_metric()
    for number, (episode, answer) in enumerate(zip(episodes, answers, strict=True)):
        query = episode.query
        metric.update(answer, query.native, query.valid, number, query.meta)
    return {name: float(value) for name, value in metric.compute().items()}


def _ideals(task: Task) -> dict[str, float]:
    metric = task.make_metric()
    return dict(zip(metric.names, metric.ideals, strict=True))


def _is_equal(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.nan_to_num(-1.0), second.nan_to_num(-1.0))


def _is_same(first: Episode, second: Episode) -> bool:
    return all(
        _is_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(_pairs_of(first), _pairs_of(second), strict=True)
        for name in ("input", "target", "native", "valid")
    )


def _demand(kept: bool, task: Task, sentence: str) -> None:
    if not kept:
        raise AssertionError(f"task {task.name}: {sentence}")
