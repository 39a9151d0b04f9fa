"""Where a replay begins: the state of a partition before a step, from the journal's begin or from a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import SlotwiseError
from streams.partition.ports import Checkpoint, JournalPosition
from streams.replay.source import Source
from streams.replay.span import Span


class NoBegin(SlotwiseError):
    """The state before the first step is not known; the message says from where on it is."""


class Begin(Struct, frozen=True):
    """A router with the state before the step at a place of the journal."""

    router: Router
    position: JournalPosition


async def begin(source: Source, rulebook: Rulebook, span: Span) -> Begin:
    """Return the nearest known state at or before the span's begin.

    Without one it is that of the journal's begin, or where that is cut off, the oldest snapshot that it reaches.

    Raises:
        NoBegin: there is no such state.
    """
    first, end = await source.steps.bounds()
    loaded = await source.snapshots.load() if span.begins_later or first > 0 else ()
    reached = [one for one in loaded if first <= one.position.offset <= end]
    if span.begins_later:
        for found in _restored(source.partition, rulebook, reached):
            if found.position.seq <= (span.since_seq or found.position.seq) and (
                not span.since_ms or found.router.now_ms < span.since_ms
            ):
                return found
    elif first > 0:
        for found in _restored(source.partition, rulebook, reached[::-1]):
            return found
    if first == 0:
        return Begin(Router(source.partition, rulebook), JournalPosition(0, 0))
    reaches = (
        f"the snapshots reach it from step {reached[-1].position.seq} on: name that or a later one with --from"
        if reached
        else "no snapshot reaches it"
    )
    raise NoBegin(
        f"The journal of partition {source.partition} begins at offset {first}, so that its state there is not known; "
        f"{reaches}."
    )


def _restored(partition: int, rulebook: Rulebook, snapshots: Sequence[Checkpoint]) -> Iterator[Begin]:
    for one in snapshots:
        # One of another version, say: the next one, or the whole journal, will do.
        with suppress(Exception):
            router = Router.restore(partition, rulebook, one.chunks)
            if router.seq == one.position.seq:
                yield Begin(router, one.position)
