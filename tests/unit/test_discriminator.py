"""The patch discriminator: what its logits see, its norms, and which branch learns."""

import pytest
import torch
from torch import Tensor, nn

from lavindit.errors import LavinditError
from lavindit.losses import hinge_discriminator_loss, r1_penalty
from lavindit.models import Discriminator, DiscriminatorConfig

TINY = {"width": 8, "layers": 2}


def discriminator(**options) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig(**(TINY | options)))


def pictures(count: int = 2, frames: int = 1, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, frames, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def parameters_of(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


@pytest.mark.parametrize("options", [{}, {"norm": "none"}, {"spectral_norm": True}, {"temporal": False}])
@torch.no_grad()
def test_logits_of_images_and_clips(options: dict) -> None:
    model = discriminator(**options)
    for side, patches in ((32, 6 * 6), (64, 14 * 14)):
        for frames in (1, 5, 13):
            branches = 1 if frames == 1 or options == {"temporal": False} else 2
            logits = model(pictures(2, frames, side))
            assert logits.shape == (2, branches * frames * patches)
            assert logits.std() > 0
    wide = model(pictures(1, 2, 48)[..., :24])  # no square, an even number of frames
    assert wide.shape == (1, 2 * (1 if options == {"temporal": False} else 2) * 10 * 4)


def test_the_size_of_pix2pix() -> None:
    """2,763,520 weights of Isola's 70-px discriminator, its biases, and group norms in place of batch norms."""
    model = Discriminator(DiscriminatorConfig(width=64, layers=3))
    weights = sum(m.weight.numel() for m in model.frame_branch if isinstance(m, nn.Conv2d))
    assert weights == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert [m.out_channels for m in model.frame_branch if isinstance(m, nn.Conv2d)] == [64, 128, 256, 512, 1]
    assert sum(isinstance(m, nn.GroupNorm) for m in model.frame_branch) == 3
    default = Discriminator()
    assert parameters_of(default.frame_branch) < 0.2e6
    assert 2.5 < parameters_of(default.temporal_branch) / parameters_of(default.frame_branch) < 3
    deep = DiscriminatorConfig(width=8, layers=5)
    assert [m.out_channels for m in Discriminator(deep).frame_branch if isinstance(m, nn.Conv2d)][-2:] == [64, 1]


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_how_far_a_logit_sees(layers: int, field: int) -> None:
    model = discriminator(layers=layers, norm="none")
    picture = pictures(1, 1, 96).requires_grad_()
    logits = model(picture)
    (gradient,) = torch.autograd.grad(logits[0, logits.shape[1] // 2 + int(logits.shape[1] ** 0.5) // 2], picture)
    seen = gradient[0, :, 0].abs().sum(dim=0) > 0
    assert int(seen.any(dim=0).sum()) == int(seen.any(dim=1).sum()) == field


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("norm", ["group", "none"])
@torch.no_grad()
def test_a_picture_is_judged_alone(frames: int, norm: str) -> None:
    model, batch = discriminator(norm=norm), pictures(3, frames)
    changed = batch.clone()
    changed[1] = -changed[1]
    before, after = model(batch), model(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])
    torch.testing.assert_close(model(batch[:1]), before[:1])


@torch.no_grad()
def test_each_branch_has_half_of_the_mean() -> None:
    model = discriminator()
    assert model.temporal_branch is not None
    for frames in (5, 13):
        clip = pictures(2, frames)
        found = model(clip)
        by_frame = torch.cat([model(clip[:, :, [t]]) for t in range(frames)], dim=1)
        torch.testing.assert_close(found[:, : by_frame.shape[1]], by_frame)
        motion = model.temporal_branch(clip)[:, 0]  # [N, T', h, w]
        repeated = torch.stack([motion[:, t * motion.shape[1] // frames] for t in range(frames)], dim=1)
        torch.testing.assert_close(found[:, by_frame.shape[1] :], repeated.flatten(1))
        assert repeated.numel() == by_frame.numel()
        torch.testing.assert_close(found.mean(dim=1), (by_frame.mean(dim=1) + repeated.flatten(1).mean(dim=1)) / 2)


@torch.no_grad()
def test_only_the_temporal_branch_minds_the_order_of_frames() -> None:
    model, clip = discriminator(), pictures(1, 5)
    shuffled = clip[:, :, [3, 0, 4, 1, 2]]
    frame_logits, motion_logits = model(clip).chunk(2, dim=1)
    other_frames, other_motion = model(shuffled).chunk(2, dim=1)
    torch.testing.assert_close(frame_logits.sort().values, other_frames.sort().values)
    assert not torch.allclose(motion_logits.sort().values, other_motion.sort().values)


def test_images_leave_the_temporal_branch_alone() -> None:
    model = discriminator()
    assert model.temporal_branch is not None
    model(pictures(1, 1)).mean().backward()
    assert all(p.grad is None for p in model.temporal_branch.parameters())
    assert all(p.grad is not None for p in model.frame_branch.parameters())
    model(pictures(1, 5)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.temporal_branch.parameters())


def test_spectral_norm_bounds_every_weight() -> None:
    """Also after steps that stretch the weights: the largest singular value stays about 1."""
    model = discriminator(spectral_norm=True, norm="none", width=8)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    assert len(layers) == 8
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for step in range(20):
        optimizer.zero_grad()
        hinge_discriminator_loss(
            model(pictures(2, 5, 16, step)), model(pictures(2, 5, 16, 50 + step))
        ).mean().backward()
        optimizer.step()
    for _ in range(30):
        model(pictures(1, 5, 16))
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        assert largest.item() == pytest.approx(1, abs=0.02)
    plain = discriminator(norm="none")
    weights = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    sizes = [torch.linalg.matrix_norm(weight.flatten(1), ord=2).item() for weight in weights]
    assert max(abs(size - 1) for size in sizes) > 0.1  # without it they are not


def test_spectral_norm_goes_on_from_a_state_dict() -> None:
    first = discriminator(spectral_norm=True)
    for seed in range(3):
        first(pictures(seed=seed))
    second = Discriminator(first.config)
    second.load_state_dict(first.state_dict())
    for seed in range(3):
        assert torch.equal(first(pictures(seed=seed)), second(pictures(seed=seed)))


@pytest.mark.parametrize("options", [{}, {"spectral_norm": True, "norm": "none"}])
def test_it_learns_with_r1(options: dict) -> None:
    """Bright frames against dark ones, a batch of one clip: the loss falls, and R1 reaches every weight."""
    model = discriminator(**options)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for seed in range(12):
        real = (pictures(1, 5, 16, seed).abs()).requires_grad_()
        logits = model(real)
        loss = hinge_discriminator_loss(logits, model(-pictures(1, 5, 16, 100 + seed).abs()))
        optimizer.zero_grad()
        (loss + 0.1 * r1_penalty(logits, real)).mean().backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < losses[0] - 0.5


def test_what_cannot_be() -> None:
    for options, word in (
        ({"width": 12}, "multiple of 8, not 12"),
        ({"width": 0}, "multiple of 8, not 0"),
        ({"layers": 0}, "1 to 6, not 0"),
        ({"norm": "batch"}, "not 'batch'"),
    ):
        with pytest.raises(ValueError, match=word):
            DiscriminatorConfig(**options)
    for layers in (1, 2, 3):
        model = discriminator(layers=layers)
        smallest = model.config.smallest_px
        assert model(pictures(1, 1, smallest)).shape == (1, 1)
        with pytest.raises(LavinditError, match=f"{smallest - 1}x{smallest - 1} px are too small .* give it fewer"):
            model(pictures(1, 1, smallest - 1))
