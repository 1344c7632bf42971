"""Checkpoints as folders: every process writes its shard, any number of processes reads them back.

FOLDER/.metadata, *.distcp    all tensors, by torch.distributed.checkpoint, under flat names: `state_dict.NAME` and
                              `optimizer.I.NAME.KEY`
FOLDER/meta.pt                everything else, plain values only

Legend: a *whole* checkpoint is the dictionary that one process works with: optimizer states by parameter number.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

META = "meta.pt"
INDEX = ".metadata"
MODEL, OPTIMIZER = "state_dict.", "optimizer."
RECORDS = "torch.distributed.checkpoint.metadata"
INDEX_NAMES = {
    (RECORDS, "Metadata"),
    (RECORDS, "MetadataIndex"),
    (RECORDS, "StorageMeta"),
    (RECORDS, "TensorStorageMetadata"),
    (RECORDS, "TensorProperties"),
    (RECORDS, "ChunkStorageMetadata"),
    (RECORDS, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
}


class _IndexUnpickler(pickle.Unpickler):
    """Reads the index of a folder: the records that torch writes into it, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in INDEX_NAMES or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in the index of a checkpoint")


class SafeReader(FileSystemReader):
    """torch's reader, but the index cannot bring code along."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index of the folder."""
        content = (Path(self.path) / INDEX).read_bytes()
        metadata = _IndexUnpickler(io.BytesIO(content)).load()
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _TensorsOnly(DefaultLoadPlanner):
    """Anything else in the shards would be unpickled by torch; ours hold nothing else."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        raise pickle.UnpicklingError(f"{read_item.dest_index.fqn} is no tensor")


def is_sharded(path: Path | str) -> bool:
    """Whether a path is a checkpoint folder."""
    return (Path(path) / INDEX).is_file() and (Path(path) / META).is_file()


def write_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write this process's shards; all processes take part."""
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder))


def read_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    """Fill tensors, sharded or whole, from a folder; all processes take part."""
    if tensors:
        dcp.load(tensors, storage_reader=SafeReader(folder), planner=_TensorsOnly())


def stored_sizes(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Size and type of every stored tensor."""
    found = SafeReader(folder).read_metadata().state_dict_metadata
    return {name: value for name, value in found.items() if isinstance(value, TensorStorageMetadata)}


def stored_shapes(folder: Path, prefix: str) -> dict[str, Sequence[int]]:
    """Shape of every stored tensor whose name starts with a prefix, by the rest of its name."""
    return {
        name.removeprefix(prefix): entry.size for name, entry in stored_sizes(folder).items() if name.startswith(prefix)
    }


def read_whole(folder: Path) -> dict[str, Any]:
    """A folder as the whole checkpoint of one process."""
    checkpoint = torch.load(folder / META, map_location="cpu", weights_only=True)
    stored = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in stored_sizes(folder).items()
    }
    read_tensors(stored, folder)
    checkpoint["state_dict"] = {
        name.removeprefix(MODEL): value for name, value in stored.items() if name.startswith(MODEL)
    }
    checkpoint["optimizer_states"] = [
        _numbered(groups, _states_of(stored, number))
        for number, groups in enumerate(checkpoint.pop("optimizer_groups", []))
    ]
    return checkpoint


def optimizer_tensors(optimizer: torch.optim.Optimizer, number: int, network: nn.Module) -> dict[str, Tensor]:
    """State of an optimizer under flat names."""
    return {
        f"{OPTIMIZER}{number}.{name}.{key}": value
        for name, parameter in _named_parameters(optimizer, network)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def optimizer_groups(optimizer: torch.optim.Optimizer, network: nn.Module) -> list[dict[str, Any]]:
    """The optimizer's groups with the names of their parameters."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [group | {"params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups]


def read_optimizer(optimizer: torch.optim.Optimizer, number: int, network: nn.Module, folder: Path) -> None:
    """Fill an optimizer's state from a folder, sharded as its parameters are."""
    stored, tensors = stored_sizes(folder), {}
    states: dict[nn.Parameter, dict[str, Tensor]] = {}
    for name, parameter in _named_parameters(optimizer, network):
        prefix = f"{OPTIMIZER}{number}.{name}."
        for key in (key for key in stored if key.startswith(prefix)):
            like = parameter.detach() if stored[key].size == parameter.shape else torch.zeros(stored[key].size)
            tensors[key] = torch.zeros_like(like, dtype=stored[key].properties.dtype)
            states.setdefault(parameter, {})[key.removeprefix(prefix)] = tensors[key]
    read_tensors(tensors, folder)
    for parameter, state in states.items():
        optimizer.state[parameter] = state


def spread_model(weights: dict[str, Tensor], network: nn.Module) -> None:
    """Load whole weights into a sharded network; each process has them all and keeps its part."""
    network.load_state_dict(
        {name: _like(value, weights[name]) for name, value in network.state_dict().items() if name in weights}
    )


def spread_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Load the state of a whole checkpoint into the optimizer of a sharded network."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        values = state["state"].get(number, {})
        optimizer.state[parameter] = {
            key: _like(parameter.detach(), value) if value.shape == parameter.shape else value
            for key, value in values.items()
        }
    set_groups(optimizer, state["param_groups"])


def set_groups(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> None:
    """Take over the settings of stored groups (learning rates, betas, ...), not their parameters."""
    for group, stored in zip(optimizer.param_groups, groups, strict=True):
        group.update({key: value for key, value in stored.items() if key != "params"})


def _named_parameters(optimizer: torch.optim.Optimizer, network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [(names[id(p)], p) for group in optimizer.param_groups for p in group["params"]]


def _states_of(stored: dict[str, Tensor], number: int) -> dict[str, dict[str, Tensor]]:
    """State by parameter name."""
    found: dict[str, dict[str, Tensor]] = {}
    for flat, value in stored.items():
        if flat.startswith(f"{OPTIMIZER}{number}."):
            name, key = flat.removeprefix(f"{OPTIMIZER}{number}.").rsplit(".", 1)
            found.setdefault(name, {})[key] = value
    return found


def _numbered(groups: list[dict[str, Any]], states: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    """An optimizer's state as torch stores it: parameters by their number, counted over the groups."""
    names = [name for group in groups for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    return {
        "state": {numbers[name]: state for name, state in states.items()},
        "param_groups": [group | {"params": [numbers[name] for name in group["params"]]} for group in groups],
    }


def _like(sharded: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor cut as another one is, without a word between the processes."""
    if not isinstance(sharded, DTensor):
        return whole
    whole = whole.to(sharded.device)
    return distribute_tensor(whole, sharded.device_mesh, sharded.placements, src_data_rank=None)
