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
ASPECT_TOLERANCE = 0.01


def load_picture(path: Path | str) -> Tensor:
    """Read an image file as a picture [3, 1, H, W] in [0, 1]; of an animation the first frame.

    Gray is repeated, 16-bit gray is divided by 65535, palettes and CMYK become RGB, transparency lies on white, and the
    picture is turned as its EXIF data say.

    Raises:
        LavinditError: The file is missing, is no image, is cut short, or has 32-bit pixels, whose range nobody states.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            # Older versions of Pillow call the 16 bits of a PNG "I", which is 32 bits elsewhere.
            is_deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
            image = ImageOps.exif_transpose(image)
            if is_deep:
                return _from_deep(np.asarray(image), image.info.get("transparency"))
            if image.mode in ("I", "F"):
                raise LavinditError(f"{path} has 32-bit pixels (mode {image.mode}); give 8-bit RGB or 16-bit gray")
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


def _from_deep(values: np.ndarray, transparent: object) -> Tensor:
    """16-bit gray [H, W] -> picture [3, 1, H, W]; the transparent value, if there is one, is white."""
    gray = values.astype(np.float32) / 65535
    if isinstance(transparent, int):
        gray[values == transparent] = 1.0
    return torch.from_numpy(gray).expand(3, 1, -1, -1).clone()


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
    pixels = to_eight_bit(picture).cpu()
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


def resize(picture: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic resize of a picture [3, T, H, W]."""
    if picture.shape[2:] == (height, width):
        return picture
    frames = picture.transpose(0, 1)
    return F.interpolate(frames, (height, width), mode="bicubic", antialias=True).clamp(0, 1).transpose(0, 1)


def resize_nearest(field: Tensor, height: int, width: int) -> Tensor:
    """Field [N, T, H, W] of any type -> [N, T, height, width]; each pixel takes the value nearest to its centre."""
    # In whole numbers, so that no rounding moves a pixel.
    rows, columns = (
        (2 * torch.arange(new, device=field.device) + 1) * old // (2 * new)
        for new, old in zip((height, width), field.shape[2:], strict=True)
    )
    return field[:, :, rows][:, :, :, columns]


def stretch(picture: Tensor, size: int) -> Tensor:
    """Resize a picture [3, T, H, W] to [3, T, size, size] without keeping its aspect ratio, as the release does.

    Antialiased bicubic of torchvision on 8-bit values, bit for bit; values between two of them are rounded first.
    """
    # Imported here: it takes a second, and only the released preset needs it.
    from torchvision.transforms.v2 import InterpolationMode, functional

    frames = to_eight_bit(picture).transpose(0, 1)
    bicubic = InterpolationMode.BICUBIC
    resized = functional.resize(frames, [size, size], interpolation=bicubic, antialias=True)
    return resized.transpose(0, 1).float() / 255


def truncate(picture: Tensor) -> Tensor:
    """The 8-bit values k/255 at or below a picture's own; a file then holds exactly k."""
    return picture.nan_to_num(0.0).clamp(0, 1).mul(255).to(torch.uint8).float() / 255


def to_eight_bit(picture: Tensor) -> Tensor:
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

    def apply_nearest(self, field: Tensor) -> Tensor:
        """A field [N, T, height, width] of any type -> [N, T, size, size]; no value is mixed from others."""
        inner = resize_nearest(field, self.inner_height, self.inner_width)
        rows = (torch.arange(self.size) - self.top).clamp(0, self.inner_height - 1)
        columns = (torch.arange(self.size) - self.left).clamp(0, self.inner_width - 1)
        return inner[:, :, rows][:, :, :, columns]

    @property
    def scale(self) -> tuple[float, float]:
        """How much wider and higher `undo` makes the picture."""
        return self.width / self.inner_width, self.height / self.inner_height

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

    @property
    def scale(self) -> tuple[float, float]:
        """1 and 1: `undo` changes nothing."""
        return 1.0, 1.0

    def inside(self) -> Tensor:
        """Mask [1, 1, size, size], all True: nothing is padded."""
        return torch.ones(1, 1, self.size, self.size, dtype=torch.bool)

    def undo(self, picture: Tensor) -> Tensor:
        """The picture as it is: the release leaves its answers at the model's size."""
        return picture


FITS: dict[Fit, type[Letterbox] | type[Stretch]] = {"pad": Letterbox, "stretch": Stretch}


def same_aspect(a: Tensor, b: Tensor) -> bool:
    """Whether the centred squares of two pictures [N, T, H, W] show the same place: equal aspect ratios, within 1 %."""
    ratios = [picture.shape[3] / picture.shape[2] for picture in (a, b)]
    return abs(ratios[0] / ratios[1] - 1) <= ASPECT_TOLERANCE


def center_crop(field: Tensor) -> Tensor:
    """The largest centred square of a field [N, T, H, W]."""
    side = min(field.shape[2:])
    top, left = (field.shape[2] - side) // 2, (field.shape[3] - side) // 2
    return field[:, :, top : top + side, left : left + side]


def center_square(picture: Tensor, size: int) -> Tensor:
    """The largest centred square of a picture, resized to [3, T, size, size]."""
    return resize(center_crop(picture), size, size)
