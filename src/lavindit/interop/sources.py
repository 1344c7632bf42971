"""Released weight files: safetensors, or a torch file with the weights under `state_dict`."""

import pickle
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.models.weights import TensorSpec, WeightsFile, spec_of

ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"
REOPEN_BYTES = 256 * 2**20
STATE_DICT = "state_dict"


class WeightsSource(Protocol):
    """Tensors that are known by type and shape before they are read."""

    path: Path
    specs: dict[str, TensorSpec]
    metadata: dict[str, str]

    def read(self, key: str) -> Tensor:
        """Read a tensor into memory of its own."""
        ...


class TorchFile:
    """The `state_dict` of a torch file. The file is mapped, and nothing in it is run.

    Args:
        path: The file.

    Attributes:
        specs: Type and shape of every tensor.
        metadata: Empty; torch files carry no strings.

    Raises:
        LavinditError: The file is damaged, would run code, or holds no state dict of tensors.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.metadata = path, {}
        self._tensors = self._open()
        self._read_bytes = 0
        self.specs = {key: spec_of(tensor) for key, tensor in self._tensors.items()}

    def read(self, key: str) -> Tensor:
        """Read a tensor into memory of its own."""
        # Pages of a mapped file count as resident memory once they are read; a new mapping starts with none.
        if self._read_bytes > REOPEN_BYTES:
            self._tensors, self._read_bytes = self._open(), 0
        tensor = self._tensors[key].clone(memory_format=torch.contiguous_format)
        self._read_bytes += tensor.nbytes
        return tensor

    def _open(self) -> dict[str, Tensor]:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise LavinditError(
                f"{self.path} holds more than tensors, which lavindit does not load: it may run code"
            ) from error
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            reason = str(error).strip().split("\n")[0]
            raise LavinditError(f"cannot read {self.path}: {reason}; copy the file again") from error
        tensors = content.get(STATE_DICT) if isinstance(content, dict) else None
        if not isinstance(tensors, dict):
            raise LavinditError(f"{self.path} has no entry {STATE_DICT!r}; save the weights under that name")
        others = [key for key, value in tensors.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
        if others:
            raise LavinditError(f"{self.path} holds no tensor under {others[0]!r} of its {STATE_DICT}")
        return tensors


def open_source(path: Path) -> WeightsSource:
    """Open a released weight file, whichever its format.

    Raises:
        LavinditError: It is missing, damaged, of another format, or would run code.
    """
    if not path.is_file():
        raise LavinditError(f"no such file: {path}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise LavinditError(f"cannot read {path}: {error.strerror or error}") from error
    if start == ZIP_MAGIC:
        return TorchFile(path)
    try:
        return WeightsFile(path)
    except LavinditError:
        if start.startswith(PICKLE_MAGIC):
            wanted = "lavindit reads safetensors and zipped torch files"
            raise LavinditError(f"{path} is a pickle, which may run code; {wanted}") from None
        raise
