"""Marks on dead letters: records of a dead-letter topic that say what became of earlier ones of their partition.

A dead letter itself never changes. A mark stands behind it in the same partition, so that it is read after it and
outlives it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct

from schemas.record import Headers

#: The header of a mark; its content is the state. No dead letter has it: those lose their headers of `slotwise.`.
MARK: Final = "slotwise.mark"

#: What becomes of a dead letter.
MarkedAs = Literal["replayed", "dropped"]


class DeadLetterMark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of a mark: these dead letters were sent again, or need nothing more."""

    mark: MarkedAs
    #: Offsets in the partition of the mark: one dead letter, with its copies.
    offsets: tuple[int, ...]
    at: str
    by: str
    because: str = ""


_DECODER: Final = msgspec.json.Decoder(DeadLetterMark)


def is_mark(headers: Headers) -> bool:
    """Whether a record of a dead-letter topic is a mark, readable or not."""
    return any(name == MARK for name, _ in headers)


def mark_of(value: bytes | None) -> DeadLetterMark | None:
    """Read a mark; None: it is of another form, as a later version may write it."""
    try:
        return _DECODER.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def mark_record(mark: DeadLetterMark) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """Return value and headers of a mark's record."""
    return msgspec.json.encode(mark), ((MARK, mark.mark.encode()), ("content-type", b"application/json"))
