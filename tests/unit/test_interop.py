"""Released weights in memory: sizes, round trips, and what is refused."""

from dataclasses import replace

import pytest
import torch

from lavindit.errors import LavinditError
from lavindit.interop import dit_from_state_dict, dit_to_state_dict, vae_from_state_dict, vae_to_state_dict
from lavindit.interop.official import released_dit_pieces, released_vae_pieces
from lavindit.interop.options import LATENT_SCALE, LATENT_SHIFT, dit_config, dit_options
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig

DIT = JDiTConfig(width=96, depth=2, heads=4, queries_per_kv=2, latent_channels=8, full_last_block=True)
VAE = STVAEConfig(
    widths=(32, 64, 64, 96),
    encoder_blocks=2,
    decoder_blocks=3,
    mid_blocks=2,
    latent_channels=8,
    patch=1,
    norm_groups=32,
    norm="clip",
)


def make_dit(config: JDiTConfig = DIT) -> JDiT:
    model = JDiT(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(scope="module")
def vae() -> STVAE:
    torch.manual_seed(0)
    model = STVAE(VAE).eval()
    model.latent_shift.fill_(LATENT_SHIFT)
    model.latent_scale.fill_(LATENT_SCALE)
    return model


@pytest.fixture(scope="module")
def released_dit() -> dict[str, torch.Tensor]:
    return dit_to_state_dict(make_dit())


@pytest.fixture(scope="module")
def released_vae(vae: STVAE) -> dict[str, torch.Tensor]:
    return vae_to_state_dict(vae)


def velocity(model: JDiT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    channels = model.config.latent_channels
    noisy, context = (torch.randn(2, channels, frames, 4, 4, generator=generator) for frames in (1, 3))
    with torch.no_grad():
        return model(noisy, torch.tensor([0.2, 0.7]), context)


def trainable(model: JDiT) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("heads", "group", "head_dim", "channels"), [(4, 1, 12, 16), (8, 4, 24, 8), (12, 2, 12, 16), (4, 4, 48, 4)]
    )
    def test_of_transformers_of_other_sizes(self, heads: int, group: int, head_dim: int, channels: int) -> None:
        config = replace(DIT, width=heads * head_dim, heads=heads, queries_per_kv=group, latent_channels=channels)
        ours = make_dit(config)
        released = dit_to_state_dict(ours)
        assert released["blocks.0.joint_attn.x_k.weight"].shape == (heads * head_dim // group, heads * head_dim)
        back = dit_from_state_dict(released, num_heads=heads)
        assert back.config == config
        assert not back.training
        assert trainable(back) == trainable(ours)
        assert all(torch.equal(back.state_dict()[key], value) for key, value in ours.state_dict().items())
        assert torch.equal(velocity(back), velocity(ours))

    def test_of_a_vae_of_another_size(self, vae: STVAE, released_vae: dict[str, torch.Tensor]) -> None:
        back = vae_from_state_dict(released_vae)
        assert back.config == VAE
        assert all(torch.equal(back.state_dict()[key], value) for key, value in vae.state_dict().items())
        clip = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            theirs, ours = back.encode(clip), vae.encode(clip)
            assert torch.equal(theirs.mean, ours.mean)
            assert torch.equal(theirs.logvar, ours.logvar)
            assert torch.equal(back.decode(ours.mean), vae.decode(ours.mean))

    def test_without_the_last_blocks_unread_half(self) -> None:
        ours = make_dit(replace(DIT, full_last_block=False))
        released = dit_to_state_dict(ours)
        assert released.keys() == dit_to_state_dict(make_dit()).keys()
        unread = [key for key, value in released.items() if not value.any()]
        ends = ["joint_attn.cond_proj", "cond_mlp.gate_proj", "cond_mlp.up_proj", "cond_mlp.down_proj"]
        assert sorted(unread) == sorted(f"blocks.1.{end}.weight" for end in ends)
        assert torch.equal(velocity(dit_from_state_dict(released, num_heads=4)), velocity(ours))

    def test_makes_float32_copies(self, released_dit: dict[str, torch.Tensor]) -> None:
        half = {key: value.bfloat16() for key, value in released_dit.items()}
        model = dit_from_state_dict(half, num_heads=4)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        model = dit_from_state_dict(released_dit, num_heads=4)
        with torch.no_grad():
            before = released_dit["x_embedder.0.weight"].clone()
            model.target_embed[0].weight.add_(1)  # pyright: ignore
        assert torch.equal(released_dit["x_embedder.0.weight"], before)

    def test_leaves_random_numbers_alone(self, released_dit: dict[str, torch.Tensor]) -> None:
        state = torch.get_rng_state()
        dit_from_state_dict(released_dit, num_heads=4)
        assert torch.equal(torch.get_rng_state(), state)


def test_released_sizes() -> None:
    """3.399 B and 215.6 M parameters."""
    pieces = released_dit_pieces(dit_config({}, {}))
    assert sum(torch.Size(piece.shape).numel() for piece in pieces.values()) == pytest.approx(3.399e9, rel=1e-3)
    widths = (128, 256, 256, 512)
    config = replace(VAE, widths=widths, encoder_blocks=3, decoder_blocks=4, latent_channels=16)
    pieces = released_vae_pieces(config)
    assert sum(torch.Size(piece.shape).numel() for piece in pieces.values()) == pytest.approx(215.6e6, rel=1e-3)


class TestKeys:
    def test_missing(self, released_dit: dict[str, torch.Tensor]) -> None:
        cut = {key: value for key, value in released_dit.items() if "blocks.0." not in key}
        with pytest.raises(LavinditError, match=r"blocks\.0\..* and \d+ more are missing$"):
            dit_from_state_dict(cut, num_heads=4, ignore=["*"])

    @pytest.mark.parametrize("key", ["prompt_embed", "x_embedder.0.weight", "blocks.0.joint_attn.cond_k.weight"])
    def test_missing_one_that_sizes_are_read_off(self, released_dit: dict[str, torch.Tensor], key: str) -> None:
        cut = {name: value for name, value in released_dit.items() if name != key}
        with pytest.raises(LavinditError, match=f"^{key} is missing$"):
            dit_from_state_dict(cut, num_heads=4)

    @pytest.mark.parametrize("end", ["encoder.conv_out.conv.bias", "decoder.norm_out.conv_b.conv.weight"])
    def test_missing_of_the_vae(self, released_vae: dict[str, torch.Tensor], end: str) -> None:
        with pytest.raises(LavinditError, match=f"^{end} is missing$"):
            vae_from_state_dict({key: value for key, value in released_vae.items() if key != end})

    def test_unknown(self, released_vae: dict[str, torch.Tensor]) -> None:
        extra = {"loss.disc.weight": torch.zeros(2), "loss.logvar": torch.zeros(1), "other": torch.zeros(1)}
        with pytest.raises(LavinditError, match=r"loss\.disc\.weight, loss\.logvar, other are unknown .*--ignore"):
            vae_from_state_dict(released_vae | extra)
        with pytest.raises(LavinditError, match=r"^other is unknown"):
            vae_from_state_dict(released_vae | extra, ignore=["loss.*"])
        vae_from_state_dict(released_vae | extra, ignore=["loss.*", "other"])

    @pytest.mark.parametrize("prefix", ["module.", "model._orig_mod."])
    def test_prefixed(self, released_dit: dict[str, torch.Tensor], prefix: str) -> None:
        with pytest.raises(LavinditError, match=f"start with '{prefix}'"):
            dit_from_state_dict({prefix + key: value for key, value in released_dit.items()}, num_heads=4)

    def test_of_another_network(self, released_dit: dict[str, torch.Tensor], released_vae: dict) -> None:
        with pytest.raises(LavinditError, match=r"are missing and .* unknown"):
            vae_from_state_dict(released_dit)
        with pytest.raises(LavinditError, match=r"are missing and .* unknown"):
            dit_from_state_dict(released_vae)


class TestConfig:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "give num_heads"),
            ({"num_heads": 4, "hats": 3}, "unknown config entry hats; there are patch_size"),
            ({"num_heads": 4, "depth": 3}, "the config says depth 3, the keys show 2"),
            ({"num_heads": 4, "hidden_size": 192}, r"prompt_embed has shape \[1, 96\]; the config asks for \[1, 192\]"),
            ({"num_heads": 4, "kv_group": 4}, r"_k\.weight has shape \[48, 96\]; the config asks for \[24, 96\]"),
            ({"num_heads": 4, "in_channels": 16}, r"embedder.* has shape \[96, 32\]; the config asks for \[96, 64\]"),
            ({"num_heads": 4, "patch_size": (2, 4)}, "patch_size"),
            ({"num_heads": 5}, "must divide"),
            ({"num_heads": 6}, "16 channels"),
            ({"num_heads": 0}, "num_heads must be a whole number"),
            ({"num_heads": -4}, "num_heads must be a whole number"),
            ({"num_heads": "4"}, "num_heads must be a whole number"),
            ({"num_heads": 4, "drop_path": 2}, "drop_path"),
        ],
    )
    def test_of_the_transformer(self, released_dit: dict[str, torch.Tensor], given: dict, words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            dit_from_state_dict(released_dit, **given)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"temporal_compression_ratio": 8}, "temporal_compression_ratio must be 4"),
            ({"block_out_channels": [32, 64, 64]}, "4 widths"),
            ({"block_out_channels": [32, 64, 64, 50]}, "divide"),
            ({"block_out_channels": [32, 64, 64, 64]}, r"has shape \[96.*asks for \[64"),
            ({"latent_channels": 16}, r"has shape .*; the config asks for"),
            ({"layers_per_block": 3}, "the config says layers_per_block 3, the keys show 2"),
            ({"norm_num_groups": 48}, "divide"),
            ({"groups": 32}, "unknown config entry groups; there are block_out_channels"),
        ],
    )
    def test_of_the_vae(self, released_vae: dict[str, torch.Tensor], given: dict, words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            vae_from_state_dict(released_vae, **given)

    def test_drop_path_is_taken(self, released_dit: dict[str, torch.Tensor]) -> None:
        assert dit_from_state_dict(released_dit, num_heads=4, drop_path=0.1).config.drop_path == 0.1

    def test_width_of_the_release_needs_no_heads(self) -> None:
        config = dit_config({}, {})
        assert (config.width, config.depth, config.heads, config.queries_per_kv) == (2304, 22, 32, 4)
        assert dit_config({}, dit_options(config)) == config


class TestWhatTheReleaseCannotSay:
    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"context_attention": "causal"}, "context_attention causal"),
            ({"rope_rotation": "interleaved"}, "rope_rotation interleaved"),
            ({"rope_axes": "txy"}, "rope_axes txy"),
            ({"rope_dims": (4, 10, 10)}, "rope_dims"),
            ({"rope_base": 500.0}, "rope_base 500"),
            ({"sandwich": False}, "sandwich False"),
            ({"heads": 6, "queries_per_kv": 1}, "16 channels"),
        ],
    )
    def test_of_transformers(self, change: dict, word: str) -> None:
        with pytest.raises(LavinditError, match=word):
            dit_to_state_dict(JDiT(replace(DIT, **change)))

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"norm": "per_frame"}, "norm per_frame"),
            ({"patch": 2, "widths": (32, 64, 64)}, "levels"),
            ({"mid_blocks": 1}, "mid_blocks 1"),
            ({"decoder_blocks": 2}, "decoder_blocks 2"),
            ({"norm_groups": 16}, "decoder_norm_groups None, only 32"),
        ],
    )
    def test_of_vaes(self, change: dict, word: str) -> None:
        with torch.device("meta"), pytest.raises(LavinditError, match=word):
            vae_to_state_dict(STVAE(replace(VAE, **change)))

    def test_of_latent_statistics(self) -> None:
        with pytest.raises(LavinditError, match="latent_shift"):
            vae_to_state_dict(STVAE(VAE))

    def test_equal_rope_thirds_are_what_it_says(self) -> None:
        dit_to_state_dict(JDiT(replace(DIT, rope_dims=(8, 8, 8))))
