import pytest
import torch

from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import every_pair_layout, query_layout
from lavindit.models.jdit.layout import inputs_of
from lavindit.models.jdit.rope import rotate, rotation_angles, token_positions


def random_model(seed: int = 0, **options) -> JDiT:
    """A tiny model whose every weight is random: as initialised, its output is zero whatever it sees."""
    config = JDiTConfig(**({"width": 64, "depth": 2, "heads": 2, "queries_per_kv": 1} | options))
    torch.manual_seed(seed)
    model = JDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def latents(frames: int, seed: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 16, frames, 4, 6, generator=torch.Generator().manual_seed(seed))


T = torch.tensor([0.4])
OURS = {"input_condition": True, "input_skip": True, "predicts": "data"}  # what neither paper nor release has


@pytest.mark.parametrize("rotation", ["half_split", "interleaved"])
@pytest.mark.parametrize("axes", ["tyx", "txy"])
def test_attention_depends_on_relative_position_only(rotation, axes):
    config = JDiTConfig(width=96, heads=2, queries_per_kv=1, rope_rotation=rotation, rope_axes=axes)
    positions = token_positions(torch.arange(3), 2, 3)
    shifted = positions + torch.tensor([5, 2, 7])
    q, k = torch.randn(2, 1, 2, len(positions), 48, dtype=torch.float64)

    def scores(p):
        cos, sin = rotation_angles(p, config)
        return rotate(q, cos, sin, config) @ rotate(k, cos, sin, config).transpose(-1, -2)

    torch.testing.assert_close(scores(positions), scores(shifted), atol=1e-4, rtol=0)
    mixed = positions.flip(0)
    assert not torch.allclose(scores(positions), scores(mixed), atol=1e-2)


def test_rotation_keeps_lengths():
    config = JDiTConfig(width=96, heads=2, queries_per_kv=1)
    cos, sin = rotation_angles(token_positions(torch.arange(4), 2, 2), config)
    q = torch.randn(1, 2, 16, 48)
    torch.testing.assert_close(rotate(q, cos, sin, config).norm(dim=-1), q.norm(dim=-1))


def test_head_channels_split_over_axes_as_published():
    assert JDiTConfig(width=2304, heads=32, queries_per_kv=4).axis_dims == (24, 24, 24)
    assert JDiTConfig(width=1024, heads=16, queries_per_kv=1).axis_dims == (16, 24, 24)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "queries_per_kv", "sandwich", "billions"),
    [(512, 12, 8, 1, False, 0.101), (1024, 28, 16, 1, True, 0.935), (2304, 22, 32, 4, True, 3.399)],
)
def test_parameters_of_the_published_sizes(width, depth, heads, queries_per_kv, sandwich, billions):
    with torch.device("meta"):
        config = JDiTConfig(
            width=width,
            depth=depth,
            heads=heads,
            queries_per_kv=queries_per_kv,
            sandwich=sandwich,
            full_last_block=True,
        )
        count = sum(p.numel() for p in JDiT(config).parameters())
    assert round(count / 1e9, 3) == billions


def test_nano_stays_below_ten_million():
    assert sum(p.numel() for p in JDiT(JDiTConfig()).parameters()) < 10e6


def test_a_new_model_answers_zero_and_still_learns():
    model = JDiT(JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1))
    output = model(latents(1, 0), T, latents(3, 1))
    assert output.abs().max() == 0
    (output - 1).square().mean().backward()
    assert model.final.weight.grad is not None
    assert model.final.weight.grad.abs().max() > 0


@pytest.mark.parametrize("mode", ["joint", "prefix", "causal"])
def test_every_context_frame_matters_to_the_answer(mode):
    model, noisy, context = random_model(context_attention=mode), latents(1, 0), latents(5, 1)
    answer = model(noisy, T, context)
    for frame in range(5):
        changed = context.clone()
        changed[:, :, frame] += 1
        assert (model(noisy, T, changed) - answer).abs().max() > 1e-4


@pytest.mark.parametrize("mode", ["prefix", "causal"])
def test_context_of_prefix_and_causal_never_sees_noise_or_time(mode):
    model, context = random_model(context_attention=mode), latents(5, 1)
    seen = []
    model.blocks[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(latents(1, 0), T, context)
    model(latents(1, 9), T + 0.5, context)
    torch.testing.assert_close(seen[0], seen[1], atol=1e-6, rtol=0)


def test_context_of_joint_sees_noise():
    model, context = random_model(context_attention="joint"), latents(5, 1)
    seen = []
    model.blocks[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(latents(1, 0), T, context)
    model(latents(1, 9), T, context)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_causal_frames_see_no_later_frame():
    visible = query_layout("causal", 5, 1).visible
    assert visible is not None
    assert all(visible[i][j] == (j <= i) for i in range(5) for j in range(6))
    assert all(visible[5])


def test_prefix_pairs_see_pairs_and_the_query_sees_pairs_and_itself():
    visible = query_layout("prefix", 5, 1).visible
    assert visible is not None
    assert all(visible[i][j] == (j < 4) for i in range(4) for j in range(6))
    assert visible[4] == (True,) * 5 + (False,)


@pytest.mark.parametrize("options", [{}, OURS])
def test_one_pass_over_every_pair_equals_a_pass_for_each(options):
    model, pairs = random_model(context_attention="causal", **options), 3
    clean, noisy = latents(2 * pairs + 1, 1), latents(pairs + 1, 2)
    t = torch.tensor([[0.1, 0.4, 0.6, 0.9]])
    together = model(noisy, t, clean, every_pair_layout(pairs))
    for i in range(pairs + 1):
        alone = model(noisy[:, :, i : i + 1], t[:, i], clean[:, :, : 2 * i + 1])
        torch.testing.assert_close(together[:, :, i : i + 1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, OURS])
def test_one_pass_over_every_pair_equals_a_pass_for_each_with_clips(options):
    model, frames = random_model(context_attention="causal", **options), 2
    clean, noisy = latents(2 * 2 * frames + frames, 1), latents(3 * frames, 2)
    t = torch.tensor([[0.2, 0.2, 0.5, 0.5, 0.8, 0.8]])
    together = model(noisy, t, clean, every_pair_layout(2, frames, frames))
    for i in range(3):
        context = clean[:, :, : 2 * i * frames + frames]
        layout = query_layout("causal", context.shape[2], frames, frames)
        alone = model(noisy[:, :, i * frames : (i + 1) * frames], t[:, i * frames], context, layout)
        torch.testing.assert_close(together[:, :, i * frames : (i + 1) * frames], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, OURS])
def test_noisy_copies_of_a_target_do_not_see_each_other(options):
    model, pairs = random_model(context_attention="causal", **options), 2
    clean, noisy = latents(2 * pairs + 1, 1), latents(2 * (pairs + 1), 2)
    t = torch.tensor([[0.1, 0.4, 0.6, 0.9, 0.2, 0.3]])
    together = model(noisy, t, clean, every_pair_layout(pairs, copies=2))
    for copy in (slice(0, 3), slice(3, 6)):
        alone = model(noisy[:, :, copy], t[:, copy], clean, every_pair_layout(pairs))
        torch.testing.assert_close(together[:, :, copy], alone, atol=1e-4, rtol=1e-4)


def test_grouped_queries_equal_repeated_keys_and_values():
    grouped = random_model(heads=4, queries_per_kv=2, depth=1)
    full = random_model(heads=4, queries_per_kv=1, depth=1)
    weights = grouped.state_dict()
    d = grouped.config.head_dim

    def repeat(rows):
        return rows.unflatten(0, (2, d)).repeat_interleave(2, 0).flatten(0, 1)

    for name in list(weights):
        if name.endswith("qkv.weight"):
            q, k, v = weights[name].split([64, 32, 32])
            weights[name] = torch.cat([q, repeat(k), repeat(v)])
        if name.endswith("k_norm.weight"):
            weights[name] = repeat(weights[name])
    full.load_state_dict(weights)
    noisy, context = latents(1, 0), latents(3, 1)
    torch.testing.assert_close(grouped(noisy, T, context), full(noisy, T, context), atol=1e-5, rtol=1e-5)


def test_drop_path_is_only_for_training():
    model, noisy, context = random_model(drop_path=0.9), latents(1, 0, batch=8), latents(3, 1, batch=8)
    t = T.expand(8)
    torch.testing.assert_close(model(noisy, t, context), model(noisy, t, context))
    model.train()
    assert not torch.allclose(model(noisy, t, context), model(noisy, t, context))


def test_every_noisy_frame_has_the_input_that_it_answers():
    assert query_layout("joint", 7, 3, 3).inputs == (4, 5, 6)
    assert query_layout("causal", 5, 3, 1, copies=2).inputs == (4, 4, 4) * 2
    assert every_pair_layout(2, 1, 1).inputs == (0, 2, 4)
    assert every_pair_layout(1, 1, 2, copies=2).inputs == (0, 0, 3, 3) * 2
    assert inputs_of([0, 5], 2, 4) == (0, 1, 1, 1, 5, 6, 6, 6)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_a_network_that_predicts_the_data_moves_towards_it(t):
    model = random_model(context_attention="causal", predicts="data")
    plain = random_model(context_attention="causal")
    noisy, context = latents(1, 1), latents(5, 2)
    data = plain(noisy, torch.tensor([t]), context)  # the same weights, read as they are
    moved = noisy + (1 - t) * model(noisy, torch.tensor([t]), context)
    torch.testing.assert_close(moved, data, atol=1e-4, rtol=1e-4)


def test_near_the_data_a_step_towards_it_is_bounded():
    model = random_model(context_attention="causal", predicts="data")
    assert model(latents(1, 1), torch.ones(1), latents(5, 2)).isfinite().all()
