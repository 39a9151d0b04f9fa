"""What is remembered of a slot's reports, and by which a report is known that says nothing new."""

from __future__ import annotations

from typing import Literal

from schemas.decision import LastReport, SlotRow
from schemas.event_id import EventId
from schemas.events import SlotFreed
from schemas.vocabulary import Millis, to_millis


def old(
    last: LastReport | None, event: SlotFreed, event_id: EventId | None, now_ms: Millis
) -> Literal["duplicate", "stale"] | None:
    """Return what a report is that says nothing new: the last one repeated, or older than that; None: it is new."""
    if last is None:
        return None
    at_ms = to_millis(event.at)
    if at_ms == last.at_ms or (event_id is not None and event_id == (last.ce_source, last.ce_id)):
        return "duplicate"
    if at_ms > last.at_ms:
        return None
    # A clock that was ahead and was set right speaks of a time after the last report, and no longer of the future.
    was_ahead = last.at_ms > now_ms
    return None if was_ahead and last.accepted_ms < at_ms <= now_ms else "stale"


def latest(last: LastReport | None, event: SlotFreed, event_id: EventId | None, now_ms: Millis) -> LastReport:
    """Return what is remembered of reports once this one is accepted."""
    at_ms = to_millis(event.at)
    source, id_ = event_id if event_id is not None else (None, None)
    return LastReport(at_ms if last is None else max(at_ms, last.at_ms), now_ms, source, id_)


def ttl_ms(slot: SlotRow | None, event: SlotFreed) -> int | None:
    """Return how long the slot may be silent once this report is accepted: an announcement sets it or ends it."""
    if event.ttl_s is not None:
        return round(event.ttl_s * 1000)
    is_announcement = event.lease is None and event.state == "free"
    return None if slot is None or is_announcement else slot.ttl_ms
