"""Tiles that overlap, blended into one picture."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.models import STVAE, STVAEConfig
from lavindit.models.stvae import DiagonalGaussian, Tiling, decode_tiled, encode_tiled
from lavindit.models.stvae.layers import StreamState
from lavindit.models.stvae.tiling import spans

TINY = STVAEConfig(widths=(16, 16, 16), encoder_blocks=1, decoder_blocks=1, mid_blocks=1, norm_groups=8)


def random_vae(config: STVAEConfig = TINY) -> STVAE:
    torch.manual_seed(0)
    return STVAE(config).eval()


class LocalVAE(STVAE):
    """Latents are means of cells, pixels repeat them: no cell sees another, so tiles must change nothing."""

    def encode(self, x: Tensor, state: StreamState | None = None) -> DiagonalGaussian:
        mean = nn.functional.avg_pool3d(x, (1, 8, 8))
        return DiagonalGaussian(mean, -mean)

    def decode(self, z: Tensor, state: StreamState | None = None) -> Tensor:
        return z.repeat_interleave(8, 3).repeat_interleave(8, 4)


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Of pixels in [-1, 1]."""
    return float(10 * torch.log10(4 / (a - b).square().mean()))


def smooth_pixels(height: int, width: int, frames: int = 1) -> Tensor:
    coarse = torch.rand(1, 3, frames, height // 8, width // 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=(frames, height, width), mode="trilinear") * 2 - 1


@pytest.mark.parametrize(("cells", "size", "overlap"), [(9, 8, 2), (16, 8, 0), (29, 8, 3), (17, 6, 5), (100, 32, 8)])
@pytest.mark.parametrize("scale", [1, 8])
def test_tiles_cover_a_side_and_their_shares_sum_to_one(cells, size, overlap, scale):
    found, total = spans(cells, size, overlap, scale), torch.zeros(cells * scale)
    assert found[0].start == 0
    assert found[-1].stop == cells
    for tile in found:
        assert tile.stop - tile.start == size
        assert float(tile.weights.min()) > 0
        total[tile.start * scale : tile.stop * scale] += tile.weights
    for tile, following in pairwise(found):
        assert tile.start < following.start <= tile.stop - overlap
    torch.testing.assert_close(total, torch.ones(cells * scale))


def test_two_tiles_fade_linearly():
    first, second = spans(12, 8, 4)
    assert first.weights.tolist() == pytest.approx([1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125])
    assert second.weights.tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1])


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (72, 104), (32, 136), (24, 200)])
def test_where_no_cell_sees_another_tiles_change_nothing(height, width):
    vae, pixels, tiling = LocalVAE(TINY), torch.rand(2, 3, 5, height, width), Tiling(size_px=32, overlap_px=16)
    posterior, whole = encode_tiled(vae, pixels, tiling), vae.encode(pixels)
    torch.testing.assert_close(posterior.mean, whole.mean)
    torch.testing.assert_close(posterior.logvar, whole.logvar)
    torch.testing.assert_close(decode_tiled(vae, whole.mean, tiling), vae.decode(whole.mean))


@torch.no_grad()
def test_one_tile_is_the_untiled_picture():
    vae, pixels = random_vae(), torch.rand(1, 3, 5, 40, 64)
    whole = vae.encode(pixels)
    tiled = encode_tiled(vae, pixels, Tiling(size_px=64, overlap_px=16))
    assert torch.equal(tiled.mean, whole.mean)
    assert torch.equal(tiled.logvar, whole.logvar)
    assert torch.equal(decode_tiled(vae, whole.mean, Tiling(size_px=64, overlap_px=16)), vae.decode(whole.mean))
    assert torch.equal(decode_tiled(vae, whole.mean), vae.decode(whole.mean))


@torch.no_grad()
def test_overlap_brings_tiles_nearer_to_the_whole_picture():
    vae, pixels = random_vae(), smooth_pixels(120, 152)
    z = vae.encode(pixels).mean
    whole = vae.decode(z)
    cut, blended = (psnr_db(decode_tiled(vae, z, Tiling(64, overlap)), whole) for overlap in (0, 32))
    assert blended > cut + 1
    cut, blended = (float((encode_tiled(vae, pixels, Tiling(64, o)).mean - z).square().mean()) for o in (0, 32))
    assert blended < cut


@torch.no_grad()
def test_without_statistics_only_the_borders_of_tiles_differ():
    vae = random_vae()
    for module in list(vae.modules()):
        if hasattr(module, "group"):
            module.group = nn.Identity()  # what is left sees a bounded neighbourhood
    z = torch.randn(1, 16, 1, 8, 40)
    tiled, whole = decode_tiled(vae, z, Tiling(size_px=256, overlap_px=64)), vae.decode(z)
    seam = slice(256 - 192, 256)  # the two tiles share cells 8 to 31
    assert (tiled[..., : seam.start] - whole[..., : seam.start]).abs().max() < 1e-5
    assert (tiled[..., seam.stop :] - whole[..., seam.stop :]).abs().max() < 1e-5
    assert (tiled - whole).abs().max() > 1e-5


@torch.no_grad()
def test_long_clips_go_tile_by_tile_and_chunk_by_chunk():
    vae, pixels = random_vae(), smooth_pixels(48, 64, frames=9)
    whole, chunked = Tiling(32, 16), Tiling(32, 16, chunk_frames=4)
    posterior = encode_tiled(vae, pixels, whole)
    torch.testing.assert_close(encode_tiled(vae, pixels, chunked).mean, posterior.mean, atol=1e-5, rtol=1e-5)
    z = posterior.mean
    torch.testing.assert_close(decode_tiled(vae, z, chunked), decode_tiled(vae, z, whole), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size_px": 60}, "tiles of 60 px"),
        ({"size_px": 0}, "tiles of 0 px"),
        ({"overlap_px": 12}, "overlap of 12 px"),
        ({"size_px": 64, "overlap_px": 64}, "below the tiles' 64 px"),
        ({"overlap_px": -8}, "overlap of -8 px"),
    ],
)
def test_tilings_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(LavinditError, match=reason):
        Tiling(**options)


@pytest.mark.parametrize("shape", [(1, 3, 5, 100, 64), (1, 3, 2, 64, 64)])
def test_sizes_that_the_vae_does_not_take_are_refused_before_any_work(shape):
    with pytest.raises(LavinditError, match="multiples of 8"):
        encode_tiled(random_vae(), torch.rand(shape), Tiling(32, 8))
