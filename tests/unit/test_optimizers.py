"""Muon's orthogonalization on matrices and kernels, which weights are whose, and states that resume."""

import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from lavindit.training.optimizers import MuonAdamW, _by_gram_matrix, _by_quintic, orthogonalized

SHAPES = [(8, 40), (40, 8), (12, 12), (6, 4, 3, 3), (64, 4, 3, 3), (6, 4, 3, 3, 3), (90, 3, 3, 3, 3), (5, 5, 2), (1, 9)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values_of(update: Tensor) -> Tensor:
    return torch.linalg.svdvals(update.flatten(1).double())


@pytest.mark.parametrize("rank", [8, 3])
def test_the_gram_matrix_takes_the_same_way(rank: int) -> None:
    x = normal(8, rank) @ normal(rank, 64, seed=1)
    x = x / x.norm()
    torch.testing.assert_close(_by_gram_matrix(x), _by_quintic(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    """The directions stay: the result is a polynomial of the update, odd in its singular values."""
    torch.manual_seed(0)
    rows, columns = shape[0], torch.Size(shape[1:]).numel()
    least = min(rows, columns)
    left, _ = torch.linalg.qr(normal(rows, least).double())
    right, _ = torch.linalg.qr(normal(columns, least, seed=1).double())
    update = (left * torch.linspace(0.1, 1, least) @ right.T).reshape(shape).float()
    found = orthogonalized(update)
    assert found.shape == update.shape
    assert found.dtype == update.dtype
    values = values_of(found)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25
    turned = left.T @ found.flatten(1).double() @ right
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), atol=1e-4, rtol=0)
    assert float(turned.diagonal().min()) > 0.65


def test_the_size_of_the_update_does_not_matter_and_zero_stays_zero() -> None:
    update = normal(6, 30)
    torch.testing.assert_close(orthogonalized(1e4 * update), orthogonalized(update), atol=1e-4, rtol=0)
    assert not orthogonalized(torch.zeros(6, 30)).any()
    half = orthogonalized(update.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), orthogonalized(update), atol=0.02, rtol=0)


def test_a_step_on_a_matrix_is_that_of_torchs_muon() -> None:
    """Torch's runs in bfloat16, so the updates agree to two digits."""
    weights = [nn.Parameter(normal(12, 40)), nn.Parameter(normal(12, 40))]
    ours = MuonAdamW([weights[0]], lr=0.1, momentum=0.9, weight_decay=0.2)
    torchs = torch.optim.Muon(
        [weights[1]], lr=0.1, momentum=0.9, weight_decay=0.2, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(3):
        before = [weight.detach().clone() for weight in weights]
        for weight, optimizer in zip(weights, (ours, torchs), strict=True):
            weight.grad = normal(12, 40, seed=step + 1)
            optimizer.step()
        moves = [weight.detach() - old for weight, old in zip(weights, before, strict=True)]
        assert float((moves[0] - moves[1]).norm()) < 0.03 * float(moves[1].norm())
        weights[0].data.copy_(weights[1].data)


def test_a_step_on_the_rest_is_adamws() -> None:
    weights = [nn.Parameter(normal(7)), nn.Parameter(normal(7))]
    ours = MuonAdamW([weights[0]], lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.2)
    torchs = torch.optim.AdamW([weights[1]], lr=0.1, betas=(0.8, 0.9), weight_decay=0.2)
    for step in range(3):
        for weight, optimizer in zip(weights, (ours, torchs), strict=True):
            weight.grad = normal(7, seed=step)
            optimizer.step()
    assert torch.equal(weights[0], weights[1])


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "image": nn.Conv2d(3, 8, 3),
            "clip": nn.Conv3d(8, 4, 3),
            "depthwise": nn.Conv2d(8, 8, 3, groups=8),
            "norm": nn.GroupNorm(4, 8),
            "matrix": nn.Linear(4, 2),
        }
    )


def test_weights_that_mix_channels_are_muons() -> None:
    net = network()
    matrices, rest = MuonAdamW(net.parameters()).param_groups
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {names[id(p)] for p in matrices["params"]} == {"image.weight", "clip.weight", "matrix.weight"}
    assert {names[id(p)] for p in rest["params"]} == set(names.values()) - {names[id(p)] for p in matrices["params"]}


def give_gradients(net: nn.Module, seed: int, without: str = "") -> None:
    for name, parameter in net.named_parameters():
        parameter.grad = None if name.startswith(without or "-") else normal(*parameter.shape, seed=seed)


def test_kernels_resume_from_their_state(tmp_path: Path) -> None:
    net, other = network(), network()
    optimizer, resumed = MuonAdamW(net.parameters(), lr=0.1), MuonAdamW(other.parameters())
    for step in range(2):
        give_gradients(net, step)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    other.load_state_dict(deepcopy(net.state_dict()))
    for step in range(2, 4):
        for each, own in ((net, optimizer), (other, resumed)):
            give_gradients(each, step)
            own.step()
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("part", ["clip", "norm"])
def test_what_has_no_gradient_stays_as_it_is(part: str) -> None:
    net = network()
    optimizer = MuonAdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    before = deepcopy(net.state_dict())
    give_gradients(net, 0, without=part)
    optimizer.step()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(part), name


def sharded_step(rank: int, folder: Path) -> None:
    """One of two processes: steps on weights that lie in both; rank 0 writes them whole."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        weights = [nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)])) for whole in wholes()]
        optimizer = MuonAdamW(weights, lr=0.1)
        for step in range(2):
            for weight in weights:
                weight.grad = distribute_tensor(normal(*weight.shape, seed=step + 5), mesh, [Shard(0)])
            optimizer.step()
        assert all(isinstance(state["momentum_buffer"], DTensor) for state in list(optimizer.state.values())[:2])
        found = [weight.detach().full_tensor() for weight in weights]  # pyright: ignore
        if rank == 0:
            torch.save(found, folder / "found.pt")
    finally:
        dist.destroy_process_group()
    os._exit(0)  # gloo's threads sometimes abort while Python shuts down, after the work is done


def wholes() -> list[Tensor]:
    """A matrix and a kernel, of which one process has more rows, and a bias."""
    return [normal(6, 20), normal(5, 4, 3, 3, seed=1), normal(6, seed=2)]


def test_sharded_weights_take_the_same_steps(tmp_path: Path) -> None:
    mp.spawn(sharded_step, (tmp_path,), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    weights = [nn.Parameter(whole) for whole in wholes()]
    optimizer = MuonAdamW(weights, lr=0.1)
    for step in range(2):
        for weight in weights:
            weight.grad = normal(*weight.shape, seed=step + 5)
        optimizer.step()
    for found, weight in zip(torch.load(tmp_path / "found.pt", weights_only=True), weights, strict=True):
        torch.testing.assert_close(found, weight.detach(), atol=1e-6, rtol=1e-5)
