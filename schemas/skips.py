"""Notes in the journal by which an operator passes over one of its records, and their bytes.

A note names the record by its offset and the SHA-256 of its value, and stands behind it in the same partition. It is no
step, so it has no number in the partition's history. A reader that stops at a record looks for a note behind it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

#: How the bytes of a note begin; a step begins with its version.
_START: Final = b'{"skip":'


class Skip(Struct, frozen=True, kw_only=True):
    """A note: the record at offset `skip` of this partition is none of slotwise's."""

    skip: int
    partition: int
    #: Of the record's value, in hexadecimal.
    sha256: str
    reason: str
    by: str
    #: When it was given, ISO 8601 in UTC.
    at: str
    #: Id of the journal; None: it has none yet.
    journal: str | None = None


_NOTES: Final = msgspec.json.Decoder(Skip)


def encode_skip(note: Skip) -> bytes:
    """Write a note as the value of a journal record."""
    return msgspec.json.encode(note)


def read_skip(raw: bytes) -> Skip | None:
    """Read the value of a journal record that is a note; None: it is none."""
    if not raw.startswith(_START):
        return None
    try:
        return _NOTES.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
