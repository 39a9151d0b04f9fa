"""A record that is forwarded to the partition of its key: its headers there, with the one by which it is known again.

Clients differ in the partition that they give to a key. A worker sends such a record once to the partition that the
router's own partitioner gives; the header keeps it from being sent in circles, should two workers ever disagree.
"""

from __future__ import annotations

from typing import Final

from schemas.record import Headers

#: Says where the record was: `PARTITION@OFFSET` of the same topic.
FORWARDED: Final = "slotwise.forwarded"
#: Most bytes of headers that a record takes along; with a value of the contract it then fits every topic.
HEADERS_BYTES_MAX: Final = 16_384


def forwarded_from(headers: Headers) -> str | None:
    """Return where a record was before it was forwarded; None: it was not."""
    return next(((content or b"").decode(errors="replace") for name, content in headers if name == FORWARDED), None)


def headers_bytes(headers: Headers) -> int:
    """Size of the headers: names and contents."""
    return sum(len(name.encode(errors="backslashreplace")) + len(content or b"") for name, content in headers)


def forwarded_headers(headers: Headers, partition: int, offset: int) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of the record on the partition of its key; a name that is not UTF-8 is escaped."""
    own = ((name.encode(errors="backslashreplace").decode(), content or b"") for name, content in headers)
    return (*own, (FORWARDED, b"%d@%d" % (partition, offset)))
