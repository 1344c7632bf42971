"""From a target file to the truth in native units: pictures are decoded, arrays are taken as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lavindit.codecs import CODECS, DepthCodec, FlowCodec, NormalsCodec, PaletteCodec
from lavindit.codecs.base import Codec
from lavindit.codecs.colours import EXACT, nearest_colour
from lavindit.errors import LavinditError
from lavindit.pictures import Letterbox, center_crop, center_square, resize_nearest, stretch
from lavindit.task.folder_pairs import ARRAY
from lavindit.task.folder_yaml import FILE_NAME

Fit = Literal["crop", "stretch"]
AnyFit = Fit | Literal["pad"]
# Codecs whose pictures may be smoothed; of others, each pixel is decoded by itself.
SMOOTH = frozenset({"identity", "mask"})
OFF_COLOURS = 0.05
"""Mean distance a channel from a codec's colours, 0-1, beyond which a picture is none of its. JPEG moves a picture of a
codec by less than 0.01; photographs in colour are 0.05 to 0.18 from the grays of depth, 0.16 and more from flow's."""
FOLDER_CODECS = tuple(name for name, codec in CODECS.items() if codec.pixelwise)


class Truth(NamedTuple):
    """Native [N, T, size, size], and valid bool [1, T, size, size]."""

    native: Tensor
    valid: Tensor


def square_picture(picture: Tensor, size: int, fit: AnyFit) -> Tensor:
    """A picture [3, T, H, W] as [3, T, size, size], antialiased."""
    if fit == "pad":
        return Letterbox(picture, size).apply(picture)
    return center_square(picture, size) if fit == "crop" else stretch(picture, size)


def read_truth(
    path: Path, values: Tensor, codec: Codec, size: int, fit: AnyFit, colours: Sequence[Sequence[int]] = ()
) -> Truth:
    """The truth that a target file holds.

    Args:
        path: The file: of a .npy the values are natives, otherwise a picture.
        values: What it holds, at its own size: [N, T, H, W] or [3, T, H, W].
        codec: The task's codec; ids come back as it ranks them.
        size: Side of the square.
        fit: How the file is brought there; of what "pad" adds `valid` says nothing.
        colours: RGB levels 0-255 of a palette's picture; empty: every colour but black is an instance.

    Raises:
        LavinditError: The codec cannot hold what is in the file.
    """
    is_array = path.suffix.lower() == ARRAY
    if is_array and len(values) != codec.channels:
        raise LavinditError(
            f"{path} has shape {list(values.shape)}, codec {codec.name!r} takes [{codec.channels}, T, H, W] "
            f"or [{codec.channels}, H, W]"
        )
    if codec.name in SMOOTH:
        return _smooth(path, values, codec, size, fit)
    field, scale = _square_field(values, size, fit)
    native = _typed(field, codec) if is_array else _decode(path, field, codec, colours)
    valid = native.isfinite().all(0, keepdim=True)
    if isinstance(codec, FlowCodec):
        native = native * torch.tensor(scale).view(2, 1, 1, 1)
        valid = valid if is_array else valid & codec.decode_valid(field)
    return _fitted(path, Truth(native, valid), codec)


def _typed(values: Tensor, codec: Codec) -> Tensor:
    """Numbers of an array as float32; ids stay as they are, or large ones would melt together."""
    return values if codec.unit == "id" else values.float()


def _smooth(path: Path, values: Tensor, codec: Codec, size: int, fit: AnyFit) -> Truth:
    """Of a codec whose natives are shades: resized as a picture."""
    known = values.isfinite().all(0, keepdim=True)
    if path.suffix.lower() == ARRAY:
        _check_bounds(path, values[:, known[0]], codec)
        values = codec.encode(values.float(), known)
    native = codec.decode(square_picture(values, size, fit))
    return Truth(native, _square_field(known, size, fit)[0])


def _square_field(field: Tensor, size: int, fit: AnyFit) -> tuple[Tensor, tuple[float, float]]:
    """Field [N, T, H, W] as [N, T, size, size], each pixel the nearest value; and its scale across and down."""
    if fit == "pad":
        box = Letterbox(field, size)
        return box.apply_nearest(field), (box.inner_width / box.width, box.inner_height / box.height)
    window = center_crop(field) if fit == "crop" else field
    return resize_nearest(window, size, size), (size / window.shape[3], size / window.shape[2])


def _decode(path: Path, picture: Tensor, codec: Codec, colours: Sequence[Sequence[int]]) -> Tensor:
    """Picture [3, T, H, W] -> native [N, T, H, W]."""
    if isinstance(codec, PaletteCodec):
        return _named_ids(path, picture, colours) if colours else _counted_ids(path, picture, codec.count)
    if codec.name == "panoptic":
        raise LavinditError(f"{path} is a picture; of codec 'panoptic' targets are .npy arrays [2, H, W]: class, id")
    native = codec.decode(picture)
    if isinstance(codec, DepthCodec | FlowCodec):
        _check_colours(path, picture, native, codec)
    return native


def _check_colours(path: Path, picture: Tensor, native: Tensor, codec: DepthCodec | FlowCodec) -> None:
    """Refuse a photograph, or a map in another tool's colours: every colour would be read as the nearest of ours."""
    known = codec.decode_valid(picture) if isinstance(codec, FlowCodec) else native.isfinite()
    away = (codec.encode(native, known) - picture).abs().mean(0)[known[0]]
    if away.numel() and float(away.mean()) > OFF_COLOURS:
        raise LavinditError(
            f"{path} is not in the colours of codec {codec.name!r}; save its values as a {ARRAY} file, in {codec.unit}"
        )


def _named_ids(path: Path, picture: Tensor, colours: Sequence[Sequence[int]]) -> Tensor:
    """Ids [1, T, H, W] of a picture in known colours: 1 for the first that is not black, and so on."""
    others = [colour for colour in colours if any(colour)]
    labels, distance = nearest_colour(picture, torch.tensor([(0, 0, 0), *others]) / 255)
    if float(distance.max()) > EXACT:
        wrong = [round(255 * level) for level in picture[:, distance == distance.max()][:, 0].tolist()]
        raise LavinditError(
            f"{path} has pixels of the colour {wrong}, which is none of `colours` in {FILE_NAME}; add it there, "
            "or save the picture without smoothing (as PNG)"
        )
    return labels[None].double()


def _counted_ids(path: Path, picture: Tensor, most: int) -> Tensor:
    """Ids [1, T, H, W] of a picture in unknown colours: all but black, in order of their levels."""
    red, green, blue = (picture * 65535).round().long()
    keys = (red << 32) | (green << 16) | blue
    found = keys.unique()
    found = found[found > 0]
    if len(found) > most:
        raise LavinditError(
            f"{path} has {len(found)} colours besides black, codec 'palette' holds {most} instances; raise its "
            f"`colours` in {FILE_NAME}, or save the picture without smoothing (as PNG)"
        )
    return torch.where(keys > 0, torch.searchsorted(found, keys) + 1, 0)[None].double()


def _fitted(path: Path, truth: Truth, codec: Codec) -> Truth:
    """The truth as the codec can hold it; what it cannot is not valid, or refused."""
    native, valid = truth
    if codec.unit == "id":
        valid = valid & (native >= 0).all(0, keepdim=True)
        try:
            # The codec ranks ids that are too large; so must the truth be.
            ranked = codec.decode(codec.encode(native, valid))
        except LavinditError as error:
            raise LavinditError(f"{path}: {error}") from error
        return Truth(ranked, valid)
    if isinstance(codec, NormalsCodec):
        _check_bounds(path, native[:, valid[0]], codec)
        length = native.norm(dim=0, keepdim=True)
        return Truth(native / length.clamp_min(1e-6), valid & (length > 1e-6))
    # Pictures decode to the very bounds, up to rounding.
    low, high = codec.bounds[0] - codec.tolerance, codec.bounds[1] + codec.tolerance
    inside = valid & (native >= low).all(0, keepdim=True) & (native <= high).all(0, keepdim=True)
    if isinstance(codec, DepthCodec | FlowCodec):
        if bool(valid.any()) and not bool(inside.any()):
            raise _beyond(path, native[:, valid[0]], codec)
        return Truth(native, inside & (native.norm(dim=0, keepdim=True) <= high))
    raise TypeError(f"codec {codec.name!r} is none of a folder")


def _check_bounds(path: Path, values: Tensor, codec: Codec) -> None:
    low, high = codec.bounds
    if values.numel() and (float(values.min()) < low - 1e-3 or float(values.max()) > high + 1e-3):
        raise _beyond(path, values, codec)


def _beyond(path: Path, values: Tensor, codec: Codec) -> LavinditError:
    unit = "" if codec.unit == "1" else f" {codec.unit}"
    low, high = codec.bounds
    return LavinditError(
        f"{path} holds values from {float(values.min()):g} to {float(values.max()):g}, codec {codec.name!r} holds "
        f"{low:g} to {high:g}{unit}; give that unit, or the codec another range in {FILE_NAME}"
    )
