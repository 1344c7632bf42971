import pytest
import torch

from lavindit.data.episodes import collate
from lavindit.models.stvae.statistics import LEAST_STD, LatentMoments, measure_latents
from lavindit.types import Episode, EpisodeBatch, Pair


def random_latents(*lead: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, 4, 2, 3, 5, generator=generator) * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1, 1) + 7


def test_moments_are_those_of_all_values_however_they_come():
    images, clips = random_latents(6, seed=1), random_latents(2, 3, seed=2)[..., :1, :, :]
    values = torch.cat([part.double().movedim(-4, 0).flatten(1) for part in (images, clips)], 1)
    expected = (values.mean(1), values.std(1, unbiased=False))
    at_once = LatentMoments(4).update(images).update(clips)
    parts = [LatentMoments(4).update(row) for row in (*images, *clips.flatten(0, 1))]
    joined = LatentMoments.from_tensors(torch.stack([part.to_tensor() for part in parts]))
    for found in (at_once, joined):
        assert found.count == values.shape[1]
        torch.testing.assert_close((found.mean, found.std), expected, rtol=1e-12, atol=1e-12)


def test_nothing_is_lost_where_the_mean_is_large():
    near = random_latents(50)
    moments = LatentMoments(4)
    for part in near.double().split(7):
        moments.update(part + 1e7)
    values = near.double().movedim(-4, 0).flatten(1)
    torch.testing.assert_close(moments.std, values.std(1, unbiased=False), rtol=1e-6, atol=0)


def test_processes_that_saw_nothing_change_nothing():
    full, empty = LatentMoments(4).update(random_latents(3)), LatentMoments(4)
    rows = torch.stack([empty.to_tensor(), full.to_tensor(), empty.to_tensor()])
    joined = LatentMoments.from_tensors(rows)
    assert torch.equal(joined.to_tensor(), full.to_tensor())
    assert empty.std.tolist() == [0] * 4


def test_a_constant_channel_is_not_blown_up():
    moments = LatentMoments(4).update(torch.zeros(2, 4, 1, 2, 2))
    assert moments.scale.tolist() == pytest.approx([1 / LEAST_STD] * 4)


def make_batch(seed: int, frames: int) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(seed)

    def pair() -> Pair:
        picture, answer = (torch.rand(3, t, 16, 16, generator=generator) for t in (frames, 1))
        return Pair(picture, answer, answer, torch.ones(1, 1, 16, 16, dtype=torch.bool))

    return collate([Episode("t", f"t/train/{i}", (pair(),), pair(), None) for i in range(2)])  # pyright: ignore


def test_measured_statistics_normalise_the_latents_of_the_first_batches(tiny_vae):
    batches = [make_batch(0, 1), make_batch(1, 5), make_batch(2, 1)]
    moments = measure_latents(tiny_vae, iter(batches), count=2)
    chunked = measure_latents(tiny_vae, iter(batches), count=2, chunk=3)
    torch.testing.assert_close(chunked.to_tensor(), moments.to_tensor(), rtol=1e-5, atol=1e-5)
    tiny_vae.latent_shift, tiny_vae.latent_scale = moments.shift, moments.scale
    with torch.no_grad():
        latents = [tiny_vae.to_latent(part) for batch in batches[:2] for part in (batch.inputs, batch.targets)]
    values = torch.cat([part.movedim(-4, 0).flatten(1) for part in latents], 1)
    torch.testing.assert_close(values.mean(1), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std(1, unbiased=False), torch.ones(16), atol=1e-4, rtol=0)
