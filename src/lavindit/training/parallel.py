"""How a network is spread over processes: what to shard, and strategies whose checkpoints any other may go on from."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from lavindit.files import put_in_place, remove
from lavindit.models.jdit import JDiT
from lavindit.models.jdit.block import JointBlock
from lavindit.training import sharded
from lavindit.training.checkpoints import read_checkpoint


def shard(network: nn.Module, mesh: DeviceMesh, mixed: bool) -> None:
    """Shard a transformer block by block, then what is left, in place (FSDP2).

    Args:
        network: A network with `JointBlock`s.
        mesh: The data-parallel dimension of the device mesh.
        mixed: Gather weights as bf16; gradients are reduced in float32 in any case.
    """
    # Times must not be rounded on their way in, so inputs keep their type; autocast casts where it matters.
    dtype = torch.bfloat16 if mixed else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in network.modules():
        if isinstance(module, JointBlock):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)
    if isinstance(network, JDiT):
        for name in ("read", "answer"):  # weights outside of the blocks are gathered for these as for `forward`
            register_fsdp_forward_method(network, name)


class FSDP2(ModelParallelStrategy):
    """Lightning's `ModelParallelStrategy` over all processes, with checkpoints that fit every number of them.

    A checkpoint is a folder with a shard of each process. It is written beside the old one and renamed, holds no code,
    and is read by any number of processes, one without sharding included; one written without sharding is read, too.

    Args:
        process_group_backend: "nccl", "gloo", ...; None: by device.
        timeout_minutes: How long processes wait for one another.
    """

    def __init__(self, process_group_backend: str | None = None, timeout_minutes: int = 30) -> None:
        super().__init__(
            tensor_parallel_size=1,
            process_group_backend=process_group_backend,
            timeout=timedelta(minutes=timeout_minutes),
        )

    def setup_environment(self) -> None:
        """Every process is a data-parallel one."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Shards of the weights."""
        return self._network.state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Nothing: `save_checkpoint` takes it from the optimizers."""
        return {}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write all shards under a temporary name, then put the folder in its place."""
        path = Path(self.broadcast(str(filepath)))
        new = path.with_name(f".{path.name}.new")
        if self.is_global_zero:
            remove(new)
        self.barrier()
        tensors = {sharded.MODEL + name: value for name, value in checkpoint.pop("state_dict").items()}
        checkpoint.pop("optimizer_states", None)
        optimizers = self.optimizers
        for number, optimizer in enumerate(optimizers):
            tensors |= sharded.optimizer_tensors(optimizer, number, self._network)
        checkpoint["optimizer_groups"] = [sharded.optimizer_groups(o, self._network) for o in optimizers]
        sharded.write_tensors(tensors, new)
        if self.is_global_zero:
            torch.save(checkpoint, new / sharded.META)
            put_in_place(new, path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read shards or a whole checkpoint into the sharded network and its optimizers."""
        path = Path(self.broadcast(str(checkpoint_path)))
        module: Any = self.lightning_module  # a TrainedModule
        if not sharded.is_sharded(path):
            checkpoint = read_checkpoint(path)
            weights = checkpoint.pop("state_dict")
            module.check_fit(checkpoint, {name: value.shape for name, value in weights.items()})
            sharded.spread_model(weights, self._network)
            for optimizer, state in zip(self.optimizers, checkpoint.pop("optimizer_states"), strict=False):
                sharded.spread_optimizer(state, optimizer)
            return checkpoint
        checkpoint = read_checkpoint(path, tensors=False)
        weights = {sharded.MODEL + name: value for name, value in self._network.state_dict().items()}
        module.check_fit(checkpoint, sharded.stored_shapes(path, sharded.MODEL))
        sharded.read_tensors(weights, path)
        groups = checkpoint.pop("optimizer_groups")
        for number, (optimizer, stored) in enumerate(zip(self.optimizers, groups, strict=False)):
            sharded.read_optimizer(optimizer, number, self._network, path)
            sharded.set_groups(optimizer, stored)
        return checkpoint

    @property
    def _network(self) -> nn.Module:
        assert self.model is not None
        return self.model


class FSDP1(FSDPStrategy):
    """Lightning's `FSDPStrategy`, cut at the blocks. Its checkpoints are its own; `FSDP2` is the one to prefer.

    It wraps the whole module and runs each step as that module's `forward`, so weights outside of the blocks are
    gathered in all of the step, whichever methods of the network it calls.

    Args:
        state_dict_type: "sharded": a folder, a file a process; "full": one file, gathered.
        **kwargs: Options of `FSDPStrategy`.
    """

    def __init__(self, state_dict_type: str = "sharded", **kwargs: Any) -> None:
        super().__init__(auto_wrap_policy={JointBlock}, state_dict_type=state_dict_type, **kwargs)  # pyright: ignore


StrategyRegistry.register("fsdp2", FSDP2, "Sharded by torch's fully_shard; checkpoints fit any number of processes.")
StrategyRegistry.register("fsdp", FSDP1, "Sharded by FullyShardedDataParallel, cut at the blocks.", override=True)
