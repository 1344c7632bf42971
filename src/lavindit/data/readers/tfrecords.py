"""Records of `tf.train.Example` in TFRecord files, read without TensorFlow.

A file is a row of records: length (uint64), its checksum (4 bytes), content, its checksum (4 bytes), little-endian.
A content is a protocol buffer, Example{1: Features{1: entry{1: name, 2: Feature}}}, and a Feature is one list of its
kind: 1 bytes, 2 float32, 3 int64 (TensorFlow, `tensorflow/core/example/feature.proto`). Checksums are not checked.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lavindit.errors import LavinditError

HEADER, FOOTER = 12, 4
VARINT, FIXED64, BLOCK, FIXED32 = 0, 1, 2, 5


class Record(NamedTuple):
    """Where a record lies."""

    path: Path
    offset: int
    length: int


def list_records(path: Path) -> list[Record]:
    """The records of a file, which are stepped over and not read.

    Raises:
        LavinditError: The file is cut short.
    """
    records, offset, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while offset < size:
            file.seek(offset)
            header = file.read(HEADER)
            end = offset + HEADER + FOOTER + (struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else 0)
            if len(header) < HEADER or end > size:
                raise LavinditError(f"{path} ends within record {len(records)}; download it again")
            records.append(Record(path, offset + HEADER, end - offset - HEADER - FOOTER))
            offset = end
    return records


class Example:
    """The features of a record by name; each is decoded when it is asked for.

    Raises:
        LavinditError: The record is no Example, or lacks a feature that is asked for.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        with record.path.open("rb") as file:
            file.seek(record.offset)
            content = memoryview(file.read(record.length))
        try:
            entries = [dict(_fields(entry)) for _, features in _fields(content) for _, entry in _fields(features)]
            self.features = {bytes(entry[1]).decode(): entry[2] for entry in entries}
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise LavinditError(f"{record.path} holds something other than Examples ({error}); replace it") from None

    def __contains__(self, name: str) -> bool:
        return name in self.features

    def blocks(self, name: str) -> list[bytes]:
        """A list of bytes."""
        return [bytes(value) for _, value in _fields(self._list(name))]

    def floats(self, name: str) -> np.ndarray:
        """A list of float32 [n]."""
        return np.concatenate([np.frombuffer(value, "<f4") for _, value in _fields(self._list(name))])

    def integers(self, name: str) -> np.ndarray:
        """A list of int64 [n]."""
        return np.concatenate([_varints(value) for _, value in _fields(self._list(name))])

    def _list(self, name: str) -> memoryview:
        if name not in self.features:
            raise LavinditError(f"{self.record.path} holds no {name!r}; is it this data set?")
        return next((value for _, value in _fields(self.features[name])), memoryview(b""))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of a message; a number alone is given as its bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        start, kind = place, key & 7
        if kind == BLOCK:
            size, start = _varint(message, place)
            place = start + size
        elif kind == VARINT:
            _, place = _varint(message, place)
        elif kind in (FIXED32, FIXED64):
            place += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"field of kind {kind}")
        if place > len(message):
            raise ValueError("a field is cut short")
        yield key >> 3, message[start:place]


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at `place`, 7 bits a byte and the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _varints(packed: memoryview) -> np.ndarray:
    """All numbers of a packed list, int64 [n]."""
    stored = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(stored < 128)
    starts = np.concatenate([[0], ends[:-1] + 1])
    values = np.zeros(len(ends), np.uint64)
    for byte in range(int((ends - starts).max(initial=-1)) + 1):
        longer = starts + byte <= ends
        values[longer] |= (stored[starts[longer] + byte] & 127).astype(np.uint64) << np.uint64(7 * byte)
    return values.astype(np.int64)
