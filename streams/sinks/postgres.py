"""Keep every decision in Postgres exactly once: the audit sink.

One transaction holds a batch of whole steps: their numbers in `journal_steps` first, which is the fence, then their
decisions, outcomes, operators' events and movements of money, and last the hourly sums of these rows. So a number is
there with all its rows or not at all, a second sink that still believes it owns a partition fails on the first number
that is taken, and COPY meets no duplicates. The role needs only INSERT on five tables; functions of the database return
the position of the audit and make the sums.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias

from psycopg import errors

from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.database.connection import Timeouts, connect_async, parameters, sentence, where
from streams.database.sql import QUERIES
from streams.sinks import rows
from streams.sinks.follow import YIELD_ROWS, JournalFollower
from streams.sinks.guarded import Answer, GuardedConnection
from streams.sinks.lag import SinkStatus
from streams.sinks.ports import ConflictError, RetryableError
from streams.sinks.records import KafkaRecords
from streams.topics import name_in_audit, names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Sized

    from psycopg import AsyncConnection, AsyncCursor
    from psycopg.rows import TupleRow

    from streams.settings import Settings
    from streams.sinks.audit_step import AuditStep
    from streams.sinks.ports import JournaledStep, SinkPosition

DAY_MS: Final = 86_400_000
#: When a day's partition could not be made, its rows go to DEFAULT; it is tried again after so long.
DAY_RETRY_S: Final = 60.0
#: Rows that are taken into the hourly sums for each that is written: twice, so that what is left of before gets less.
ROLL_UP_ROWS: Final = 2
#: Between two looks for hours to be merged, and how many are then: each takes Postgres some tenths of a second.
MERGE_EVERY_S: Final = 20.0
MERGE_SPANS_MAX: Final = 2

_log = logging.getLogger(__name__)

_LinesOf: TypeAlias = "Callable[[str, JournaledStep], Iterable[str]]"


class PostgresStore:
    """The audit tables, written by one connection, which is replaced after every failure."""

    remedy = (
        "Restore the journal from a copy, or give the new one a name of its own in the audit (SLOTWISE_JOURNAL), or an "
        "empty database."
    )

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection[TupleRow]]],
        *,
        journal: str,
        name: str,
        transaction_s_max: float,
        titles: bool = True,
    ) -> None:
        """`name` says in messages which database this is; `titles`: whether those of tasks are written."""
        self._connection = GuardedConnection(connect, name=name, transaction_s_max=transaction_s_max)
        self._journal = journal
        self.name = name
        #: The tables behind the fence: which rows of a step go there, and how they are written.
        self._tables_of: tuple[tuple[str, Callable[[AuditStep], Sized], _LinesOf], ...] = (
            ("copy_decisions", attrgetter("decisions"), partial(rows.decision_lines, titles=titles)),
            ("copy_outcomes", attrgetter("work"), rows.outcome_lines),
            ("copy_controls", attrgetter("controls"), rows.control_lines),
            ("copy_money", attrgetter("money"), rows.money_lines),
        )
        #: Days (since 1970) whose partitions exist, or are not to be tried again before that time.
        self._days: set[int] = set()
        self._days_asked_s: dict[int, float] = {}
        self._merged_s = time.monotonic()

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Return the last step of each partition in the audit."""
        return await self._connection.positions("standing", {"journal": self._journal})

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Write these steps with their decisions and outcomes, all or none."""
        try:
            await self._guarded(lambda connection: self._copy(connection, steps))
        except _DoubledError as error:
            _log.error(
                "%s: an id stands twice in steps %s (%s); the first row of it is kept", self.name, _range(steps), error
            )
            await self._guarded(lambda connection: self._copy_singly(connection, steps))
        if time.monotonic() - self._merged_s >= MERGE_EVERY_S:
            await self._merge()

    async def _merge(self) -> None:
        """Have hours that are over merged, behind the transaction of the steps: without it readers take longer."""

        async def ask(connection: AsyncConnection[TupleRow]) -> None:
            await connection.execute(QUERIES["merge"], {"journal": self._journal, "spans_max": MERGE_SPANS_MAX})

        try:
            await self._guarded(ask)
        except RetryableError as error:
            _log.warning("the hourly sums were not merged: %s", error)
        self._merged_s = time.monotonic()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _guarded(self, work: Callable[[AsyncConnection[TupleRow]], Awaitable[Answer]]) -> Answer:
        """Run an operation on the connection; a number or an id that is there already has an error of its own."""
        try:
            return await self._connection.run(work)
        except errors.UniqueViolation as error:
            if error.diag.table_name == "journal_steps":
                raise ConflictError("another sink has written these steps") from error
            raise _DoubledError(sentence(error)) from error

    async def _copy(self, connection: AsyncConnection[TupleRow], steps: Sequence[JournaledStep]) -> None:
        await self._make_days(connection, steps)
        async with connection.transaction(), connection.cursor() as cursor:
            await _copy(cursor, "copy_steps", (rows.step_line(self._journal, one) for one in steps))
            for query, lines in self._tables(steps):
                await _copy(cursor, query, lines)
            await self._roll_up(cursor, steps)

    async def _copy_singly(self, connection: AsyncConnection[TupleRow], steps: Sequence[JournaledStep]) -> None:
        """Write row by row, without those that exist: slow, for a batch with a duplicate."""
        async with connection.transaction(), connection.cursor() as cursor:
            await _copy(cursor, "copy_steps", (rows.step_line(self._journal, one) for one in steps))
            for query, lines in self._tables(steps):
                for line in lines:
                    with suppress(errors.UniqueViolation):
                        async with connection.transaction():
                            await _copy(cursor, query, [line])
            await self._roll_up(cursor, steps)

    async def _roll_up(self, cursor: AsyncCursor[TupleRow], steps: Sequence[JournaledStep]) -> None:
        """Take the steps into the hourly sums, and as many again of those that a sink of before has left out."""
        written: dict[int, list[AuditStep]] = defaultdict(list)
        for one in steps:
            written[one.step.partition].append(one.step)
        for partition, some in sorted(written.items()):
            first = some[0]
            earliest_ms = min((decision.decided_at_ms for decision in first.decisions), default=first.now_ms)
            named = {
                "journal": self._journal,
                "partition": partition,
                "rows_max": ROLL_UP_ROWS * sum(step.rows for step in some),
                "written_from": first.seq,
                "earliest": from_millis(earliest_ms),
            }
            await cursor.execute(QUERIES["roll_up"], named)

    def _tables(self, steps: Sequence[JournaledStep]) -> Iterator[tuple[str, Iterable[str]]]:
        """Return the rows by table, behind the steps' own rows; tables without rows are left out."""
        for query, has_rows, lines_of in self._tables_of:
            if any(has_rows(one.step) for one in steps):
                yield query, chain.from_iterable(lines_of(self._journal, one) for one in steps)

    async def _make_days(self, connection: AsyncConnection[TupleRow], steps: Iterable[JournaledStep]) -> None:
        """Have partitions made for days that have none; without one the rows go to DEFAULT, which is no loss."""
        days = {
            at_ms // DAY_MS
            for step in (one.step for one in steps)
            for at_ms in (
                *(decision.decided_at_ms for decision in step.decisions),
                *(control.at_ms for control in step.controls),
                *(movement.at_ms for movement in step.money),
                *((step.now_ms,) if step.work else ()),
            )
        }
        for day in sorted(days - self._days):
            if time.monotonic() - self._days_asked_s.get(day, -DAY_RETRY_S) < DAY_RETRY_S:
                continue
            self._days_asked_s[day] = time.monotonic()
            try:
                await connection.execute(QUERIES["make_partition"], {"day": rows.day(day * DAY_MS)})
            except errors.LockNotAvailable:
                _log.warning("%s: a reader keeps the audit busy; rows of a new day go to DEFAULT for now", self.name)
            else:
                self._days.add(day)


class PostgresSink:
    """Follows a journal into Postgres, in a consumer group of its own; any number may run and share the partitions."""

    def __init__(
        self,
        settings: Settings,
        *,
        topic: str | None = None,
        journal: str = "",
        accept_loss: bool = False,
    ) -> None:
        """Prepare; nothing is connected yet.

        `topic` of the wire contract is by default the installation's journal.
        `journal` names the journal in the audit, by default as the settings and the topic do.
        `accept_loss` goes on after steps that the topic no longer has; the gap stays visible in the audit.

        Raises:
            DatabaseError: the database setting is no DSN.
        """
        timeouts = Timeouts.of(settings)
        name = where(parameters(settings.database, timeouts, "slotwise sink"))
        self._follower = JournalFollower(
            KafkaRecords(
                settings,
                topic=names(settings).journal if topic is None else settings.topic_prefix + topic,
                group=names(settings).sink_group,
            ),
            PostgresStore(
                lambda: connect_async(settings.database, timeouts, application="slotwise sink"),
                journal=journal or name_in_audit(settings, topic),
                name=name,
                transaction_s_max=timeouts.transaction_s,
                titles=settings.audit_titles,
            ),
            SystemClock(),
            random.random,
            rows_max=settings.sink_rows_max,
            accept_loss=accept_loss,
            name="audit sink",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set; outages of broker and database are waited out.

        Raises:
            JournalMismatch: the audit and the journal contradict each other; the message says how, and what to do.
        """
        await self._follower.run(stop)

    def status(self) -> SinkStatus:
        """Return the progress and the present outage."""
        return self._follower.status()


class _DoubledError(Exception):
    """One id is twice in a batch."""


async def _copy(cursor: AsyncCursor[TupleRow], query: str, lines: Iterable[str]) -> None:
    rest = iter(lines)
    async with cursor.copy(QUERIES[query]) as copy:
        while block := "".join(islice(rest, YIELD_ROWS)):
            await copy.write(block)
            await asyncio.sleep(0)


def _range(steps: Sequence[JournaledStep]) -> str:
    return ", ".join(f"{one.step.partition}:{one.step.seq}" for one in (steps[0], steps[-1]))
