"""A context that is read once is read by sharded networks, too: two processes answer what one answers."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from lavindit.inference.sampler import SamplingConfig, sample_latents
from lavindit.models import JDiT, JDiTConfig
from lavindit.models.jdit import ContextAttention
from lavindit.models.jdit.block import JointBlock
from lavindit.training.parallel import shard
from lavindit.types import LatentEpisode

MODES: tuple[ContextAttention, ...] = ("joint", "prefix", "causal")


class Step(nn.Module):
    """As Lightning runs a step under FSDP1: as the forward pass of the module around the network."""

    def __init__(self, network: JDiT) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: slice) -> Tensor:
        return answers(self.network, rows)


def network(mode: ContextAttention) -> JDiT:
    """Its zero-initialised layers are random, too, or its answers would not depend on what it reads."""
    torch.manual_seed(0)
    model = JDiT(JDiTConfig(width=64, depth=2, heads=2, context_attention=mode)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def answers(model: JDiT, rows: slice) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(4, 3, 16, 1, 4, 4, generator=generator)[rows] for _ in range(2))
    config = SamplingConfig(steps=2, guidance=1.5)
    return sample_latents(model, LatentEpisode(inputs, targets), ["a", "b", "c", "d"][rows], config)


def ask_in_shards(rank: int, port: str, folder: Path) -> None:
    """One of two processes: its half of the answers, as `fsdp2` and as `fsdp` would find them."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    rows, found = slice(2 * rank, 2 * rank + 2), {}
    for mode in MODES:
        sharded = network(mode)
        shard(sharded, init_device_mesh("cpu", (2,)), mixed=False)
        found[f"fsdp2/{mode}"] = answers(sharded, rows)
        step = FullyShardedDataParallel(
            Step(network(mode)),
            auto_wrap_policy=ModuleWrapPolicy({JointBlock}),
            use_orig_params=True,
            device_id=torch.device("cpu"),
        )
        found[f"fsdp/{mode}"] = step(rows)
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    os._exit(0)  # gloo may abort in Python's shutdown


@pytest.mark.filterwarnings("ignore:.*requires_grad:UserWarning")
def test_two_processes_answer_what_one_answers(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    mp.spawn(ask_in_shards, (port, tmp_path), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert len(halves[0]) == 2 * len(MODES)
    for name in halves[0]:
        expected = answers(network(name.split("/")[1]), slice(0, 4))  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), expected, atol=1e-5, rtol=1e-5)
