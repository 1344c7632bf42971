"""What is looked at before something good is overwritten or something wrong is begun."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.distributed.tensor import DTensor

from lavindit.errors import LavinditError
from lavindit.files import write_atomically
from lavindit.types import EpisodeBatch, LatentBatch


def sum_of(weights: Iterable[Tensor]) -> Tensor:
    """A scalar that is finite if all weights are; of a sharded one, this process's part counts."""
    parts = (w.to_local() if isinstance(w, DTensor) else w for w in weights)
    return torch.stack([part.detach().double().sum().cpu() for part in parts]).sum()


def check_start(folder: str, wanted: Any, found: Any, free: Collection[str]) -> None:
    """Refuse to start from the weights of another network.

    Args:
        folder: The model directory, for the message.
        wanted: Config of this run's network.
        found: Config of the one in the directory.
        free: Options that may differ, since the weights mean the same with either.

    Raises:
        LavinditError: They differ.
    """
    ours, theirs = asdict(wanted), asdict(found)
    for name in ours:
        if name not in free and ours[name] != theirs[name]:
            raise LavinditError(
                f"init_from {folder} has {name} {theirs[name]}, this config's network {ours[name]}; "
                f"set model.init_args.network.{name}"
            )


def check_loss_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights of tasks' losses that are no weights.

    Raises:
        LavinditError: One is negative or no number.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise LavinditError(f"loss_weights: {name} has weight {weight}; weights are numbers of 0 or more")


def save_batch(batch: EpisodeBatch | LatentBatch, run: Path, step: int, rank: int) -> Path:
    """Write a batch to RUN/not_finite, for a person to look at: its tensors, and the names of its samples.

    Raises:
        LavinditError: The folder cannot be written.
    """
    path = run / "not_finite" / f"step_{step}_process_{rank}.safetensors"
    pictures = batch.mean if isinstance(batch, LatentBatch) else batch
    tensors = {"inputs": pictures.inputs, "targets": pictures.targets}
    names = {"tasks": json.dumps(batch.tasks), "sample_ids": json.dumps(batch.sample_ids)}
    write_atomically(path, save({name: value.cpu().contiguous() for name, value in tensors.items()}, metadata=names))
    return path
