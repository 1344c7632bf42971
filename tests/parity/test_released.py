from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavindit.flow import guide, official_grid, solve
from lavindit.interop import dit_from_state_dict, dit_to_state_dict, vae_from_state_dict, vae_to_state_dict
from lavindit.interop.table import dit_entries, vae_entries


def reference(path: Path) -> tuple[dict, dict]:
    tensors = load_file(path)
    weights = {k.removeprefix("state_dict."): v for k, v in tensors.items() if k.startswith("state_dict.")}
    return weights, tensors


@pytest.fixture
def dit_reference(test_data):
    return reference(test_data / "parity" / "dit_a.safetensors")


@pytest.fixture
def vae_reference(test_data):
    return reference(test_data / "parity" / "vae_a.safetensors")


def close(ours, released, atol=1e-5):
    torch.testing.assert_close(ours, released, atol=atol, rtol=0)


@torch.no_grad()
def test_velocity_of_the_released_transformer(dit_reference):
    weights, ref = dit_reference
    model = dit_from_state_dict(weights, num_heads=6)
    close(model(ref["input.noise"], ref["input.t"], ref["input.context"]), ref["output.velocity"])


@torch.no_grad()
def test_guided_sample_of_the_released_transformer(dit_reference):
    weights, ref = dit_reference
    model = dit_from_state_dict(weights, num_heads=6)

    def field(x, t):
        times = t[None]
        return guide(model(x, times, ref["input.context"]), lambda: model(x, times, ref["input.null_context"]), 1.5)

    close(field(ref["input.noise"], ref["input.t"][0]), ref["output.velocity_cfg1.5"])
    close(solve(field, ref["input.noise"], official_grid(20), "euler"), ref["output.sample_20_cfg1.5"])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["image", "video"])
def test_moments_and_pixels_of_the_released_vae(vae_reference, kind):
    weights, ref = vae_reference
    vae = vae_from_state_dict(weights)
    posterior = vae.encode(ref[f"input.{kind}"])
    close(posterior.mean, ref[f"output.{kind}.mean"])
    close(posterior.logvar, ref[f"output.{kind}.logvar"])
    close(vae.decode(ref[f"output.{kind}.mean"]), ref[f"output.{kind}.decoded"])
    # The decoder makes several times more of the rounding of the means that it is given.
    close(vae.decode(posterior.mean), ref[f"output.{kind}.decoded"], atol=2e-5)


def test_latent_statistics_of_the_release(vae_reference):
    vae = vae_from_state_dict(vae_reference[0])
    assert (vae.latent_shift == 0.032470703125).all()
    assert (vae.latent_scale == torch.tensor(1.08936170213)).all()


def test_every_released_key_is_in_the_table_once(dit_reference, vae_reference):
    dit, vae = dit_from_state_dict(dit_reference[0], num_heads=6), vae_from_state_dict(vae_reference[0])
    for weights, entries, network in (
        (dit_reference[0], list(dit_entries(dit.config)), dit),
        (vae_reference[0], list(vae_entries(vae.config)), vae),
    ):
        released = [key for entry in entries for key in entry.released]
        assert sorted(released) == sorted(weights)
        ours = [entry.ours for entry in entries]
        assert sorted([*ours, *dict(network.named_buffers())]) == sorted(network.state_dict())


def test_released_tensors_come_back_bit_by_bit(dit_reference, vae_reference):
    dit, vae = dit_from_state_dict(dit_reference[0], num_heads=6), vae_from_state_dict(vae_reference[0])
    for weights, back in ((dit_reference[0], dit_to_state_dict(dit)), (vae_reference[0], vae_to_state_dict(vae))):
        assert back.keys() == weights.keys()
        assert all(torch.equal(back[key], weights[key]) for key in weights)


def test_config_is_read_off_the_tensors(dit_reference, vae_reference):
    given = dit_from_state_dict(
        dit_reference[0], patch_size=(2, 2), in_channels=16, hidden_size=144, depth=3, num_heads=6, kv_group=2
    )
    assert dit_from_state_dict(dit_reference[0], num_heads=6).config == given.config
    sizes = {"block_out_channels": [32, 32, 64, 64], "latent_channels": 16, "layers_per_block": 1}
    given = vae_from_state_dict(vae_reference[0], norm_num_groups=32, temporal_compression_ratio=4, **sizes)
    assert vae_from_state_dict(vae_reference[0]).config == given.config


@torch.no_grad()
def test_decoder_norms_have_32_groups_whatever_the_encoder_has(vae_reference):
    weights, ref = vae_reference
    vae = vae_from_state_dict(weights, norm_num_groups=16)
    close(vae.decode(ref["output.image.mean"]), ref["output.image.decoded"])
    assert (vae.encode(ref["input.image"]).mean - ref["output.image.mean"]).abs().max() > 1e-3
    assert {key: value.shape for key, value in vae_to_state_dict(vae).items()} == {
        k: v.shape for k, v in weights.items()
    }
