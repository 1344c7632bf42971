"""Clips in and out of files: videos, and folders of frames.

The networks take clips of 4k + 1 frames, because the VAE keeps the first frame and then folds four into one.
"""

import io
import re
import secrets
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideDataType
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.files import put_in_place, remove, write_atomically
from lavindit.pictures import SUFFIXES, load_picture, save_picture, to_eight_bit

SHORTEST = 5
MOST_FRAMES = 400
"""Frames that are read at once: at 1920 x 1080 they take 10 GB."""

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"})
# Without its macroblock tree: with it x264 reads at small sizes what it has not written, so that the same clip gave
# other bytes each time.
_QUALITY = {"crf": "10", "preset": "medium", "mbtree": "0"}


def usable_length(frames: int) -> int:
    """The largest 4k + 1 that is not above `frames`; 0 for none."""
    return (frames - 1) // 4 * 4 + 1 if frames > 0 else 0


def is_clip(path: Path | str) -> bool:
    """Whether a path is a video file (by its suffix) or a folder that holds image files."""
    path = Path(path)
    if path.is_dir():
        return any(_is_frame(file) for file in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def load_clip(path: Path | str, frames: int | None = None) -> Tensor:
    """Read a video file, or a folder of frames, as a clip [3, T, H, W] in [0, 1].

    Frames are taken as they come, whatever their times; a video is turned as its metadata say, transparency lies on
    white. No more frames are decoded than are needed.

    Args:
        path: A video (.mp4, .mov, .mkv, .webm, .avi, .gif), or a folder of images of one size, in natural order of
            their names (2 before 10).
        frames: Take the first so many (4k + 1). None: all, whatever their number, up to `MOST_FRAMES`.

    Raises:
        LavinditError: There is no clip, it is damaged, cut short or shorter than asked for, longer than can be taken
            whole, or its frames differ in size.
    """
    path = Path(path)
    if frames is not None and (frames < SHORTEST or usable_length(frames) != frames):
        near = max(SHORTEST, usable_length(frames))
        raise LavinditError(f"{frames} frames of {path} are asked for; clips have 4k+1 frames, ask for {near}")
    limit = frames or MOST_FRAMES + 1
    found = _load_frames(path, limit) if path.is_dir() else _load_video(path, limit)
    if not found:
        raise LavinditError(f"{path} holds no frame; replace the file")
    if len(found) < (frames or 0):
        raise LavinditError(f"{path} has {len(found)} frames, {frames} are asked for; give a longer clip")
    if len(found) > (frames or MOST_FRAMES):
        raise LavinditError(f"{path} has more than {MOST_FRAMES} frames; cut it into shorter clips")
    pixels = torch.from_numpy(np.stack(found))
    return pixels.permute(3, 0, 1, 2).contiguous().float().div_(255)


def save_clip(picture: Tensor, path: Path | str, fps: float = 8) -> None:
    """Write a clip as a video or as a folder of frames, whole or not at all; missing folders are made.

    A video is H.264 with colours at half the size: good to look at, not exact. Its sides are even, so the last column
    or row of an odd one is repeated. A folder holds exact 8-bit frames 0000.png, 0001.png, ...

    Args:
        picture: [3, T, H, W] in [0, 1]; values outside are clipped, NaN is black.
        path: `NAME.mp4`, or a folder, in place of one that is there.
        fps: Frames a second of the video.

    Raises:
        ValueError: The tensor has another shape.
        LavinditError: The suffix is that of another kind of file, or the place cannot be written to.
    """
    path = Path(path)
    if picture.ndim != 4 or picture.shape[0] != 3 or 0 in picture.shape:
        raise ValueError(f"a clip has shape [3, T, H, W], not {list(picture.shape)}")
    if path.suffix.lower() == ".mp4":
        write_atomically(path, _encode(picture, fps))
    elif path.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES:
        raise LavinditError(f"cannot write a clip as {path}; name a .mp4 file, or a folder for its frames")
    else:
        _save_frames(picture, path)


def _load_frames(folder: Path, frames: int) -> list[np.ndarray]:
    """The frames of a folder, uint8 [H, W, 3] each."""
    files = sorted((path for path in folder.iterdir() if _is_frame(path)), key=_natural)
    if not files:
        raise LavinditError(f"no frames in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    found: list[np.ndarray] = []
    for path in files[:frames]:
        frame = to_eight_bit(load_picture(path))[:, 0].permute(1, 2, 0).numpy()
        if found and frame.shape != found[0].shape:
            raise LavinditError(
                f"{path} is {_size(frame)}, {files[0].name} is {_size(found[0])}; give all frames of a clip one size"
            )
        found.append(frame)
    return found


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts 2 before 10: numbers by value, before words."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts] + [(2, 0, path.name)]


def _size(frame: np.ndarray) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


def _load_video(path: Path, frames: int) -> list[np.ndarray]:
    """The first frames of a video, uint8 [H, W, 3] each."""
    if not path.exists():
        raise LavinditError(f"no such clip: {path}")
    found: list[np.ndarray] = []
    try:
        if is_cut_short(path):
            raise _damaged(path, _count(path), "the file is shorter than it says")
        for frame in islice(_decode(path), frames):
            if found and frame.shape != found[0].shape:
                raise LavinditError(f"{path} changes its size from {_size(found[0])} to {_size(frame)}; cut it there")
            found.append(frame)
        if not found:
            raise ValueError("it has no pictures")
    except (FFmpegError, OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise _damaged(path, len(found), reason) from error
    return found


def _damaged(path: Path, count: int, reason: str) -> LavinditError:
    return LavinditError(f"{path} is damaged or no clip: {count} frames could be read ({reason}); replace the file")


def _count(path: Path) -> int:
    """How many frames of a damaged video can be read."""
    count = 0
    try:
        for _ in _decode(path):
            count += 1
    except (FFmpegError, OSError, ValueError):
        pass
    return count


def _decode(path: Path) -> Iterator[np.ndarray]:
    """Frame by frame, uint8 [H, W, 3], the right way up."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            return
        for frame in container.decode(video=0):
            if frame.is_corrupt:
                raise ValueError("a frame is spoilt")
            yield _upright(_pixels(frame), frame)


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """A frame as uint8 RGB [H, W, 3], on white where it is transparent."""
    if not any(component.is_alpha for component in frame.format.components):
        return frame.to_ndarray(format="rgb24")
    layers = frame.to_ndarray(format="rgba").astype(np.float32)
    cover = layers[..., 3:] / 255
    return (layers[..., :3] * cover + 255 * (1 - cover)).round().astype(np.uint8)


def _upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turn and mirror pixels [H, W, 3] as the display matrix says: x' = a x + c y, y' = b x + d y."""
    attached: Any = frame.side_data
    for data in attached:
        if data.type == SideDataType.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5]
            if abs(b) > abs(a):
                pixels, a, d = pixels.transpose(1, 0, 2), c, b
            pixels = pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return pixels


def is_cut_short(path: Path) -> bool:
    """Whether a video file ends before the end that its own header states.

    Decoders end quietly where a Matroska or GIF file does, and the number of frames that a header states need not be
    the number that are shown (an edit list may leave some out), so the sizes of the parts of the file are compared.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] == b"ftyp":
            return _boxes_end(file, size) > size
        if head[:4] == b"RIFF":
            return int.from_bytes(head[4:8], "little") + 8 > size
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _segment_end(head, size) > size
        if head[:3] == b"GIF":
            file.seek(max(0, size - 16))
            return not file.read().rstrip(b"\0").endswith(b";")
    return False


def _boxes_end(file: io.BufferedReader, size: int) -> int:
    """Where the last box of an MP4 or QuickTime file ends (ISO 14496-12, 4.2); padding after it does not count."""
    place = end = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:], "big") if length == 1 else length
        if length < 8 or not kind.isalnum():
            break
        place = end = place + length
    return end


def _segment_end(head: bytes, size: int) -> int:
    """Where the segment of a Matroska or WebM file ends (RFC 8794); `size` where it does not say."""
    length, place = _variable_int(head, 4)
    place += length
    if head[place : place + 4] != b"\x18\x53\x80\x67":
        return size
    length, start = _variable_int(head, place + 4)
    unknown = length == (1 << 7 * (start - place - 4)) - 1
    return size if unknown else start + length


def _variable_int(head: bytes, place: int) -> tuple[int, int]:
    """An EBML number, and the place after it; the leading zeros of its first byte tell its length."""
    if place >= len(head) or head[place] == 0:
        return 0, place
    width = 9 - head[place].bit_length()
    value = int.from_bytes(head[place : place + width], "big") & ((1 << 7 * width) - 1)
    return value, place + width


def _encode(picture: Tensor, fps: float) -> bytes:
    """A clip [3, T, H, W] as the bytes of an MP4 file."""
    frames = to_eight_bit(picture).permute(1, 2, 3, 0).cpu().numpy()
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        # Every build of PyAV can write MPEG-4; the wheels have H.264 too.
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        settings: dict[str, Any] = {"options": _QUALITY} if codec == "libx264" else {"bit_rate": 20_000_000}
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), **settings)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _save_frames(picture: Tensor, folder: Path) -> None:
    """A clip [3, T, H, W] as a folder of PNG files."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            for index, frame in enumerate(picture.split(1, 1)):
                save_picture(frame, temporary / f"{index:04d}.png")
            put_in_place(temporary, folder)
        finally:
            remove(temporary)
    except OSError as error:
        raise LavinditError(f"cannot write {folder}: {error.strerror or error}") from error
