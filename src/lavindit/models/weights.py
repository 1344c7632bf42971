"""Weight files: safetensors, read and written tensor by tensor, so that no file need fit into memory.

Layout: 8 bytes of little-endian header length, a JSON header {name: {dtype, shape, data_offsets}} padded with spaces,
then the raw bytes.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lavindit.errors import LavinditError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000  # that the library reads


@dataclass(frozen=True)
class TensorSpec:
    """What a file says of a tensor before it is read.

    Attributes:
        dtype: Name as in `DTYPES`; files may hold others, which cannot be read.
        shape: Sizes.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class WeightsFile:
    """A safetensors file whose tensors are read one at a time, into memory of their own.

    Nothing is mapped: the pages of a mapped file count as resident memory once they are read.

    Args:
        path: The file.
        remedy: Ends the line that a damaged file is told with.
        what: What that line calls the file's content.

    Attributes:
        specs: Type and shape of every tensor, in the file's order.
        metadata: The strings that the file carries.

    Raises:
        LavinditError: The file is missing, truncated, or no safetensors.
    """

    def __init__(self, path: Path, remedy: str = "copy the file again", what: str = "weights") -> None:
        self.path, self.remedy, self.what = path, remedy, what
        try:
            path.open("rb").close()  # of a file that is not there the system speaks plainer than the library
            with safe_open(path, "pt"):  # the library knows every way in which a header can be wrong
                pass
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except SafetensorError as error:
            raise self._unreadable(_what_is_wrong(path)) from error
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        self.specs = {key: TensorSpec(entry["dtype"], tuple(entry["shape"])) for key, entry in header.items()}
        self._starts = {key: 8 + length + entry["data_offsets"][0] for key, entry in header.items()}

    def read(self, key: str, rows: tuple[int, int] | None = None) -> Tensor:
        """Read a tensor, or the rows [first, last) of its first dimension.

        Raises:
            LavinditError: It is of a type that torch lacks, or the file has changed.
        """
        spec = self.specs[key]
        if spec.dtype not in DTYPES:
            raise LavinditError(f"{self.path} holds {key} as {spec.dtype}, which lavindit does not read")
        start, shape = self._starts[key], spec.shape
        if rows is not None:
            start += rows[0] * TensorSpec(spec.dtype, shape[1:]).nbytes
            shape = (rows[1] - rows[0], *shape[1:])
        content = torch.empty(TensorSpec(spec.dtype, shape).nbytes, dtype=torch.uint8, device="cpu")
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                if file.readinto(content.numpy().data) != len(content):
                    raise OSError("the file has become shorter")
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        return content.view(DTYPES[spec.dtype]).view(shape)

    def _unreadable(self, reason: str) -> LavinditError:
        return LavinditError(f"cannot read the {self.what} {self.path}: {reason}; {self.remedy}")


def _what_is_wrong(path: Path) -> str:
    """Why the library refuses a file, in words for whom it was given to."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if not start:
            return "it is empty"
        if start[8:] != b"{" or length > LONGEST_HEADER:
            return "it is no safetensors file"
        if size < 8 + length:
            return "it is cut short"
        text = start[8:] + file.read(length - 1)
    try:
        ends = [entry["data_offsets"][1] for key, entry in json.loads(text).items() if key != "__metadata__"]
        missing = 8 + length + max(ends, default=0) - size
    except (ValueError, TypeError, KeyError, IndexError):
        missing = 0
    if missing:
        return "it is cut short" if missing > 0 else "more follows than it says that it holds"
    return "its header is damaged"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spec_of(tensor: Tensor) -> TensorSpec:
    """Type and shape of a tensor; a type that weight files lack keeps torch's name."""
    return TensorSpec(DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))


def write_weights(
    path: Path,
    specs: Mapping[str, TensorSpec],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write a safetensors file, holding one tensor at a time.

    Args:
        path: The file; replaced where it exists.
        specs: Type and shape of every tensor.
        read: Gives the tensor of a name; called once for each.
        metadata: Strings that the file carries.
        written: Told the bytes of each tensor once it is written.

    Raises:
        OSError: The file cannot be written.
        ValueError: A tensor is not as its spec says.
    """
    # Wide types first, as the safetensors library does: every tensor so stays aligned to its type.
    order = sorted(specs, key=lambda key: (-DTYPES[specs[key].dtype].itemsize, key))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key in order:
        start, end = end, end + specs[key].nbytes
        header[key] = {"dtype": specs[key].dtype, "shape": list(specs[key].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            tensor = read(key)
            if spec_of(tensor) != specs[key]:
                raise ValueError(f"{key} is {spec_of(tensor)}, not {specs[key]}")
            file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            if written is not None:
                written(specs[key].nbytes)
