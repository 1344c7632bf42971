"""Image files whose pixels are numbers and not colours; and frames that make a clip."""

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.pictures import load_picture

INDICES = ("1", "L", "P")
SIXTEEN_BIT = ("I;16", "I;16B", "I")


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        LavinditError: It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LavinditError(f"no such file: {path}; the data set is not complete") from None
    except OSError as error:
        raise LavinditError(f"cannot read {path} ({error.strerror})") from None


def decode_raster(content: bytes, name: Path | str, modes: Collection[str]) -> tuple[np.ndarray, str]:
    """The stored values of an image [H, W] or [H, W, N], and Pillow's name of its mode; no palette is applied.

    Args:
        content: The content of an image file.
        name: What errors call it.
        modes: Pillow's names of the pixel formats that it may have.

    Raises:
        LavinditError: It is no image, is cut short, or has another pixel format.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in modes:
                raise LavinditError(f"{name} has {image.mode} pixels; it should have {' or '.join(modes)}")
            return np.array(image), image.mode
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LavinditError(f"cannot read {name} as an image ({error}); replace the file") from error


def read_raster(path: Path, modes: Collection[str]) -> tuple[np.ndarray, str]:
    """`decode_raster` of a file."""
    return decode_raster(read_bytes(path), path, modes)


def read_indices(path: Path) -> Tensor:
    """A map of indices from a gray or palette file: int64 [1, 1, H, W].

    Raises:
        LavinditError: As `read_raster`.
    """
    values, _ = read_raster(path, INDICES)
    return torch.from_numpy(values.astype(np.int64))[None, None]


def decode_colours16(content: bytes, name: Path | str) -> Tensor:
    """The stored values of a PNG with 16 bits a colour: float32 [3, 1, H, W] in 0..65535. Pillow would make them 8.

    Args:
        content: The content of the file.
        name: What errors call it.

    Raises:
        LavinditError: It cannot be read, or has other pixels.
    """
    try:
        with av.open(io.BytesIO(content), mode="r") as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise LavinditError(f"cannot read {name} as an image ({error}); replace the file") from None
    if frame.format.name != "rgb48be":
        raise LavinditError(f"{name} has {frame.format.name} pixels; it should have 16-bit RGB")
    return torch.from_numpy(frame.to_ndarray().astype(np.float32)).permute(2, 0, 1)[:, None]


def load_frames(paths: Sequence[Path]) -> Tensor:
    """The frames of a clip as one picture [3, T, H, W].

    Raises:
        LavinditError: A file cannot be read, or the frames differ in size.
    """
    return stack_frames([load_picture(path) for path in paths], paths)


def stack_frames(frames: Sequence[Tensor], paths: Sequence[Path]) -> Tensor:
    """Fields [N, 1, H, W] of successive frames as one [N, T, H, W].

    Raises:
        LavinditError: The frames differ in size; the message names the first that does.
    """
    for frame, path in zip(frames, paths, strict=True):
        if frame.shape != frames[0].shape:
            first = frames[0].shape
            raise LavinditError(
                f"{path} is {frame.shape[3]}x{frame.shape[2]}, {paths[0].name} {first[3]}x{first[2]}; "
                "the frames of a clip have one size"
            )
    return torch.cat(list(frames), dim=1)
