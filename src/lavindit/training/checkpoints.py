"""Reading and writing the state of a run: whole or not at all, and without running any code of a file's."""

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lavindit.errors import LavinditError
from lavindit.files import put_in_place
from lavindit.training import sharded

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
FORMAT_KEY = "lavindit_format"
FORMAT = 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints of strategies that keep every weight in every process: one file, written beside the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Write whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, temporary)
            put_in_place(temporary, path)
        except OSError as error:
            raise LavinditError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error

    def load_checkpoint(
        self, path: _PATH, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a file, or all shards of a folder."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path, tensors: bool = True) -> dict[str, Any]:
    """A checkpoint as plain values and tensors.

    Args:
        path: A file, or a folder of shards.
        tensors: Read the shards of a folder, too.

    Raises:
        LavinditError: There is none, it is damaged, holds code, or is of another version.
    """
    try:
        if sharded.is_sharded(path):
            checkpoint = sharded.read_whole(path) if tensors else torch.load(path / sharded.META, weights_only=True)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise LavinditError(f"no checkpoint {path}") from None
    except IsADirectoryError:
        raise LavinditError(f"{path} is a folder, but holds no checkpoint") from None
    except pickle.UnpicklingError:
        raise LavinditError(
            f"{path} is no checkpoint, or holds more than tensors and plain values; it is not read"
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise LavinditError(
            f"cannot read the checkpoint {path} ({reason}); name another with --ckpt_path, or start anew with "
            "--restart true"
        ) from error
    if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
        raise LavinditError(f"{path} is a torch file, but no checkpoint of a lavindit run")
    found = checkpoint.get(FORMAT_KEY, 1)
    if found != FORMAT:
        age = "a newer lavindit; update lavindit" if found > FORMAT else "an older lavindit; --restart true starts anew"
        raise LavinditError(f"the checkpoint {path} was written by {age}")
    return checkpoint


def last_checkpoint(run: Path | str) -> Path:
    """Where a run keeps its newest checkpoint: a file, or a folder of shards."""
    return Path(run) / CHECKPOINTS / LAST
