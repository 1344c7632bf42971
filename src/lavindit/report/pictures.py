"""Pictures as PNG files."""

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lavindit.report.files import write_atomically

GAP_PX = 2


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
    pixels = picture.detach().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    _, frames, height, width = pixels.shape
    strip = torch.full((height, frames * (width + GAP_PX) - GAP_PX, 3), 255, dtype=torch.uint8)
    for index, frame in enumerate(pixels.unbind(1)):
        left = index * (width + GAP_PX)
        strip[:, left : left + width] = frame.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(strip.numpy()).save(buffer, format="PNG")
    write_atomically(Path(path), buffer.getvalue())
