"""The pairs that lie in a folder: `NAME_input.*` beside `NAME_target.*`, each an image, a clip or an array."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lavindit.clips import VIDEO_SUFFIXES, load_clip
from lavindit.errors import LavinditError
from lavindit.pictures import SUFFIXES, load_picture

INPUT, TARGET = "_input", "_target"
ARRAY = ".npy"
Files = tuple[Path, Path]


def find_pairs(folder: Path) -> list[Files]:
    """Input and target of each pair of a folder, sorted by name.

    Raises:
        LavinditError: No pairs, half of one, or clips beside images.
    """
    if not folder.is_dir():
        raise LavinditError(f"no such folder: {folder}")
    halves: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        half = _half(path)
        if half is not None and half in halves:
            raise LavinditError(f"{halves[half]} and {path.name} are one half of the same pair; remove one of them")
        if half is not None:
            halves[half] = path
    inputs = [half for half in halves if half.endswith(INPUT)]
    for half, path in halves.items():
        own, other = (INPUT, TARGET) if half.endswith(INPUT) else (TARGET, INPUT)
        partner = half.removesuffix(own) + other
        if partner not in halves:
            suffix = ".png" if path.suffix == ARRAY else path.name.removeprefix(half)
            raise LavinditError(f"{path} has no partner; add {folder / (partner + suffix)} or remove the file")
    if not inputs:
        raise LavinditError(f"no pairs in {folder}; a task folder holds NAME{INPUT}.png and NAME{TARGET}.png files")
    pairs = [(halves[half], halves[half.removesuffix(INPUT) + TARGET]) for half in inputs]
    for side, word in enumerate(("inputs", "targets")):
        _check_kind([pair[side] for pair in pairs], word)
    return pairs


def name_of(pair: Files) -> str:
    """The NAME that a pair's files share."""
    return (_half(pair[0]) or "").removesuffix(INPUT)


def holds_clip(path: Path) -> bool:
    """Whether a half is a clip: a video, a folder of frames, or an array with frames."""
    if path.suffix.lower() == ARRAY and path.is_file():
        values = _open_array(path)
        return values.ndim == 4 and values.shape[1] > 1
    return path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES


def load_half(path: Path, frames: int | None) -> Tensor:
    """A half as it lies there: picture [3, T, H, W] in [0, 1], or the array [N, T, H, W] of a .npy file.

    Args:
        path: The half.
        frames: Of a clip, the first so many; None: all of them.

    Raises:
        LavinditError: It cannot be read, or is a clip of fewer frames.
    """
    if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
        return load_clip(path, frames)
    if path.suffix.lower() != ARRAY:
        return load_picture(path)
    values = _open_array(path)
    values = values[:, None] if values.ndim == 3 else values
    frames = values.shape[1] if frames is None else frames
    if 1 < values.shape[1] < frames:
        raise LavinditError(f"{path} has {values.shape[1]} frames, {frames} are asked for; give a longer one")
    # In double precision, which holds ids beyond 2^24 too.
    return torch.from_numpy(values[:, : frames if values.shape[1] > 1 else 1].astype(np.float64))


def _half(path: Path) -> str | None:
    """NAME_input or NAME_target, if a path is half of a pair."""
    if path.name.startswith("."):
        return None
    if path.is_dir():
        return path.name if path.name.endswith((INPUT, TARGET)) else None
    kinds = SUFFIXES | VIDEO_SUFFIXES | ({ARRAY} if path.stem.endswith(TARGET) else set())
    is_half = path.suffix.lower() in kinds and path.stem.endswith((INPUT, TARGET))
    return path.stem if is_half else None


def _check_kind(paths: list[Path], word: str) -> None:
    """Raise unless all are clips or none is."""
    clips = {path: holds_clip(path) for path in paths}
    if len(set(clips.values())) > 1:
        clip, image = (next(path for path in paths if clips[path] is kind) for kind in (True, False))
        raise LavinditError(f"{clip} is a clip and {image.name} is none; give all {word} of a folder one kind")


def _open_array(path: Path) -> np.ndarray:
    """The numbers of a .npy file, [N, H, W] or [N, T, H, W], not yet read from disk. [H, W] is one channel."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LavinditError(f"cannot read {path} as an array ({reason}); write it with numpy.save") from error
    if values.ndim not in (2, 3, 4) or 0 in values.shape or values.dtype.kind not in "biuf":
        raise LavinditError(
            f"{path} has {values.dtype} values of shape {list(values.shape)}; give numbers [H, W], [N, H, W] or "
            "[N, T, H, W]"
        )
    return values[None] if values.ndim == 2 else values
