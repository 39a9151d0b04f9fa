"""Looks at how far every reader of the topics is: broker, journal and audit are asked, and nothing is changed.

Each reader's position is taken from where its truth is: a worker goes on from what its journal holds, the sink from
what Postgres holds, and only publisher, tables and sinks of lines by their committed offsets. Clients without an event
loop do the asking, in one thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import psycopg
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from msgspec import Struct

from streams.clock import SystemClock
from streams.database.connection import DatabaseError, Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.kafka.blocking import open_consumer
from streams.kafka.outputs import seq_in
from streams.operate.handled import Handled, HandledNow, following_handled
from streams.settings import Settings
from streams.topics import BrokerUnreachable, name_in_audit, names, open_admin
from streams.views.lag import LagReport, Look, Reader, Reading, Source, report

#: A broker that hands out none of the records that it has for so long does not answer.
FETCH_S_MAX: Final = 10.0
POLL_MS: Final = 100
#: In the order in which a task passes them.
ORDER: Final[tuple[Reader, ...]] = ("worker", "publisher", "tables", "sink", "lines", "shadow")
#: Only a record of each partition is looked at; and a fetch that waits for more would hold up the next one.
FETCH: Final = {"max_partition_fetch_bytes": 65_536, "fetch_max_wait_ms": 20}
#: A report that is younger is given again.
FRESH_S: Final = 1.0
#: Rates are those of the present: over a longer time there are none.
RATES_OVER_S_MAX: Final = 120.0
#: States of a group without members: a sink of lines that has ended stays behind, and that is no fault.
LEFT: Final = ("empty", "dead")


class Span(Struct, frozen=True):
    """What a partition of a topic holds."""

    #: Its first offset, and the one that comes next.
    first: int
    end: int
    #: Time of the newest record; None: there is none.
    newest_ms: int | None = None


class _Known(NamedTuple):
    """Where a reader is."""

    #: Number of the next step, where the reader counts steps and its place has it.
    seq: int | None
    #: Offset of the first record that is not read.
    offset: int


class LagReader:
    """Looks again and again over the same connections; a context manager, to be used by one thread at a time."""

    def __init__(self, settings: Settings, handled: HandledNow) -> None:
        """`handled` gives how far the workers are by their journals."""
        self._settings = settings
        self._handled = handled
        self._names = names(settings)
        self._partitions = range(settings.partitions)
        self._audit: psycopg.Connection[Any] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnreachable, BrokerRefused, SettingsError: the broker is not there for us.
        """
        with ExitStack() as opening:
            self._admin = opening.enter_context(open_admin(self._settings))
            self._consumer = open_consumer(self._settings, **FETCH)
            opening.callback(self._consumer.close)
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; an error of the broker becomes a sentence."""
        self._forget_audit()
        self._stack.__exit__(kind, error, trace)

    def look(self) -> Look:
        """Look once. Where Postgres does not answer, only the sink's position is not known.

        Raises:
            KafkaError, BrokerUnreachable: the broker does not answer, or lacks a topic.
            JournalError: the journal cannot be followed.
        """
        # 1. What the topics hold, and after that where each reader is: what comes in between is no lag.
        spans = self._spans((*self._names.inputs, self._names.journal))
        at_ms, at_s = SystemClock().now_ms(), time.monotonic()
        places, troubles = self._places()
        handled = self._handled()
        for index, topic in enumerate(self._names.inputs):
            source = Source(reader="worker", group=self._names.group, topic=topic, basis="journal")
            places[source] = {number: _Known(None, one.inputs[index] + 1) for number, one in handled.items()}
        # 2. The first record that each has not read; one that has the last step lacks no step, whatever follows it.
        positions = {
            source: {
                number: _position(spans[TopicPartition(source.topic, number)], known.get(number), handled.get(number))
                for number in self._partitions
            }
            for source, known in sorted(places.items(), key=lambda one: ORDER.index(one[0].reader))
        }
        times = self._times(spans, positions)
        return Look(
            at_ms=at_ms,
            at_s=at_s,
            readings={
                source: {
                    number: _reading(spans[where], position, times.get((where, max(position, spans[where].first))))
                    for number, position in of.items()
                    for where in [TopicPartition(source.topic, number)]
                }
                for source, of in positions.items()
            },
            troubles=troubles,
        )

    # Where each reader is ----------------------------------------------------------------------------------------

    def _places(self) -> tuple[dict[Source, dict[int, _Known]], dict[Source, str]]:
        """Return the place of each reader of the journal, and why one is not known."""
        journal = self._names.journal
        places: dict[Source, dict[int, _Known]] = {}
        groups: list[tuple[Reader, str]] = [
            ("publisher", self._names.publisher_group),
            ("tables", self._names.group),
            *(("lines", group) for group in self._lines()),
        ]
        for reader, group in groups:
            source = Source(reader=reader, group=group, topic=journal, basis="committed")
            places[source] = self._committed(group)
        sink = Source(reader="sink", group=self._names.sink_group, topic=journal, basis="audit")
        try:
            places[sink] = self._stored()
        except DatabaseError as error:
            self._forget_audit()
            return places, {sink: str(error)}
        return places | self._shadows(), {}

    def _lines(self) -> list[str]:
        """Return the groups of the sinks of lines that run."""
        return sorted(
            one["group_id"]
            for one in self._admin.list_groups()
            if one["group_id"].startswith(self._names.lines_groups)
            and str(one.get("group_state", "")).lower() not in LEFT
        )

    def _committed(self, group: str) -> dict[int, _Known]:
        wanted = [TopicPartition(self._names.journal, number) for number in self._partitions]
        found = self._admin.list_group_offsets({group: wanted}).get(group, {})
        return {
            where.partition: _Known(seq_in(committed.metadata), committed.offset)
            for where, committed in found.items()
            if committed.offset >= 0
        }

    def _stored(self) -> dict[int, _Known]:
        """Return how far the audit is.

        Raises:
            DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
        """
        with reading_audit():
            if self._audit is None:
                timeouts = Timeouts.of(self._settings)
                self._audit = connect(self._settings.database, timeouts, application="slotwise lag")
            named = {"journal": name_in_audit(self._settings), "partitions": len(self._partitions)}
            rows = self._audit.execute(QUERIES["last_steps"], named).fetchall()
        return {partition: _Known(seq + 1, offset + 1) for partition, seq, offset in rows}

    def _shadows(self) -> dict[Source, dict[int, _Known]]:
        """Return how far the shadows are whose runs are under way."""
        found: dict[Source, dict[int, _Known]] = {}
        try:
            with reading_audit():
                named = {"journal": name_in_audit(self._settings)}
                rows = self._audit.execute(QUERIES["shadow_lag"], named).fetchall() if self._audit is not None else []
        except DatabaseError:
            return {}  # a database that is not migrated yet has no shadows
        for name, partition, seq, offset in rows:
            group = self._names.shadow_groups + name
            source = Source(reader="shadow", group=group, topic=self._names.journal, basis="audit")
            found.setdefault(source, {})[partition] = _Known(seq + 1, offset + 1)
        return found

    def _forget_audit(self) -> None:
        audit, self._audit = self._audit, None
        if audit is not None:
            audit.close()

    # What the topics hold ----------------------------------------------------------------------------------------

    def _spans(self, topics: Iterable[str]) -> dict[TopicPartition, Span]:
        places = [TopicPartition(topic, number) for topic in topics for number in self._partitions]
        first = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
        end = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        found = {where: Span(first[where].offset, end[where].offset) for where in places}
        # Tansu says where the last batch begins, plus one; the end that comes with a fetch is right.
        starts = {where: span.end - 1 for where, span in found.items() if span.end > span.first}
        for where, (last, highwater) in self._newest(starts).items():
            found[where] = Span(found[where].first, max(highwater, found[where].end), last.timestamp)
        return found

    def _newest(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, tuple[Any, int]]:
        """Return the newest record of each, as of the first fetch, and the end that it came with."""
        last: dict[TopicPartition, Any] = {}
        ends: dict[TopicPartition, int] = {}
        for polled in self._polls(starts):
            for where, records in polled.items():
                ends.setdefault(where, self._consumer.highwater(where) or 0)
                last[where] = next((one for one in reversed(records) if one.offset < ends[where]), records[-1])
            done = {where for where, one in last.items() if one.offset + 1 >= ends[where]}
            self._consumer.pause(*done)
            if done == starts.keys():
                break
        return {where: (one, ends[where]) for where, one in last.items()}

    def _times(
        self, spans: Mapping[TopicPartition, Span], positions: Mapping[Source, Mapping[int, int]]
    ) -> dict[tuple[TopicPartition, int], int]:
        """Return the times of the records that readers have to read next, by partition and offset."""
        wanted: dict[TopicPartition, set[int]] = {}
        for source, of in positions.items():
            for number, position in of.items():
                where = TopicPartition(source.topic, number)
                if position < spans[where].end:
                    wanted.setdefault(where, set()).add(max(position, spans[where].first))
        found: dict[tuple[TopicPartition, int], int] = {}
        while wanted:
            starts = {where: offsets.pop() for where, offsets in wanted.items()}
            wanted = {where: offsets for where, offsets in wanted.items() if offsets}
            missing = set(starts)
            for polled in self._polls(starts):
                for where in missing.intersection(polled):
                    found[where, starts[where]] = polled[where][0].timestamp
                self._consumer.pause(*polled)
                missing -= polled.keys()
                if not missing:
                    break
        return found

    def _polls(self, starts: Mapping[TopicPartition, int]) -> Iterator[Mapping[TopicPartition, Sequence[Any]]]:
        """Yield what the broker hands out from these offsets on.

        Raises:
            BrokerUnreachable: it hands out nothing.
        """
        if not starts:
            return
        # What is remembered of an earlier assignment is old.
        self._consumer.unsubscribe()
        self._consumer.assign(list(starts))
        for where, offset in starts.items():
            self._consumer.seek(where, offset)
        deadline_s = time.monotonic() + FETCH_S_MAX
        while time.monotonic() < deadline_s:
            yield self._consumer.poll(timeout_ms=POLL_MS)
        topics = ", ".join(sorted({where.topic for where in starts}))
        raise BrokerUnreachable(
            f"The broker at {self._settings.broker} has not handed out records of {topics} for {FETCH_S_MAX:.0f} s: "
            "look at its log."
        )


def _position(span: Span, known: _Known | None, handled: Handled | None) -> int:
    """Return the first offset that is not read; a reader of which nothing is known begins with the topic."""
    if known is None:
        return span.first
    if known.seq is not None and handled is not None and known.seq == handled.seq:
        return max(known.offset, span.end)
    return known.offset


def _reading(span: Span, position: int, unread_ms: int | None) -> Reading:
    return Reading(position=position, first=span.first, end=span.end, unread_ms=unread_ms, newest_ms=span.newest_ms)


async def lag_reports(settings: Settings, interval_s: float) -> AsyncGenerator[LagReport]:
    """Yield a report after each interval, with the rates since its beginning, without end.

    Raises:
        KafkaError, BrokerUnreachable: the broker does not answer, or lacks a topic.
        JournalError: a journal cannot be read.
    """
    async with following_handled(settings) as handled:
        with LagReader(settings, handled) as reader:
            before = await asyncio.to_thread(reader.look)
            while True:
                await asyncio.sleep(interval_s)
                now = await asyncio.to_thread(reader.look)
                yield report(now, before)
                before = now


class SharedLag:
    """Reports for many who ask: one look at a time, none within `FRESH_S` of the end of another, rates since then.

    Counted from the end: where a look takes longer than that, those who waited for it share it too.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._reader: LagReader | None = None
        self._last: Look | None = None
        self._report: LagReport | None = None
        self._ended_s = 0.0

    def report(self, settings: Settings, handled: HandledNow) -> LagReport:
        """Return the newest report; it blocks for as long as a look takes.

        Raises:
            KafkaError, BrokerUnreachable: the broker does not answer, or lacks a topic.
        """
        with self._turn:
            last, known = self._last, self._report
            if known is not None and time.monotonic() - self._ended_s < FRESH_S:
                return known
            if self._reader is None:
                self._reader = LagReader(settings, handled).__enter__()
            try:
                now = self._reader.look()
            except BaseException:
                self._close(*sys.exc_info())
                raise
            before = last if last is not None and now.at_s - last.at_s < RATES_OVER_S_MAX else None
            self._last, self._report, self._ended_s = now, report(now, before), time.monotonic()
            return self._report

    def close(self) -> None:
        """Disconnect."""
        with self._turn:
            self._close(None, None, None)

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.__exit__(kind, error, trace)
