"""Dead letters: the headers that say why a record was refused and where it came from, and its value cut to size.

They are written by the worker and the publisher, and read by the commands for dead letters.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Generic, TypeVar

from msgspec import Struct, field

from schemas.decision import HistoryEntry
from schemas.input import Unreadable
from schemas.record import Headers

#: Most bytes of its own headers that a record takes along to the dead-letter topic.
HEADERS_BYTES_MAX: Final = 16_384

_ERRORS: Final = "__streams.errors."
_OURS: Final = "slotwise."

#: The event of a task as it was sent: bytes where it is written, fields where it is read.
_Sent = TypeVar("_Sent")


class DeadTask(Struct, Generic[_Sent], frozen=True):
    """The value of a dead letter of a task that was given up."""

    task: _Sent
    history: tuple[HistoryEntry, ...] = field(name="story")


def dead_letter_headers(
    topic: str,
    partition: int,
    offset: int,
    reason: str,
    headers: Headers = (),
    *,
    attempt: int | None = None,
    version: str | None = None,
) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a dead letter: its reason and origin, under the names of KIP-1034.

    The record's own headers (`headers`) come first, up to `HEADERS_BYTES_MAX`; headers of an earlier dead letter are
    replaced. `version` is the slotwise that refused the record, `attempt` the task's last one.
    """
    own: list[tuple[str, bytes]] = []
    room = HEADERS_BYTES_MAX
    dropped = 0
    for name, content in headers:
        if name.startswith((_ERRORS, _OURS)):
            continue
        room -= len(name.encode()) + len(content or b"")
        if room < 0:
            dropped += 1
        else:
            own.append((name, content or b""))
    added = {
        _ERRORS + "exception": Unreadable.__name__,
        _ERRORS + "message": reason,
        _ERRORS + "topic": topic,
        _ERRORS + "partition": str(partition),
        _ERRORS + "offset": str(offset),
    }
    if attempt is not None:
        added[_OURS + "attempt"] = str(attempt)
    if version is not None:
        added[_OURS + "version"] = version
    if dropped:
        added[_OURS + "headers_dropped"] = str(dropped)
    return (*own, *((name, text.encode(errors="backslashreplace")) for name, text in added.items()))


class Refused(Struct, frozen=True, kw_only=True):
    """What the headers of a dead letter say; None: the record lacks that header, or it is no number."""

    reason: str | None
    #: Where the record was: bare name of the topic, partition, offset.
    topic: str | None
    partition: int | None
    offset: int | None
    #: Last attempt of a task that was given up.
    attempt: int | None
    #: Bytes of the whole value, where it was cut.
    value_bytes: int | None
    headers_dropped: int | None
    #: The record's own headers.
    own: Headers


def refused_of(headers: Headers) -> Refused:
    """Read the headers of a dead letter."""
    said = {
        name: (content or b"").decode(errors="backslashreplace")
        for name, content in headers
        if name.startswith((_ERRORS, _OURS))
    }

    def number(name: str) -> int | None:
        text = said.get(name, "")
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None

    return Refused(
        reason=said.get(_ERRORS + "message"),
        topic=said.get(_ERRORS + "topic"),
        partition=number(_ERRORS + "partition"),
        offset=number(_ERRORS + "offset"),
        attempt=number(_OURS + "attempt"),
        value_bytes=number(_OURS + "value_bytes"),
        headers_dropped=number(_OURS + "headers_dropped"),
        own=tuple([one for one in headers if not one[0].startswith((_ERRORS, _OURS))]),
    )


def dead_letter_value(raw: bytes | None, bytes_max: int) -> tuple[bytes | None, tuple[tuple[str, bytes], ...]]:
    """Cut a value to what the dead-letter topic takes; the extra headers carry its real size and SHA-256."""
    if raw is None or len(raw) <= bytes_max:
        return raw, ()
    return raw[:bytes_max], (
        (_OURS + "value_bytes", str(len(raw)).encode()),
        (_OURS + "value_sha256", hashlib.sha256(raw).hexdigest().encode()),
    )
