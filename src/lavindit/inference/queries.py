"""A person's query on its way to the model and back: its name, its size, and clips of any length."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lavindit.clips import is_clip, load_clip
from lavindit.codecs.base import Codec
from lavindit.errors import LavinditError
from lavindit.flow import seed_from
from lavindit.inference.presets import Settings
from lavindit.pictures import FITS, Fit, Letterbox, Stretch, center_square, load_picture, same_aspect, stretch
from lavindit.task import Task
from lavindit.task.folder_natives import FOLDER_CODECS, Truth, read_truth
from lavindit.task.folder_pairs import INPUT, load_half
from lavindit.types import Codec as AnyCodec
from lavindit.types import Pair

Query = str | Path | Tensor | np.ndarray | Image.Image


@dataclass(frozen=True, eq=False)
class Asked:
    """A query, fitted into the model's square.

    Attributes:
        name: Its own, wherever it stands in a list.
        box: The way into the square and back.
        picture: As it was given, [3, N, H, W].
        square: [3, N, size, size].
        windows: For each time that the model is asked, the numbers of the frames that it is shown.
        truth: File of its true values and what it holds, [N, T', H, W] at its own size; None where there is none.
    """

    name: str
    box: Letterbox | Stretch
    picture: Tensor
    square: Tensor
    windows: list[list[int]]
    truth: tuple[Path, Tensor] | None = None


def check_truths(queries: Sequence[Query], truths: Sequence[Path | str], corrupt: bool) -> None:
    """Refuse truths that are not one a query, or not the only ones.

    Raises:
        LavinditError: As said.
    """
    if truths and corrupt:
        raise LavinditError("a clean picture that is corrupted is its own truth: give one of --corrupt and --truth")
    if truths and len(truths) != len(queries):
        counts = f"queries: {len(queries)}, truths: {len(truths)}"
        raise LavinditError(f"{counts}; give --truth one file for each query, in their order")


def read_query(query: Query, task: Task, settings: Settings, truth: Path | str | None = None) -> Asked:
    """Read a query and plan how it is asked.

    An image task is asked about each frame of a clip, a video task about one stretch of `task.input_frames` after the
    other. The last stretch overlaps the one before it; of a shorter clip the last frame is repeated. So clips of any
    length come back whole.

    Args:
        query: The query.
        task: What it is asked about.
        settings: Size of the square, and how it is brought there.
        truth: File of its true values, if they are known: as a target of a folder of pairs, at the query's size.

    Raises:
        LavinditError: It or its truth cannot be read, or they differ in size; or the task asks for a clip and it is a
            picture, or the other way round.
    """
    picture = _load(query)
    name = Path(query).stem if isinstance(query, (str, Path)) else _name_of(picture)
    wanted, given = task.input_frames, picture.shape[1]
    if wanted > 1 and given == 1:
        raise LavinditError(f"task {task.name} asks about clips, {name} is one picture; give a video or frame folder")
    if wanted == 1 and task.target_frames > 1 and given > 1:
        raise LavinditError(f"task {task.name} asks about one picture, {name} is a clip; give its first frame")
    if task.target_frames != wanted > 1 and given > wanted:
        raise LavinditError(f"task {task.name} asks about clips of {wanted} frames, {name} has {given}; cut it")
    box = FITS[settings.fit](picture, settings.resolution)
    known = None if truth is None else (Path(truth), _load_truth(Path(truth), name, picture, task))
    return Asked(name, box, picture, box.apply(picture), windows_of(given, wanted), known)


def _load_truth(path: Path, name: str, picture: Tensor, task: Task) -> Tensor:
    values = load_half(path, None)
    sizes = [f"{part.shape[3]}x{part.shape[2]}" for part in (values, picture)]
    if sizes[0] != sizes[1]:
        raise LavinditError(f"{path} is {sizes[0]}, its query {name} {sizes[1]}; give a truth of the same size")
    frames = picture.shape[1] if task.input_frames == task.target_frames else task.target_frames
    if values.shape[1] != frames:
        given = f"{values.shape[1]} frame" + "s" * (values.shape[1] > 1)
        raise LavinditError(f"{path} has {given}, the answer to {name} {frames}; give the truth of each of them")
    return values


def true_values(query: Asked, codec: AnyCodec, settings: Settings) -> Truth | None:
    """The truth of a query in its square, in the codec's units; None where it is not known. Padding is not valid.

    Raises:
        LavinditError: The codec cannot hold it, or nothing of it can be scored.
    """
    if query.truth is None:
        return None
    path, values = query.truth
    if not isinstance(codec, Codec) or codec.name not in FOLDER_CODECS:
        known = ", ".join(FOLDER_CODECS)
        raise LavinditError(
            f"{path} cannot be the truth of this task: its codec is none of those that a file holds the values of "
            f"({known}); leave it out"
        )
    native, valid = read_truth(path, values, codec, settings.resolution, settings.fit)
    valid = valid & query.box.inside()
    if not bool(valid.any()):
        raise LavinditError(f"{path} holds no value that is known, so there is nothing to score; see docs/folders.md")
    return Truth(native, valid)


def true_pair(pair: Pair, truth: Truth, window: Sequence[int], codec: AnyCodec) -> Pair:
    """A query and the truth of its answer.

    Args:
        pair: The query, with an unknown truth.
        truth: Of all frames, or of a whole answer that has another number of frames than the query.
        window: Frames of the query that the model is shown.
        codec: Of the episode.
    """
    native, valid = truth if len(window) != pair.target.shape[1] else (part[:, window] for part in truth)
    if codec.name == "flow":  # the last frame moves to one that the model is not shown
        valid = torch.cat([valid[:, :-1], torch.zeros_like(valid[:, -1:])], 1)
    return replace(pair, target=codec.encode(native, valid), native=native, valid=valid)


def read_pair(halves: tuple[Query, Query], frames: tuple[int, int], size: int, fit: Fit) -> tuple[Tensor, Tensor]:
    """Input [3, T, size, size] and target [3, T', size, size] of a pair, fitted as the pairs of a folder are.

    Raises:
        LavinditError: One cannot be read, has fewer frames than a pair's, or is a clip where a pair's is a picture; or
            their shapes differ, so that squares cut out of them would not show the same place.
    """
    shown, answer = (_read_half(half, count) for half, count in zip(halves, frames, strict=True))
    if fit == "stretch":
        return stretch(shown, size), stretch(answer, size)
    if not same_aspect(shown, answer):
        sizes = " and ".join(f"{picture.shape[3]}x{picture.shape[2]}" for picture in (shown, answer))
        raise LavinditError(f"input and target of the pair are {sizes}; give both the same aspect ratio")
    return center_square(shown, size), center_square(answer, size)


def _read_half(half: Query, frames: int) -> Tensor:
    picture = _load(half)
    given, name = picture.shape[1], half if isinstance(half, (str, Path)) else "the given one"
    if given < frames:
        raise LavinditError(f"a pair of this prompt takes clips of {frames} frames, {name} has {given}")
    if given > frames == 1:
        raise LavinditError(f"a pair of this prompt takes one picture, {name} is a clip of {given} frames; give one")
    return picture[:, :frames]


def _load(query: Query) -> Tensor:
    if isinstance(query, Tensor):
        return _checked(query)
    if isinstance(query, Image.Image):
        try:
            query = np.asarray(query.convert("RGB"))
        except OSError as error:  # PIL reads a file when its pixels are asked for
            raise LavinditError(f"cannot read the picture that was given: {error}") from error
    if isinstance(query, np.ndarray):
        if query.dtype != np.uint8 or query.ndim not in (3, 4) or query.shape[-1] != 3:
            raise LavinditError(
                f"an array as query must be uint8 [H, W, 3] or [T, H, W, 3], not {query.dtype} {list(query.shape)}"
            )
        frames = query if query.ndim == 4 else query[None]
        return torch.from_numpy(frames.copy()).permute(3, 0, 1, 2).float() / 255
    if Path(query).is_dir() and any(Path(query).glob(f"*{INPUT}.*")):
        raise LavinditError(f"{query} is a folder of pairs; name it with --task, and ask about images or clips")
    return load_clip(query) if is_clip(query) else load_picture(query)


def _checked(picture: Tensor) -> Tensor:
    if picture.ndim != 4 or picture.shape[0] != 3 or 0 in picture.shape or not picture.is_floating_point():
        kind = f"{picture.dtype} {list(picture.shape)}".removeprefix("torch.")
        raise LavinditError(f"a tensor as query must be float [3, T, H, W] in [0, 1], not {kind}")
    return picture.float()


def _name_of(picture: Tensor) -> str:
    """A name made from the pixels."""
    return f"{seed_from(picture.double().mean().item(), tuple(picture.shape)):x}"


def windows_of(frames: int, size: int) -> list[list[int]]:
    """Stretches of `size` frame numbers that cover 0 .. frames - 1, all of them of that length."""
    starts = [min(start, max(frames - size, 0)) for start in range(0, frames, size)]
    return [[min(start + i, frames - 1) for i in range(size)] for start in starts]


def join_frames(parts: Sequence[Tensor], windows: Sequence[Sequence[int]]) -> Tensor:
    """Answers [C, size, H, W] to the windows of a clip -> [C, N, H, W]; of a frame answered twice, the first."""
    if len(parts) == 1 and parts[0].shape[1] != len(windows[0]):
        return parts[0]  # a clip that a picture was asked for
    frames: dict[int, Tensor] = {}
    for part, window in zip(parts, windows, strict=True):
        for place, frame in enumerate(window):
            frames.setdefault(frame, part[:, place])
    return torch.stack([frames[number] for number in sorted(frames)], 1)


def join_windows(pairs: Sequence[Pair], windows: Sequence[Sequence[int]]) -> Pair:
    """The windows of a query as one pair."""

    def joined(name: str) -> Tensor:
        return join_frames([getattr(pair, name) for pair in pairs], windows)

    return pairs[0] if len(pairs) == 1 else Pair(joined("input"), joined("target"), joined("native"), joined("valid"))
