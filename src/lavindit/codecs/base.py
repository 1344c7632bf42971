"""The codec contract: an invertible map between native units and pictures."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Codec(ABC):
    """Turns a native tensor into a picture and back.

    A codec says what it can hold and how exactly: contract tests encode random natives inside `bounds`,
    decode them, and compare within `tolerance`. A NaN native is an invalid pixel, so a picture never holds a
    NaN; a NaN in a picture (a network that blew up) stays a NaN, for the metric to score as wrong.

    Most natives are maps, one value a pixel. Those of a codec with `pixelwise` false are lists of M things in pixel
    coordinates (boxes, people): `valid` then tells the size of the picture, `decode` returns as many things as it
    finds, and pixels of a picture that are NaN are ignored, so that a picture of nothing but NaN holds no thing.

    Attributes:
        name: Registry key.
        channels: Native channels N; for things the numbers that place one, the last axis.
        pixelwise: Whether natives are maps of the picture's size.
        unit: Unit of the native values, e.g. "m"; "1" for none.
        bounds: Smallest and largest native value that survives the round trip; values outside are clamped.
        tolerance: Largest absolute error of decode(encode(y)) in native units for float pictures.
        tolerance_8bit: The same for pictures rounded to 8 bits a channel, as in a PNG.
        invalid: What an invalid pixel looks like, in words.
    """

    name: str
    channels: ClassVar[int]
    pixelwise: ClassVar[bool] = True
    unit: str
    bounds: tuple[float, float]
    tolerance: float
    tolerance_8bit: float
    invalid: ClassVar[str]

    @abstractmethod
    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Native [N, T, H, W] (or things), valid bool [1, T, H, W] -> picture [3, T, H, W] in [0, 1]."""

    @abstractmethod
    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] in [0, 1] (values outside are clamped) -> native [N, T, H, W] (or things)."""

    def rescale(self, native: Tensor, across: float, down: float) -> Tensor:
        """Native decoded from a picture that was resized after it was drawn, in the units of its new size.

        Args:
            native: As `decode` gives it.
            across: New width by the old one.
            down: New height by the old one.

        Lengths in pixels that a colour stands for have to grow with the picture; places that are read off it do so by
        themselves. By default nothing changes.
        """
        return native

    def random_native(self, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """A native [N, T, H, W] that the codec can hold, for tests; by default uniform within `bounds`."""
        low, high = self.bounds
        return low + (high - low) * torch.rand(self.channels, frames, height, width, generator=generator)
