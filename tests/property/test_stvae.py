from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.models import STVAE, STVAEConfig
from lavindit.models.stvae.layers import CausalConv3d

TINY = {"widths": (16, 16, 16), "encoder_blocks": 1, "decoder_blocks": 1, "mid_blocks": 1, "norm_groups": 8}


def random_vae(**options) -> STVAE:
    torch.manual_seed(0)
    return STVAE(STVAEConfig(**(TINY | options))).eval()


@torch.no_grad()
def test_sizes_are_four_by_eight_by_eight_smaller_and_back():
    vae = random_vae()
    for frames, latent_frames in ((1, 1), (5, 2), (13, 4)):
        z = vae.encode(torch.rand(2, 3, frames, 32, 40)).mean
        assert z.shape == (2, 16, latent_frames, 4, 5)
        assert vae.decode(z).shape == (2, 3, frames, 32, 40)


@torch.no_grad()
@pytest.mark.parametrize("changed", [1, 5, 9])
def test_a_later_frame_leaves_earlier_latents_untouched(changed):
    vae, clip = random_vae(norm="per_frame"), torch.rand(1, 3, 13, 32, 32)
    other = clip.clone()
    other[:, :, changed:] = torch.rand(1, 3, 13 - changed, 32, 32)
    before = (changed - 1) // 4 + 1  # latent frames made of frames before `changed`
    a, b = vae.encode(clip).mean, vae.encode(other).mean
    torch.testing.assert_close(a[:, :, :before], b[:, :, :before], atol=0, rtol=0)
    assert (a[:, :, before:] - b[:, :, before:]).abs().amin(dim=(0, 1, 3, 4)).min() >= 0
    assert (a[:, :, before] - b[:, :, before]).abs().max() > 1e-4


@torch.no_grad()
def test_the_released_norm_is_not_causal():
    vae, clip = random_vae(norm="clip"), torch.rand(1, 3, 5, 32, 32)
    other = clip.clone()
    other[:, :, 1:] = 0
    assert (vae.encode(clip).mean[:, :, 0] - vae.encode(other).mean[:, :, 0]).abs().max() > 1e-5


def features(half: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """What comes out of every stem, block, resampling layer and head of an encoder or decoder during `run`."""
    found: dict[str, Tensor] = {}
    names = [name for name, _ in half.named_modules() if name in ("stem", "head") or name[-1:].isdigit()]
    layers = {name: half.get_submodule(name) for name in names}
    handles = [
        layer.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out))
        for name, layer in layers.items()
        if not isinstance(layer, nn.ModuleList)
    ]
    run()
    for handle in handles:
        handle.remove()
    assert len(found) == len(handles) >= 8
    return found


@torch.no_grad()
@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("changed", [1, 2, 3])
@pytest.mark.parametrize("conv", ["3d", "2+1d"])
def test_nothing_before_a_changed_frame_changes_at_any_level(half, changed, conv):
    vae = random_vae(norm="per_frame", conv=conv)
    for parameter in vae.parameters():
        if not parameter.any():  # what starts at zero would look at no frame
            parameter.normal_(std=0.1)
    if half == "encoder":
        changed = 4 * changed - 2  # in the middle of the frames that become one latent frame
        clip, network, run = torch.rand(1, 3, 13, 16, 16), vae.encoder, vae.encode
    else:
        clip, network, run = torch.randn(1, 16, 4, 2, 2), vae.decoder, vae.decode
    other = clip.clone()
    other[:, :, changed] += 0.5
    a, b = features(network, lambda: run(clip)), features(network, lambda: run(other))
    for name in a:
        # Frame 0 stands alone; each later frame of the input becomes 1, 1/2, 1/4, 2 or 4 here.
        before = 1 + (changed - 1) * (a[name].shape[2] - 1) // (clip.shape[2] - 1)
        torch.testing.assert_close(a[name][:, :, :before], b[name][:, :, :before], atol=0, rtol=0, msg=name)
        assert (a[name][:, :, before] - b[name][:, :, before]).abs().max() > 1e-5, name


@torch.no_grad()
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_with_the_released_norm_a_later_frame_changes_the_first_from_the_first_block_on(half):
    vae = random_vae(norm="clip")
    if half == "encoder":
        clip, network, run = torch.rand(1, 3, 5, 16, 16), vae.encoder, vae.encode
    else:
        clip, network, run = torch.randn(1, 16, 2, 2, 2), vae.decoder, vae.decode
    other = clip.clone()
    other[:, :, -1] = 0
    a, b = features(network, lambda: run(clip)), features(network, lambda: run(other))
    change = {name: float((a[name][:, :, 0] - b[name][:, :, 0]).abs().max()) for name in a}
    assert change.pop("stem") == 0
    assert min(change.values()) > 1e-5, change


@torch.no_grad()
def test_the_first_frame_of_a_clip_is_encoded_as_an_image():
    vae, clip = random_vae(), torch.rand(1, 3, 5, 32, 32)
    torch.testing.assert_close(vae.encode(clip).mean[:, :, :1], vae.encode(clip[:, :, :1]).mean, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_shortcut_for_a_lone_frame_equals_the_padded_convolution():
    conv = CausalConv3d(3, 5)
    x = torch.randn(2, 3, 1, 8, 8)
    repeated = torch.nn.functional.conv3d(x.expand(-1, -1, 3, -1, -1), conv.weight, conv.bias, padding=(0, 1, 1))
    torch.testing.assert_close(conv(x), repeated, atol=1e-5, rtol=1e-5)


def test_released_size_has_215_6_million_parameters():
    with torch.device("meta"):
        config = STVAEConfig(
            widths=(128, 256, 256, 512), encoder_blocks=3, decoder_blocks=4, mid_blocks=2, patch=1, norm_groups=32
        )
        count = sum(p.numel() for p in STVAE(config).parameters())
    assert round(count / 1e6, 1) == 215.6


def test_nano_stays_below_three_million():
    assert sum(p.numel() for p in STVAE(STVAEConfig()).parameters()) < 3e6


@pytest.mark.parametrize("shape", [(1, 3, 2, 32, 32), (1, 3, 1, 30, 32)])
def test_sizes_that_do_not_fit_are_refused(shape):
    with pytest.raises(LavinditError, match="multiples of 8"):
        random_vae().encode(torch.rand(shape))


@torch.no_grad()
def test_latents_are_normalised_and_back():
    vae, pictures = random_vae(), torch.rand(2, 3, 3, 1, 16, 16)
    plain = vae.to_latent(pictures)
    vae.latent_shift.fill_(0.5)
    vae.latent_scale.fill_(2.0)
    torch.testing.assert_close(vae.to_latent(pictures), (plain - 0.5) * 2)
    assert vae.to_pictures(vae.to_latent(pictures)).shape == pictures.shape


def test_kl_is_zero_for_the_prior_and_sums_over_the_latent():
    vae = random_vae()
    posterior = vae.encode(torch.rand(2, 3, 1, 16, 16))
    prior = type(posterior)(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean))
    torch.testing.assert_close(prior.kl(), torch.zeros(2))
    shifted = type(posterior)(torch.ones_like(posterior.mean), torch.zeros_like(posterior.mean))
    torch.testing.assert_close(shifted.kl(), torch.full((2,), 0.5 * posterior.mean[0].numel()))


def test_the_released_kl_leaves_the_width_out():
    posterior = random_vae().encode(torch.rand(2, 3, 5, 16, 40))
    terms = 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar)
    released = torch.sum(terms, dim=[1, 2, 3])
    assert released.shape == (2, 5)
    torch.testing.assert_close(posterior.kl(omit_width=True), released.mean(1))
    torch.testing.assert_close(posterior.kl(omit_width=True) * 5, posterior.kl())


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
def test_chunks_change_nothing(chunk):
    vae, pictures = random_vae(), torch.rand(2, 3, 3, 1, 16, 24)
    noise = torch.randn(2, 3, 16, 1, 2, 3)
    for draw in (None, noise):
        latent = vae.to_latent(pictures, draw)
        torch.testing.assert_close(vae.to_latent(pictures, draw, chunk), latent, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(vae.to_pictures(latent, chunk), vae.to_pictures(latent), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_noise_makes_a_sample_of_the_posterior():
    vae, pictures = random_vae(), torch.rand(2, 3, 3, 1, 16, 24)
    vae.latent_shift.fill_(0.5)
    vae.latent_scale.fill_(2.0)
    assert vae.latent_shape(pictures) == (16, 1, 2, 3)
    noise = torch.randn(2, 3, *vae.latent_shape(pictures))
    posterior = vae.encode(pictures.flatten(0, 1) * 2 - 1)
    sample = posterior.mean + (0.5 * posterior.logvar).exp() * noise.flatten(0, 1)
    torch.testing.assert_close(vae.to_latent(pictures, noise), (sample.unflatten(0, (2, 3)) - 0.5) * 2)
    torch.testing.assert_close(vae.to_latent(pictures, torch.zeros_like(noise)), vae.to_latent(pictures))


@torch.no_grad()
def test_bfloat16_weights_take_and_give_float32_and_keep_exact_statistics():
    vae, pictures = random_vae(), torch.rand(2, 3, 1, 16, 16)
    vae.latent_scale.fill_(1.08936170213)
    latent = vae.to_latent(pictures)
    rebuilt = vae.to_pictures(latent)
    vae.to(torch.bfloat16)
    assert {p.dtype for p in vae.parameters()} == {torch.bfloat16}
    assert vae.latent_scale.dtype == torch.float32
    assert (vae.state_dict()["latent_scale"] == torch.tensor(1.08936170213)).all()
    for cast, exact in ((vae.to_latent(pictures), latent), (vae.to_pictures(latent), rebuilt)):
        assert cast.dtype == torch.float32
        assert float((cast - exact).abs().mean()) < 0.02 * float(exact.std()) + 0.01
    assert vae.to(torch.float32).to_latent(pictures).dtype == torch.float32
