import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavindit.flow import guide, official_grid, solve
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig

sys.path.insert(0, str(Path(__file__).parent))
from released import jdit_weights, stvae_weights


def reference(path: Path) -> tuple[dict, dict]:
    tensors = load_file(path)
    weights = {k.removeprefix("state_dict."): v for k, v in tensors.items() if k.startswith("state_dict.")}
    return weights, tensors


@pytest.fixture
def jdit(test_data):
    weights, tensors = reference(test_data / "parity" / "dit_a.safetensors")
    config = JDiTConfig(width=144, depth=3, heads=6, queries_per_kv=2, sandwich=True, full_last_block=True)
    model = JDiT(config).eval()
    model.load_state_dict(jdit_weights(weights, depth=3))
    return model, tensors


@torch.no_grad()
def test_velocity_of_the_released_transformer(jdit):
    model, ref = jdit
    velocity = model(ref["input.noise"], ref["input.t"], ref["input.context"])
    torch.testing.assert_close(velocity, ref["output.velocity"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_guided_sample_of_the_released_transformer(jdit):
    model, ref = jdit

    def field(x, t):
        times = t[None]
        return guide(model(x, times, ref["input.context"]), lambda: model(x, times, ref["input.null_context"]), 1.5)

    guided = field(ref["input.noise"], ref["input.t"][0])
    torch.testing.assert_close(guided, ref["output.velocity_cfg1.5"], atol=1e-5, rtol=0)
    sample = solve(field, ref["input.noise"], official_grid(20), "euler")
    torch.testing.assert_close(sample, ref["output.sample_20_cfg1.5"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["image", "video"])
def test_moments_and_pixels_of_the_released_vae(test_data, kind):
    weights, ref = reference(test_data / "parity" / "vae_a.safetensors")
    config = STVAEConfig(
        widths=(32, 32, 64, 64),
        encoder_blocks=1,
        decoder_blocks=2,
        mid_blocks=2,
        patch=1,
        norm_groups=32,
        norm="clip",
    )
    vae = STVAE(config).eval()
    missing, unknown = vae.load_state_dict(stvae_weights(weights), strict=False)
    assert set(missing) == {"latent_shift", "latent_scale"}
    assert not unknown
    posterior = vae.encode(ref[f"input.{kind}"])
    torch.testing.assert_close(posterior.mean, ref[f"output.{kind}.mean"], atol=2e-5, rtol=0)
    torch.testing.assert_close(posterior.logvar, ref[f"output.{kind}.logvar"], atol=2e-5, rtol=0)
    torch.testing.assert_close(vae.decode(posterior.mean), ref[f"output.{kind}.decoded"], atol=5e-5, rtol=0)
