from types import SimpleNamespace

import pytest
import torch

from conftest import TINY_JDIT
from lavindit.errors import LavinditError
from lavindit.inference.latent_cache import LatentCache
from lavindit.training import DiTModule
from lavindit.types import EpisodeBatch


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(5, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def encoded(vae, monkeypatch) -> list[int]:
    """How many pictures each pass of the encoder gets from now on."""
    counts, encode = [], vae.encode
    monkeypatch.setattr(vae, "encode", lambda x: (counts.append(len(x)), encode(x))[1])
    return counts


def test_gives_what_the_vae_gives_and_asks_it_once(tiny_vae, pictures, monkeypatch):
    cache = LatentCache()
    plain = tiny_vae.to_latent(pictures)
    counts = encoded(tiny_vae, monkeypatch)
    torch.testing.assert_close(cache.to_latent(tiny_vae, pictures[[0, 1, 1, 2]].unflatten(0, (2, 2))).flatten(0, 1),
                               plain[[0, 1, 1, 2]], atol=1e-5, rtol=1e-5)  # fmt: skip
    torch.testing.assert_close(cache.to_latent(tiny_vae, pictures), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cache.to_latent(tiny_vae, pictures.flip(0)), plain.flip(0), atol=1e-5, rtol=1e-5)
    assert counts == [3, 2]  # the third call has nothing new
    assert cache.hits == 1 + 3 + 5


def test_pictures_of_other_shape_or_pixels_are_others(tiny_vae, pictures, monkeypatch):
    cache, counts = LatentCache(), encoded(tiny_vae, monkeypatch)
    cache.to_latent(tiny_vae, pictures[:1])
    cache.to_latent(tiny_vae, pictures[:1].reshape(1, 3, 1, 8, 32))
    changed = pictures[:1].clone()
    changed[0, 0, 0, 0, 0] += 1e-3
    cache.to_latent(tiny_vae, changed)
    assert counts == [1, 1, 1]


def test_forgets_what_was_asked_least_recently(tiny_vae, pictures, monkeypatch):
    one = tiny_vae.to_latent(pictures[:1]).nbytes
    cache, counts = LatentCache(limit=2 * one), encoded(tiny_vae, monkeypatch)
    for place in (0, 1, 0, 2, 0, 1):  # 2 displaces 1, since 0 was asked again
        cache.to_latent(tiny_vae, pictures[place : place + 1])
    assert len(counts) == 4
    assert cache.bytes == 2 * one
    cache.clear()
    assert cache.bytes == 0


def test_a_batch_beyond_the_limit_is_answered_whole(tiny_vae, pictures):
    cache = LatentCache(limit=1)
    torch.testing.assert_close(cache.to_latent(tiny_vae, pictures), tiny_vae.to_latent(pictures), atol=1e-5, rtol=1e-5)
    assert cache.bytes == 0


def test_a_training_that_keeps_latents_encodes_a_picture_once(tiny_vae_dir, monkeypatch):
    clips = torch.rand(2, 2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = EpisodeBatch(clips, clips.flip(0), (SimpleNamespace(sample_id="a"), SimpleNamespace(sample_id="b")))  # pyright: ignore
    plain, keeping = (DiTModule(str(tiny_vae_dir), TINY_JDIT, keep_latents=keep) for keep in (False, True))
    counts = encoded(keeping.frozen_vae(), monkeypatch)
    for _ in range(2):
        found, expected = keeping._encode(batch, seed=0), plain._encode(batch, seed=0)
        torch.testing.assert_close(found.inputs, expected.inputs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.targets, expected.targets, atol=1e-5, rtol=1e-5)
    assert sum(counts) == 4
    with pytest.raises(LavinditError, match="keep_latents keeps means"):
        DiTModule(str(tiny_vae_dir), TINY_JDIT, keep_latents=True, posterior="sample")
