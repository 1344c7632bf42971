"""How queries are answered: single options, named sets of them, and the order in which they count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict, Unpack, cast, get_args

from lavindit.errors import LavinditError
from lavindit.flow import Grid
from lavindit.inference.sampler import SamplingConfig, Start
from lavindit.pictures import Fit, Rounding
from lavindit.task import Task
from lavindit.task.context import ContextChoice, RandomContext, parse_context


class Options(TypedDict, total=False):
    """What may be chosen for an answer; what is left out, or None, is left to the preset and to the model.

    Attributes:
        pairs: Context pairs.
        replacement: Draw pairs with replacement: the same one may come several times.
        context: How pairs are chosen: "random", "nearest", "all" or "fixed:I,J,..."; None: as the task says.
        resolution: Side in pixels of the square that the model sees, a multiple of 16.
        fit: "pad" keeps a query's aspect ratio and brings the answer back to its size; "stretch" keeps neither.
        rounding: How an answer becomes 8-bit: "nearest" when it is written, or at once by "truncate".
        steps: Solver steps.
        solver: "euler", "heun" or "midpoint".
        guidance: Guidance scale.
        shift: Time shift of the grid.
        grid: "uniform" or "official".
        posterior: "mean" or "sample" of the VAE's posterior.
        times: The times themselves, from 0 to 1, in place of steps, grid and shift.
        start: "noise" or "zeros".
        detail: Whether answers to tasks that keep detail get back what the VAE loses of their query.
    """

    pairs: int | None
    replacement: bool | None
    context: str | None
    resolution: int | None
    fit: Fit | None
    rounding: Rounding | None
    steps: int | None
    solver: str | None
    guidance: float | None
    shift: float | None
    grid: Grid | None
    posterior: Literal["mean", "sample"] | None
    times: Sequence[float] | None
    start: Start | None
    detail: bool | None


PRESETS: dict[str, Options] = {
    "default": {},
    "paper": {"steps": 20, "solver": "euler", "grid": "uniform", "shift": 1.0, "start": "noise", "detail": False},
    "official": {
        "pairs": 4,
        "replacement": True,
        "resolution": 512,
        "fit": "stretch",
        "rounding": "truncate",
        "steps": 19,
        "solver": "euler",
        "guidance": 1.5,
        "shift": 1.0,
        "grid": "official",
        "posterior": "sample",
        "start": "noise",
        "detail": False,
    },
}
# Pairs that are shown where nobody says how many: the larger number to models that were trained with as many.
MANY_PAIRS, FEW_PAIRS = 8, 4
# What makes the times of a grid; `times` states them outright.
GRID_NAMES = ("steps", "grid", "shift")


@dataclass(frozen=True)
class Settings:
    """Every choice of an answer, made.

    Attributes:
        sampling: Solver, guidance, seed, posterior.
        preset: Name of the preset that it follows where nothing else was said.
        pairs: Context pairs.
        replacement: Whether the same pair may come several times.
        context: How pairs are chosen; None: as the task says.
        resolution: Side in pixels of the model's square.
        fit: "pad" or "stretch".
        rounding: "nearest" or "truncate".
    """

    sampling: SamplingConfig
    preset: str = "default"
    pairs: int = FEW_PAIRS
    replacement: bool = False
    context: str | None = None
    resolution: int = 64
    fit: Fit = "pad"
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise LavinditError(f"pairs must be at least 1, got {self.pairs}: the pairs are what shows the task")
        for name, value, known in (("fit", self.fit, Fit), ("rounding", self.rounding, Rounding)):
            if value not in get_args(known):
                raise LavinditError(f"unknown {name} {value!r}; there are {', '.join(get_args(known))}")
        if self.context is not None:
            parse_context(self.context)

    def choice(self, task: Task) -> ContextChoice:
        """How the pairs of a task are chosen."""
        named = self.context or task.context
        return RandomContext(replacement=True) if self.replacement and named == "random" else parse_context(named)


def find_preset(name: str) -> Options:
    """What a preset chooses.

    Raises:
        LavinditError: There is no such preset.
    """
    if name not in PRESETS:
        raise LavinditError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def usual_pairs(info: Mapping[str, Any]) -> int:
    """Pairs that a model is shown where nobody says how many: 8 if its info tells of as many in training, else 4."""
    most = info.get("max_pairs")
    return MANY_PAIRS if isinstance(most, int) and most >= MANY_PAIRS else FEW_PAIRS


def settle(
    info: Mapping[str, Any],
    preset: str | None = None,
    seed: int = 0,
    *,
    task: str | None = None,
    most_pairs: int | None = None,
    **options: Unpack[Options],
) -> Settings:
    """Make every choice.

    The first that says something counts: the options, the preset named here, the model's info (`task_sampling` of this
    task, then `resolution` and `sampling`), the preset that the info names (`preset`), our defaults.

    Args:
        info: A model directory's info.
        preset: Name of a preset; None: the one that the info names, if any.
        seed: Seed of context, noise and posterior samples.
        task: Name of the task that is asked; None: no task's own sampling counts.
        most_pairs: Pairs that there are, which is where the usual number ends; None: enough.
        **options: Single choices.

    Raises:
        LavinditError: There is no such preset or option, or a value makes no sense.
    """
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise LavinditError(f"no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}")
    stated, own = _stated(info, task), _own_preset(info)
    layers = [find_preset(own), *stated] if preset is None else [*stated, find_preset(preset)]
    usual = usual_pairs(info)
    chosen: dict[str, Any] = {"pairs": usual if most_pairs is None else min(usual, most_pairs)}
    for layer in (*layers, options):
        chosen = _put_over(chosen, layer)
    names = {field.name for field in fields(SamplingConfig)} & chosen.keys()
    sampling = SamplingConfig(seed=seed, **{name: chosen.pop(name) for name in names})
    return Settings(sampling, preset or own, **chosen)


def resettle(
    settings: Settings, preset: str | None = None, seed: int | None = None, **options: Unpack[Options]
) -> Settings:
    """Settings that a prompt was compiled with, sampled in another way.

    Args:
        settings: Of the prompt.
        preset: Name of a preset whose sampling counts; None: the prompt's own.
        seed: Seed of the noise; None: the prompt's own.
        **options: Choices of sampling; others may be named as they are.

    Raises:
        LavinditError: An option would change what the prompt has fixed.
    """
    names = {field.name for field in fields(SamplingConfig)} - {"posterior"}
    asked = {key: value for key, value in options.items() if value is not None}
    fixed = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    fixed["posterior"] = settings.sampling.posterior
    for key, value in asked.items():
        if key == "context" and value != settings.context:
            raise LavinditError("the prompt's pairs are chosen already: leave context out, or compile another one")
        if key not in names and key in fixed and fixed[key] != value:
            raise LavinditError(
                f"the prompt was compiled with {key} {fixed[key]}; compile another one for {key} {value}"
            )
        if key not in names and key not in fixed:
            raise LavinditError(f"no option {key!r}; there are {', '.join(Options.__annotations__)}")
    chosen: dict[str, Any] = {"times": settings.sampling.times}
    for layer in (find_preset(preset) if preset is not None else {}, asked):
        chosen = _put_over(chosen, {key: value for key, value in layer.items() if key in names})
    chosen = {"times": None} | chosen
    if seed is not None:
        chosen["seed"] = seed
    return replace(settings, sampling=replace(settings.sampling, **chosen))


def _put_over(chosen: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, with a layer over it; times, and what makes times, take each other's place."""
    said = {key: value for key, value in layer.items() if value is not None}
    if said.get("times") is not None:
        said.setdefault("steps", len(said["times"]) - 1)
    elif any(name in said for name in GRID_NAMES):
        chosen = {key: value for key, value in chosen.items() if key != "times"}
    return {**chosen, **said}


def _own_preset(info: Mapping[str, Any]) -> str:
    return str(info.get("preset") or "default")


def _stated(info: Mapping[str, Any], task: str | None) -> list[Options]:
    """What a model directory's info says itself: of all tasks, and of one."""
    try:
        resolution, sampling = info.get("resolution"), dict(info.get("sampling", {}))
        if resolution is not None and not isinstance(resolution, int):
            raise TypeError(f"resolution is {resolution!r}, not a whole number")
        own = dict(info.get("task_sampling", {}).get(task, {}))
        for said in (sampling, own):
            SamplingConfig(**_put_over({}, said))
        find_preset(_own_preset(info))
    except (AttributeError, TypeError, ValueError, LavinditError) as error:
        raise LavinditError(f"the model's config.json has info that this version cannot use: {error}") from error
    for said in (sampling, own):
        said.pop("seed", None)
    return [cast(Options, {"resolution": resolution, **sampling}), cast(Options, own)]
