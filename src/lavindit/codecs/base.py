"""The codec contract: an invertible map between native units and pictures."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Codec(ABC):
    """Turns a native tensor into a picture and back.

    A codec says what it can hold and how exactly: contract tests encode random natives inside `bounds`,
    decode them, and compare within `tolerance`.

    Attributes:
        name: Registry key.
        channels: Native channels N.
        unit: Unit of the native values, e.g. "m"; "1" for none.
        bounds: Smallest and largest native value that survives the round trip; values outside are clamped.
        tolerance: Largest absolute error of decode(encode(y)) in native units for float pictures.
        invalid: What an invalid pixel looks like, in words.
    """

    name: ClassVar[str]
    channels: ClassVar[int]
    unit: ClassVar[str]
    bounds: tuple[float, float]
    tolerance: float
    invalid: ClassVar[str]

    @abstractmethod
    def encode(self, native: Tensor, valid: Tensor) -> Tensor:
        """Native [N, T, H, W], valid bool [1, T, H, W] -> picture [3, T, H, W] in [0, 1]."""

    @abstractmethod
    def decode(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] in [0, 1] (values outside are clamped) -> native [N, T, H, W]."""
