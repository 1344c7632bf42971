"""A folder of pairs is a task, with no Python: `NAME_input.png` beside `NAME_target.png`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lavindit.codecs import Codec, PanopticCodec, get_codec
from lavindit.errors import LavinditError
from lavindit.metrics import JoinedMetric, RowMetric, get_metric
from lavindit.metrics.networks import available, remedy
from lavindit.pictures import same_aspect
from lavindit.task.contract import Column, Task
from lavindit.task.folder_natives import FOLDER_CODECS, Fit, read_truth, square_picture
from lavindit.task.folder_pairs import Files, find_pairs, holds_clip, load_half, name_of
from lavindit.task.folder_yaml import FILE_NAME, FolderConfig, read_config, suggest
from lavindit.types import Pair, Scene

KEPT_BYTES = 2**28
QUERIES = "test"
# Metrics that can score the natives of a codec; the first is its default.
METRICS_OF = {
    "identity": ("restoration", "pictures", "perceptual", "perceptual_proxy", "distribution"),
    "depth": ("depth",),
    "normals": ("normals",),
    "mask": ("foreground", "edges"),
    "flow": ("flow",),
    "palette": ("instances", "video_masks"),
    "panoptic": ("panoptic", "instances"),
}
# Weights without which a metric cannot be made; see `lavindit.metrics.networks`.
NEEDS = {"perceptual": "lpips", "perceptual_proxy": "perceptual", "distribution": "inception"}
COLOURED = frozenset({"palette", "panoptic"})


@dataclass(frozen=True, eq=False)
class FolderScene(Scene):
    """A pair of a folder.

    Attributes:
        native: Its truth in the codec's units [N, T', H, W].
        valid: bool [1, T', H, W]; where the truth is known, and the codec can hold it.
    """

    native: Tensor | None = None
    valid: Tensor | None = None


class FolderSource:
    """The pairs of a folder, each a scene whose `target` is the ready-made answer.

    Input and target may differ in size: each is resized alone.

    Args:
        pairs: Input and target files.
        resolution: Side in pixels.
        fit: "crop" takes the centred square of each, so their aspect ratios have to agree within 1 %; "stretch"
            the whole of each.
        config: What the folder says about itself.
        prefix: Before the pairs' names, so that those of another part of the folder are told from them.
    """

    provides = frozenset({"target"})

    def __init__(self, pairs: list[Files], resolution: int, fit: Fit, config: FolderConfig, prefix: str = "") -> None:
        self.pairs, self.resolution, self.config, self.prefix = pairs, resolution, config, prefix
        self.fit: Fit = fit
        self._codec = _codec_of(config)
        self._kept: dict[int, FolderScene] = {}
        self._room_bytes = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FolderScene:
        """Scene of pair `index`; the first ones asked for are kept in memory, as clips take long to decode."""
        if index in self._kept:
            return self._kept[index]
        scene = self._load(index)
        size_bytes = sum(value.nbytes for value in vars(scene).values() if isinstance(value, Tensor))
        if size_bytes <= self._room_bytes:
            self._kept[index] = scene
            self._room_bytes -= size_bytes
        return scene

    def _load(self, index: int) -> FolderScene:
        input_file, target_file = self.pairs[index]
        picture, values = (load_half(path, self.config.frames) for path in self.pairs[index])
        if self.fit == "crop" and not same_aspect(picture, values):
            sizes = " and ".join(f"{p.shape[3]}x{p.shape[2]}" for p in (picture, values))
            raise LavinditError(
                f"{input_file} and {target_file.name} differ in size ({sizes}); give both the same aspect ratio"
            )
        size, codec = self.resolution, self._codec
        native, valid = read_truth(target_file, values, codec, size, self.fit, self.config.colours)
        return FolderScene(
            scene_id=self.prefix + name_of(self.pairs[index]),
            rgb=square_picture(picture, size, self.fit),
            target=codec.encode(native, valid),
            native=native,
            valid=valid,
        )


class FolderTask(Task):
    """The task that a folder of pairs shows; docs/folders.md tells how.

    Args:
        folder: Holds `*_input.*` and `*_target.*`; perhaps a subfolder `test` of the same, whose pairs are the queries
            of validation and test, and a `task.yaml`.

    Raises:
        LavinditError: The folder is empty, an input has no target or the other way round, or `task.yaml` is wrong.
    """

    requires = frozenset({"target"})

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.pairs = find_pairs(self.folder)
        self.config = read_config(self.folder)
        self.queries = self._find_queries()
        self.name = self.config.name
        try:
            codec = _codec_of(self.config)
            parts = _metrics_of(self.config, codec)
        except LavinditError as error:
            raise LavinditError(f"{self.folder / FILE_NAME}: {error}") from error
        self._sources: dict[tuple[str, int, Fit], FolderSource] = {}
        self._frames = [self.config.frames if holds_clip(half) else 1 for half in self.pairs[0]]
        # A folder's own, where a plugin's are those of its class.
        vars(self).update(
            version=self.config.version,
            summary=self.config.summary,
            modality="image" if self.target_frames == 1 else "video",
            columns=_columns_of(parts),
            restores=codec.name == "identity" and self.input_frames == self.target_frames,
            context=self._context(),
            protocol=self._protocol(),
        )

    @property
    def input_frames(self) -> int:
        """Frames of an input."""
        return self._frames[0]

    @property
    def target_frames(self) -> int:
        """Frames of a target."""
        return self._frames[1]

    def make_source(self, split: str, resolution: int, fit: Fit = "crop") -> FolderSource:
        """Its pairs; those of `test` for the splits "val" and "test", where there is such a subfolder."""
        prefix = "" if split == "train" or not self.queries else f"{QUERIES}/"
        key = (prefix, resolution, fit)
        if key not in self._sources:  # one for all splits that show the same, since it keeps what it has read
            self._sources[key] = FolderSource(self.queries if prefix else self.pairs, *key[1:], self.config, prefix)
        return self._sources[key]

    def make_codec(self, scenes: Sequence[Scene], generator: torch.Generator) -> Codec:
        """The codec that `task.yaml` names; a palette draws its colours anew."""
        return _codec_of(self.config, generator)

    def make_pair(self, scene: Scene, codec: Codec, generator: torch.Generator) -> Pair:
        """The pair as it lies in the folder."""
        assert isinstance(scene, FolderScene)
        assert scene.native is not None
        assert scene.valid is not None
        return Pair(scene.rgb, codec.encode(scene.native, scene.valid), scene.native, scene.valid)

    def make_metric(self) -> RowMetric:
        """The metrics that `task.yaml` names, or the codec's own."""
        parts = _metrics_of(self.config, _codec_of(self.config))
        return parts[0] if len(parts) == 1 else JoinedMetric(*parts)

    def _find_queries(self) -> list[Files]:
        if not (self.folder / QUERIES).is_dir():
            return []
        queries = find_pairs(self.folder / QUERIES)
        for side in range(2):
            ours, theirs = self.pairs[0][side], queries[0][side]
            if holds_clip(ours) != holds_clip(theirs):
                raise LavinditError(f"of {ours} and {theirs} one is a clip; give all pairs of a folder one kind")
        return queries

    def _context(self) -> str:
        """The choice of context as `lavindit.task.context` reads it."""
        if isinstance(self.config.context, str):
            return self.config.context
        names = [name_of(pair) for pair in self.pairs]
        for name in self.config.context:
            if name not in names:
                hint = suggest(name, names)
                raise LavinditError(f"{self.folder / FILE_NAME}: context: there is no pair {name!r}{hint}")
        return f"fixed:{','.join(str(names.index(name)) for name in self.config.context)}"

    def _protocol(self) -> str:
        """How its figures are measured."""
        if self.queries:
            return f"Queries: the {len(self.queries)} pairs of {QUERIES}/; context: the other {len(self.pairs)}."
        return (
            f"Queries: all {len(self.pairs)} pairs, with others of them as context. There is no subfolder {QUERIES}/: "
            "a model that was trained on this folder is scored on what it has seen."
        )


def _codec_of(config: FolderConfig, generator: torch.Generator | None = None) -> Codec:
    """The codec that a config names."""
    name, options = config.codec
    if name not in FOLDER_CODECS:
        raise LavinditError(f"codec: no codec of folders is called {name!r}{suggest(name, list(FOLDER_CODECS))}")
    if config.colours and name != "palette":
        raise LavinditError(f"colours: codec {name!r} has no use for them; they are for codec: palette")
    if "generator" in options:
        raise LavinditError(f"codec: {name!r} draws from the episode's generator; leave `generator` out")
    options = dict(options)
    if config.colours:
        options.setdefault("colours", sum(any(colour) for colour in config.colours))
    if name in COLOURED:
        options["generator"] = generator
    try:
        return get_codec(name, **options)
    except LavinditError as error:
        raise LavinditError(f"codec: {error}") from error
    except (TypeError, ValueError) as error:
        raise LavinditError(f"codec: {name!r} cannot take {config.codec[1]}: {error}") from error


def _metrics_of(config: FolderConfig, codec: Codec) -> list[RowMetric]:
    """Fresh metrics, without those whose weights are not here."""
    fitting = METRICS_OF[codec.name]
    found: list[RowMetric] = []
    missing: list[str] = []
    for name, options in config.metrics or ((fitting[0], {}),):
        if name not in fitting:
            raise LavinditError(f"metrics: {name!r} cannot score codec {codec.name!r}{suggest(name, list(fitting))}")
        if name == "panoptic" and isinstance(codec, PanopticCodec):
            options = {"things": codec.things, "stuff": codec.stuff} | options
        if name in NEEDS and not available(NEEDS[name]):
            missing.append(NEEDS[name])
            continue
        try:
            found.append(get_metric(name, **options))
        except LavinditError as error:
            raise LavinditError(f"metrics: {error}") from error
    if not found:
        raise LavinditError(f"metrics: {remedy(missing[0])}")
    JoinedMetric(*found)  # refuses two of a name
    return found


def _columns_of(metrics: list[RowMetric]) -> tuple[Column, ...]:
    """A column for each figure, the first as headline. What is best at 0 is an error: smaller is better."""
    keys = [key for m in metrics for key in zip(m.names, m.units, m.ideals, strict=True)]
    return tuple(
        Column(name, unit, "min" if ideal == 0 else "max", headline=number == 0)
        for number, (name, unit, ideal) in enumerate(keys)
    )
