"""Statistics of latents by channel, exact and in any number of parts.

Legend: C latent channels, t latent frames, h w latent size.
"""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from lavindit.models.stvae.model import STVAE
from lavindit.types import EpisodeBatch

LEAST_STD = 1e-3
"""A channel that hardly varies is not scaled by more than 1 / this."""


class LatentMoments:
    """Mean and standard deviation of each channel, over all values seen so far.

    Each part's own moments are taken in float64 around its own mean and then joined (Chan, Golub and LeVeque 1979), so
    the result is that of one pass over all values, and nothing is lost where the mean is large.

    Args:
        channels: C.

    Attributes:
        count: Values a channel.
        mean: [C], float64.
        squares: [C], float64: sum of the squared distances from the mean.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0.0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def update(self, latents: Tensor) -> "LatentMoments":
        """Add latents [*, C, t, h, w], of any float type."""
        values = latents.detach().movedim(-4, 0).flatten(1).double()
        part = LatentMoments(len(self.mean))
        if values.shape[1]:
            mean = values.mean(1)
            part.count, part.mean = float(values.shape[1]), mean.cpu()
            part.squares = (values - mean[:, None]).square().sum(1).cpu()
        return self.merge(part)

    def merge(self, other: "LatentMoments") -> "LatentMoments":
        """Add what another one has seen."""
        total = self.count + other.count
        if other.count:
            apart = other.mean - self.mean
            self.mean = self.mean + apart * (other.count / total)
            self.squares = self.squares + other.squares + apart.square() * (self.count * other.count / total)
            self.count = total
        return self

    @property
    def std(self) -> Tensor:
        """Standard deviation [C], float64, of the values as a whole population; 0 before the first."""
        return (self.squares / max(self.count, 1)).sqrt()

    @property
    def shift(self) -> Tensor:
        """What `STVAE.latent_shift` takes: the mean [C], float32."""
        return self.mean.float()

    @property
    def scale(self) -> Tensor:
        """What `STVAE.latent_scale` takes: 1 / the standard deviation [C], float32."""
        return (1 / self.std.clamp_min(LEAST_STD)).float()

    def to_tensor(self) -> Tensor:
        """Everything as one tensor [1 + 2C], float64, for processes to exchange."""
        return torch.cat([torch.tensor([self.count], dtype=torch.float64), self.mean, self.squares])

    @classmethod
    def from_tensors(cls, rows: Tensor) -> "LatentMoments":
        """Join what several processes have seen: rows [n, 1 + 2C] of `to_tensor`."""
        rows = rows.detach().cpu().double()
        found = cls((rows.shape[1] - 1) // 2)
        for row in rows:
            part = cls(len(found.mean))
            part.count = float(row[0])
            part.mean, part.squares = row[1:].chunk(2)
            found.merge(part)
        return found


@torch.no_grad()
def measure_latents(vae: STVAE, batches: Iterable[EpisodeBatch], count: int, chunk: int | None = None) -> LatentMoments:
    """Moments of the posterior means of all inputs and targets of the first `count` batches, not normalised.

    Args:
        vae: The VAE; pictures are moved to where it is.
        batches: Of the training mixture.
        count: How many of them.
        chunk: Pictures a pass of the encoder; None: all of a batch's inputs, then all of its targets.
    """
    moments = LatentMoments(vae.config.latent_channels)
    device = vae.latent_shift.device
    for batch in islice(batches, count):
        for pictures in (batch.inputs, batch.targets):
            flat = pictures.flatten(0, 1)
            for part in flat.split(chunk or len(flat)):
                moments.update(vae.encode(part.to(device) * 2 - 1).mean)
    return moments
