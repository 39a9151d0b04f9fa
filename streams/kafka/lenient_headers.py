"""Reads records whose header names are not UTF-8; aiokafka 0.14 fails on them at every try.

Kafka requires no encoding of header names, so one such record would block its partition, and every client that reads
it, until retention removes it. `install` puts a reader in place that decodes such names with surrogate escapes; the
record is then refused or handled like any other. All other records are left to aiokafka, at its speed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_OFFSET_BYTES: Final = 8
_LENGTH_BYTES: Final = 4


def install() -> None:
    """Make every consumer of this process read with `Records`."""
    fetcher.MemoryRecords = Records


class Records:
    """Stands in for aiokafka's `MemoryRecords`: the batches of one answer to a fetch."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records: Any = MemoryRecords(data)
        self._taken = 0

    def has_next(self) -> bool:
        """Whether a whole batch is left."""
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        """Size of the answer."""
        return int(self._records.size_in_bytes())

    def next_batch(self) -> Any:
        """Return the next batch."""
        batch = self._records.next_batch()
        self._taken += 1
        return None if batch is None else _Batch(batch, self._data, self._taken)


class _Batch:
    """A batch that is read leniently when it cannot be read strictly."""

    def __init__(self, batch: Any, data: bytes, number: int) -> None:
        self._batch = batch
        self._data = data
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(self._leniently())

    def _leniently(self) -> list[Any]:
        start = 0
        for _ in range(self._number - 1):
            start += _size(self._data, start)
        batch: Any = _DefaultRecordBatchPy(self._data[start : start + _size(self._data, start)])
        batch._maybe_uncompress()  # noqa: SLF001 - the buffer is what its reader decodes from
        batch._buffer = _AnyText(batch._buffer)  # noqa: SLF001
        return list(batch)


class _AnyText(bytearray):
    """Bytes whose slices always decode; only header names are decoded."""

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _AnyText(found) if isinstance(where, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        """Decode, with escapes for invalid bytes."""
        return bytes(self).decode(encoding, errors)


def _size(data: bytes, start: int) -> int:
    """Size of the batch that begins here: base offset, length field, and the length itself."""
    length: int = struct.unpack_from(">i", data, start + _OFFSET_BYTES)[0]
    return _OFFSET_BYTES + _LENGTH_BYTES + length
