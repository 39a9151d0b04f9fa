"""The CloudEvents identity of a record: who sent it, and under which id; the sender gives no id twice."""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas.record import Headers
from schemas.vocabulary import SLOT_FREED

#: Longer ones identify nothing: they would be repeated in the journal.
_PART_BYTES_MAX: Final = 256


class EventId(NamedTuple):
    """Sender and id of an event; two records that have the same are one."""

    source: str
    id: str


def event_id_of(topic: str, headers: Headers) -> EventId | None:
    """Return the identity of a slot's report, the only record of which it counts; None for records of other topics.

    None too where `ce_source` or `ce_id` is absent, too long or no printable text.
    """
    if topic != SLOT_FREED:
        return None
    source = id_ = None
    for name, content in headers:
        if name == "ce_source":
            source = content
        elif name == "ce_id":
            id_ = content
    if source is None or id_ is None:
        return None
    texts = _text(source), _text(id_)
    return EventId(texts[0], texts[1]) if texts[0] and texts[1] else None


def _text(content: bytes) -> str:
    """Return the text, or nothing where it cannot be an identity."""
    if len(content) > _PART_BYTES_MAX:
        return ""
    text = content.decode(errors="ignore")
    whole = content.isascii() or len(text.encode()) == len(content)
    return text if whole and text.isprintable() else ""
