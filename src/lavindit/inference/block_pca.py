"""Principal components of blocks of pixels: what a linear code of the latent's size would keep of a picture."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from lavindit.errors import LavinditError

BLOCK_PX = 8
"""Side of a block: what the VAE makes one latent pixel of."""
VALUES = 3 * BLOCK_PX**2


@dataclass(frozen=True, eq=False)
class BlockMoments:
    """Sums over blocks, all that their principal components depend on. They add up, and can be weighted.

    Attributes:
        count: Number of blocks.
        total: Sum of the blocks, float64 [192].
        products: Sum of their outer products, float64 [192, 192].
    """

    count: float
    total: Tensor
    products: Tensor

    @classmethod
    def none(cls) -> "BlockMoments":
        """Of no block."""
        kind = torch.float64
        return cls(0.0, torch.zeros(VALUES, dtype=kind), torch.zeros(VALUES, VALUES, dtype=kind))

    @classmethod
    def of(cls, picture: Tensor) -> "BlockMoments":
        """Of the blocks of all frames of a picture [3, T, H, W] whose sides are multiples of 8."""
        blocks = to_blocks(picture).flatten(0, -2)
        return cls(float(len(blocks)), blocks.sum(0), blocks.T @ blocks)

    def __add__(self, other: "BlockMoments") -> "BlockMoments":
        return BlockMoments(self.count + other.count, self.total + other.total, self.products + other.products)

    def scaled(self, factor: float) -> "BlockMoments":
        """As if each block had come `factor` times."""
        return BlockMoments(self.count * factor, self.total * factor, self.products * factor)


@dataclass(frozen=True, eq=False)
class BlockPCA:
    """The mean block and the directions in which blocks vary most.

    A block of 8x8 RGB pixels becomes one number a component, so with as many components as the latent has channels
    an image takes as many numbers as in the latent space. Frames of a clip are taken one by one: a clip then takes
    about four times as many numbers as in the latent space, which is four times shorter.

    Attributes:
        mean: float64 [192].
        components: Orthonormal rows, largest variance first, float64 [components, 192].
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, moments: BlockMoments, components: int) -> "BlockPCA":
        """The first principal components of the blocks, as many as asked for or as a block has numbers.

        Raises:
            LavinditError: There is no block.
        """
        if moments.count <= 0:
            raise LavinditError("principal components need at least one picture; give more pca_pictures")
        mean = moments.total / moments.count
        covariance = moments.products / moments.count - torch.outer(mean, mean)
        directions = torch.linalg.eigh(covariance).eigenvectors  # smallest variance first
        return cls(mean, directions.flip(1)[:, :components].T.contiguous())

    def reconstruct(self, picture: Tensor) -> Tensor:
        """Picture [3, T, H, W] in [0, 1], sides multiples of 8 -> the same through the components, float32."""
        blocks = to_blocks(picture) - self.mean
        rebuilt = (blocks @ self.components.T) @ self.components + self.mean
        side = {"p": BLOCK_PX, "q": BLOCK_PX}
        return rearrange(rebuilt, "t h w (c p q) -> c t (h p) (w q)", **side).clamp(0, 1).float()


def to_blocks(picture: Tensor) -> Tensor:
    """Picture [3, T, H, W], sides multiples of 8 -> its blocks, float64 [T, H/8, W/8, 192]."""
    side = {"p": BLOCK_PX, "q": BLOCK_PX}
    return rearrange(picture.double().cpu(), "c t (h p) (w q) -> t h w (c p q)", **side)
