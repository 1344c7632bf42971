"""Pictures in and out of files, and in and out of the sizes that the networks take."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.files import write_atomically

GAP_PX = 2
Fit = Literal["pad", "stretch"]
Rounding = Literal["nearest", "truncate"]
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


def load_picture(path: Path | str) -> Tensor:
    """Read an image file as a picture [3, 1, H, W] in [0, 1]; gray is repeated, transparency lies on white.

    Raises:
        LavinditError: The file is missing, is no image, or is cut short.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                raise LavinditError(f"{path} has {image.mode} pixels; give 8-bit RGB or gray")
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise LavinditError(f"no such image: {path}") from None
    except IsADirectoryError:
        raise LavinditError(f"{path} is a folder; name image files") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LavinditError(f"cannot read {path} as an image ({error}); replace or remove the file") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[:, None].float() / 255


def save_picture(picture: Tensor, path: Path | str) -> None:
    """Write a picture as PNG, whole or not at all; missing folders are made.

    Args:
        picture: [3, T, H, W] in [0, 1]; values outside are clipped, NaN is black. T = 1 gives an image, T > 1 a
            film strip: the frames side by side, a white gap between them.
        path: The file.

    Raises:
        ValueError: The tensor has another shape.
        LavinditError: The folder cannot be written to.
    """
    if picture.ndim != 4 or picture.shape[0] != 3 or 0 in picture.shape:
        raise ValueError(f"a picture has shape [3, T, H, W], not {list(picture.shape)}")
    pixels = _eight_bit(picture).cpu()
    _, frames, height, width = pixels.shape
    strip = torch.full((height, frames * (width + GAP_PX) - GAP_PX, 3), 255, dtype=torch.uint8)
    for index, frame in enumerate(pixels.unbind(1)):
        left = index * (width + GAP_PX)
        strip[:, left : left + width] = frame.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(strip.numpy()).save(buffer, format="PNG")
    write_atomically(Path(path), buffer.getvalue())


def save_array(values: Tensor, path: Path | str) -> None:
    """Write a tensor as a NumPy file, whole or not at all.

    Raises:
        LavinditError: The folder cannot be written to.
    """
    buffer = io.BytesIO()
    np.save(buffer, values.detach().cpu().numpy())
    write_atomically(Path(path), buffer.getvalue())


def list_images(folder: Path | str) -> list[Path]:
    """Image files below a folder, sorted by name.

    Raises:
        LavinditError: The folder is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LavinditError(f"no such folder: {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise LavinditError(f"no images in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def resize(picture: Tensor, height: int, width: int, mode: Literal["bicubic", "nearest"] = "bicubic") -> Tensor:
    """Antialiased resize of a picture [3, T, H, W]."""
    if picture.shape[2:] == (height, width):
        return picture
    frames = picture.transpose(0, 1)
    if mode == "nearest":
        return F.interpolate(frames, (height, width), mode="nearest").transpose(0, 1)
    return F.interpolate(frames, (height, width), mode="bicubic", antialias=True).clamp(0, 1).transpose(0, 1)


def stretch(picture: Tensor, size: int) -> Tensor:
    """Resize a picture [3, T, H, W] to [3, T, size, size] without keeping its aspect ratio, as the release does.

    Antialiased bicubic of torchvision on 8-bit values, bit for bit; values between two of them are rounded first.
    """
    # Imported here: it takes a second, and only the released preset needs it.
    from torchvision.transforms.v2 import InterpolationMode, functional

    frames = _eight_bit(picture).transpose(0, 1)
    bicubic = InterpolationMode.BICUBIC
    resized = functional.resize(frames, [size, size], interpolation=bicubic, antialias=True)
    return resized.transpose(0, 1).float() / 255


def truncate(picture: Tensor) -> Tensor:
    """The 8-bit values k/255 at or below a picture's own; a file then holds exactly k."""
    return picture.nan_to_num(0.0).clamp(0, 1).mul(255).to(torch.uint8).float() / 255


def _eight_bit(picture: Tensor) -> Tensor:
    """The nearest uint8 values; values outside [0, 1] are clipped, NaN is 0."""
    return picture.detach().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)


class Letterbox:
    """Fits pictures of one size into a square that the networks take, and takes answers back out of it.

    The longer side is resized to `size`, the shorter keeps the aspect ratio and is padded by repeating its edge.

    Args:
        picture: A picture of that size [3, T, H, W].
        size: Side of the square, a multiple of 8.
    """

    def __init__(self, picture: Tensor, size: int) -> None:
        height, width = picture.shape[2:]
        self.height, self.width, self.size = height, width, size
        scale = size / max(height, width)
        self.inner_height, self.inner_width = max(1, round(height * scale)), max(1, round(width * scale))
        self.top, self.left = (size - self.inner_height) // 2, (size - self.inner_width) // 2

    def apply(self, picture: Tensor) -> Tensor:
        """[3, T, height, width] -> [3, T, size, size]."""
        inner = resize(picture, self.inner_height, self.inner_width)
        right, bottom = self.size - self.inner_width - self.left, self.size - self.inner_height - self.top
        return F.pad(inner, (self.left, right, self.top, bottom), mode="replicate")

    def inside(self) -> Tensor:
        """Mask [1, 1, size, size] of what is picture and not padding."""
        mask = torch.zeros(1, 1, self.size, self.size, dtype=torch.bool)
        mask[:, :, self.top : self.top + self.inner_height, self.left : self.left + self.inner_width] = True
        return mask

    def undo(self, picture: Tensor) -> Tensor:
        """[3, T, size, size] -> [3, T, height, width]."""
        rows = slice(self.top, self.top + self.inner_height)
        return resize(picture[:, :, rows, self.left : self.left + self.inner_width], self.height, self.width)


class Stretch:
    """Fits pictures of any size into a square without keeping their aspect ratio; answers stay that square.

    Args:
        picture: Unused: as `Letterbox` takes it.
        size: Side of the square, a multiple of 8.
    """

    def __init__(self, picture: Tensor, size: int) -> None:
        self.size = size

    def apply(self, picture: Tensor) -> Tensor:
        """[3, T, H, W] -> [3, T, size, size]."""
        return stretch(picture, self.size)

    def inside(self) -> Tensor:
        """Mask [1, 1, size, size], all True: nothing is padded."""
        return torch.ones(1, 1, self.size, self.size, dtype=torch.bool)

    def undo(self, picture: Tensor) -> Tensor:
        """The picture as it is: the release leaves its answers at the model's size."""
        return picture


FITS: dict[Fit, type[Letterbox] | type[Stretch]] = {"pad": Letterbox, "stretch": Stretch}


def center_square(picture: Tensor, size: int) -> Tensor:
    """The largest centred square of a picture, resized to [3, T, size, size]."""
    side = min(picture.shape[2:])
    top, left = (picture.shape[2] - side) // 2, (picture.shape[3] - side) // 2
    return resize(picture[:, :, top : top + side, left : left + side], size, size)
