"""Every layout of the ST-VAE: sizes, causality, stills, and what each part is at its start."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from lavindit.models import STVAE, STVAEConfig
from lavindit.models.stvae import decode_in_chunks, encode_in_chunks
from lavindit.models.stvae.layers import BlockProjection, ChangeConv, FactorisedConv

WIDTHS = {1: (8, 8, 8, 8), 2: (8, 8, 8), 4: (8, 8, 8), 8: (8, 8, 8)}
LAYOUTS = list(product((1, 2, 4, 8), ("3d", "2+1d"), (False, True)))
each_layout = pytest.mark.parametrize(("patch", "conv", "shortcut"), LAYOUTS)


def random_vae(patch: int = 4, conv: str = "2+1d", shortcut: bool = True, **options: object) -> STVAE:
    """A VAE all of whose parts do something: what starts at zero is random."""
    torch.manual_seed(0)
    plain = {"decoder_blocks": 1, "norm_groups": 4, "patch": patch, "conv": conv, "linear_shortcut": shortcut}
    vae = STVAE(STVAEConfig(**({"widths": WIDTHS[patch]} | plain | options))).eval()  # pyright: ignore
    with torch.no_grad():
        for parameter in vae.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.1)
    return vae


def clip(frames: int, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, frames, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
@each_layout
def test_sizes_are_four_by_eight_by_eight_smaller_and_back(patch: int, conv: str, shortcut: bool) -> None:
    vae = random_vae(patch, conv, shortcut)
    for frames, latent_frames in ((1, 1), (5, 2), (13, 4)):
        x = torch.rand(2, 3, frames, 16, 24)
        posterior = vae.encode(x)
        assert posterior.mean.shape == posterior.logvar.shape == (2, 16, latent_frames, 2, 3)
        assert posterior.mean.shape[1:] == vae.latent_shape(x)
        assert vae.decode(posterior.mean).shape == x.shape


@torch.no_grad()
@each_layout
def test_no_frame_changes_what_comes_before_it(patch: int, conv: str, shortcut: bool) -> None:
    vae, whole = random_vae(patch, conv, shortcut), clip(9)
    z = vae.encode(whole).mean
    pixels = vae.decode(z)
    for changed in (1, 6):  # the first of its latent frame, and one in the middle
        other = whole.clone()
        other[:, :, changed] += 0.5
        first = (changed + 3) // 4
        found = vae.encode(other)
        torch.testing.assert_close(found.mean[:, :, :first], z[:, :, :first], atol=0, rtol=0)
        assert (found.mean[:, :, first] - z[:, :, first]).abs().max() > 1e-4
    for changed in (1, 2):
        other = z.clone()
        other[:, :, changed] += 0.5
        first = 4 * changed - 3
        found = vae.decode(other)
        torch.testing.assert_close(found[:, :, :first], pixels[:, :, :first], atol=0, rtol=0)
        assert (found[:, :, first] - pixels[:, :, first]).abs().max() > 1e-4


@torch.no_grad()
@each_layout
def test_an_image_is_the_first_frame_of_a_clip(patch: int, conv: str, shortcut: bool) -> None:
    vae, whole = random_vae(patch, conv, shortcut), clip(5)
    image, found = vae.encode(whole[:, :, :1]), vae.encode(whole)
    torch.testing.assert_close(found.mean[:, :, :1], image.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.logvar[:, :, :1], image.logvar, atol=1e-5, rtol=1e-5)
    pixels = vae.decode(found.mean)
    torch.testing.assert_close(pixels[:, :, :1], vae.decode(found.mean[:, :, :1]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@each_layout
def test_clips_stream(patch: int, conv: str, shortcut: bool) -> None:
    vae, whole = random_vae(patch, conv, shortcut), clip(13)
    posterior = vae.encode(whole)
    found = encode_in_chunks(vae, whole, 4)
    torch.testing.assert_close(found.mean, posterior.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.logvar, posterior.logvar, atol=1e-5, rtol=1e-5)
    pixels = vae.decode(posterior.mean)
    torch.testing.assert_close(decode_in_chunks(vae, posterior.mean, 4), pixels, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("patch", WIDTHS)
def test_a_still_clip_is_that_image_throughout(patch: int) -> None:
    """With "2+1d" nothing but change is carried over time, so every frame is coded as the image alone."""
    vae, image = random_vae(patch), clip(1)
    z = vae.encode(image).mean
    found = vae.encode(image.expand(-1, -1, 9, -1, -1)).mean
    torch.testing.assert_close(found, z.expand_as(found), atol=1e-5, rtol=1e-5)
    pixels = vae.decode(z.expand_as(found))
    torch.testing.assert_close(pixels, vae.decode(z).expand_as(pixels), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_changes_are_added_by_hand() -> None:
    layer, x = ChangeConv(3), torch.randn(2, 3, 6, 2, 2)
    torch.testing.assert_close(layer(x), x, atol=0, rtol=0)  # as it starts
    nn.init.normal_(layer.weight)
    expected = x.clone()
    for t in range(6):
        for place, back in enumerate((2, 1)):
            change = x[:, :, max(t - back, 0)] - x[:, :, t]
            expected[:, :, t] += torch.einsum("oi,bihw->bohw", layer.weight[..., place], change)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(x)[:, :, 0], x[:, :, 0], atol=1e-6, rtol=1e-5)
    still = x[:, :, :1].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(layer(still), still, atol=1e-5, rtol=1e-5)
    assert (layer(x)[:, :, 1:] - x[:, :, 1:]).abs().max() > 0.1


@torch.no_grad()
def test_a_factorised_convolution_starts_as_one_of_each_frame() -> None:
    layer, x = FactorisedConv(3, 5), torch.randn(2, 3, 4, 6, 6)
    expected = torch.stack([layer.space(x[:, :, [t]])[:, :, 0] for t in range(4)], 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_at_the_start_frames_meet_in_the_halving_of_time_alone() -> None:
    vae, whole = random_vae(), clip(9)
    for layer in vae.modules():
        if isinstance(layer, ChangeConv):
            nn.init.zeros_(layer.weight)
    other = whole.clone()
    other[:, :, 1:5] = clip(4, seed=1)  # what becomes latent frame 1
    z, found = vae.encode(whole).mean, vae.encode(other).mean
    torch.testing.assert_close(found[:, :, [0, 2]], z[:, :, [0, 2]], atol=1e-6, rtol=1e-5)
    assert (found[:, :, 1] - z[:, :, 1]).abs().max() > 1e-3
    pixels = vae.decode(z)
    alone = torch.cat([vae.decode(z[:, :, [t]]) for t in range(3)], 2)  # each latent frame as an image
    torch.testing.assert_close(pixels, alone.repeat_interleave(torch.tensor([1, 4, 4]), 2), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_projection_starts_as_an_orthogonal_one() -> None:
    torch.manual_seed(0)
    projection = BlockProjection(16)
    rows = projection.to_latent.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), atol=1e-5, rtol=0)
    nn.init.zeros_(projection.to_latent.bias)
    nn.init.zeros_(projection.to_pixels.bias)
    z = torch.randn(2, 16, 3, 2, 3)
    pixels = projection.decode(z)
    assert pixels.shape == (2, 3, 9, 16, 24)
    torch.testing.assert_close(projection.encode(pixels), z, atol=1e-5, rtol=1e-5)  # in its span nothing is lost
    torch.testing.assert_close(projection.decode(projection.encode(pixels)), pixels, atol=1e-5, rtol=1e-5)
    x = torch.randn(2, 3, 1, 16, 24)
    left = x - projection.decode(projection.encode(x))
    torch.testing.assert_close(projection.encode(left), torch.zeros(2, 16, 1, 2, 3), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_vae_with_the_projection_starts_as_the_projection() -> None:
    torch.manual_seed(0)
    config = STVAEConfig(widths=(8, 8, 8), decoder_blocks=1, norm_groups=4, patch=4, linear_shortcut=True)
    vae = STVAE(config)
    assert vae.projection is not None
    nn.init.zeros_(vae.decoder.head.bias)
    z = torch.randn(1, 16, 2, 2, 2)
    torch.testing.assert_close(vae.decode(z), vae.projection.decode(z))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"patch": 1}, "patch 1 and 3 levels"),
        ({"patch": 2, "widths": (16, 16, 16, 16)}, "patch 2 and 4 levels"),
        ({"patch": 8, "widths": (16,)}, "patch 8 and 1 levels"),
        ({"patch": 4, "widths": (16, 16)}, "patch 4 and 2 levels"),
        ({"patch": 3}, "patch 3"),
        ({"patch": 16}, "patch 16"),
        ({"widths": (16, 20, 16)}, "must divide by the norms' groups, 16"),
        ({"decoder_norm_groups": 5}, "must divide by the norms' groups, 5"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        STVAEConfig(**({"widths": (16, 16, 16)} | options))


def test_factorised_convolutions_have_fewer_parameters() -> None:
    """By image parameters: without those of time, which images leave alone, a third of the 3-D layout's kernels."""
    counts = {}
    for conv in ("3d", "2+1d"):
        with torch.device("meta"):
            vae = STVAE(STVAEConfig(patch=4, conv=conv, widths=(32, 64, 64)))  # pyright: ignore
        time = sum(p.numel() for m in vae.modules() if isinstance(m, ChangeConv) for p in m.parameters())
        counts[conv] = sum(p.numel() for p in vae.parameters()) - time
    assert counts["2+1d"] < 0.45 * counts["3d"]
