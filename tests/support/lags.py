"""Looks at readers of topics, built by naming only what matters."""

from __future__ import annotations

from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS
from streams.views.lag import Look, Reader, Reading, Source

SINK = Source(reader="sink", group="slotwise-sink-postgres", topic="decision.audit", basis="audit")
WORKER = Source(reader="worker", group="slotwise", topic="task.pending", basis="journal")
AT_MS = 1_800_000_100_000


def reading(position: int, end: int, *, first: int = 0, unread_s: float | None = None) -> Reading:
    """A partition whose newest record came at second 60, and the first unread one at `unread_s`."""
    unread_ms = None if unread_s is None else 1_800_000_000_000 + int(unread_s * 1000)
    newest_ms = 1_800_000_060_000 if end > first else None
    return Reading(position=position, first=first, end=end, unread_ms=unread_ms, newest_ms=newest_ms)


def look(*partitions: Reading, at_s: float = 0.0, source: Source = SINK) -> Look:
    """One look at one source, at second 100 of the clock."""
    return Look(at_ms=AT_MS, at_s=at_s, readings={source: dict(enumerate(partitions))})


def installation(*, at_s: float = 14.0) -> Look:
    """One look at all readers of an installation with one partition; only the sink is behind, and catches up."""
    found: dict[Source, dict[int, Reading]] = {}
    for topic in INPUT_TOPICS:
        source = Source(reader="worker", group="slotwise", topic=topic, basis="journal")
        found[source] = {0: reading(int(at_s), int(at_s))}
    readers: tuple[tuple[Reader, str], ...] = (("publisher", "slotwise-publisher"), ("tables", "slotwise"))
    for reader, group in readers:
        source = Source(reader=reader, group=group, topic=DECISION_AUDIT, basis="committed")
        found[source] = {0: reading(120, 120)}
    found[SINK] = {0: reading(int(at_s * 5), 120, unread_s=10)}
    return Look(at_ms=AT_MS, at_s=at_s, readings=found)
