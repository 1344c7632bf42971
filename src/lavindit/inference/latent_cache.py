"""Latents of pictures that come again: the pairs of a test are drawn from a limited set, over and over."""

from collections import OrderedDict
from hashlib import blake2b

import torch
from torch import Tensor

from lavindit.models import STVAE

LIMIT = 2**30


class LatentCache:
    """Posterior means of one VAE by the pixels that they are of; those asked least recently go first.

    Args:
        limit: Bytes of latents that are kept.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.bytes, self.hits = limit, 0, 0
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    @torch.no_grad()
    def to_latent(self, vae: STVAE, pictures: Tensor, chunk: int | None = None) -> Tensor:
        """As `STVAE.to_latent`, of the pictures that are new; `chunk` of them a pass.

        Args:
            vae: The VAE, always the same.
            pictures: [..., 3, T, H, W] in [0, 1].
            chunk: Pictures a pass of the encoder; None: all at once.
        """
        flat = pictures.flatten(0, -5)
        keys = [_key(picture) for picture in flat]
        new = {key: place for place, key in enumerate(keys) if key not in self._kept}
        self.hits += len(keys) - len(new)
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if new:
            latents = vae.to_latent(flat[list(new.values())], chunk=chunk)
            found |= {key: latent.clone() for key, latent in zip(new, latents, strict=True)}
        self._keep(found)
        return torch.stack([found[key] for key in keys]).unflatten(0, pictures.shape[:-4])

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.bytes = 0

    def _keep(self, found: dict[bytes, Tensor]) -> None:
        for key, latent in found.items():
            if key not in self._kept:
                self.bytes += latent.nbytes
            self._kept[key] = latent
            self._kept.move_to_end(key)
        while self.bytes > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes


def _key(picture: Tensor) -> bytes:
    pixels = picture.detach().cpu().contiguous()
    digest = blake2b(repr((tuple(pixels.shape), str(pixels.dtype))).encode(), digest_size=16)
    digest.update(pixels.view(torch.uint8).numpy().tobytes())
    return digest.digest()
