"""Keep every decision in Postgres exactly once: the audit sink.

One transaction holds a batch of whole steps: their numbers in `journal_steps` first, which is the fence, then their
decisions, outcomes, operators' events and movements of money. So a number is there with all its rows or not at all, a
second sink that still believes it owns a partition fails on the first number that is taken, and COPY meets no
duplicates. The role needs only INSERT on five tables; a function returns the position of the audit.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from psycopg import errors

from schemas.vocabulary import DECISION_AUDIT
from streams.clock import SystemClock
from streams.database.connection import Timeouts, connect_async, parameters, sentence, where
from streams.database.sql import QUERIES
from streams.sinks import rows
from streams.sinks.follow import YIELD_ROWS, JournalFollower
from streams.sinks.lag import SinkStatus
from streams.sinks.ports import ConflictError, RetryableError, SinkPosition
from streams.sinks.records import KafkaRecords
from streams.topics import name_in_audit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Sized

    from psycopg import AsyncConnection, AsyncCursor
    from psycopg.rows import TupleRow

    from streams.settings import Settings
    from streams.sinks.audit_step import AuditStep
    from streams.sinks.ports import JournaledStep

DAY_MS: Final = 86_400_000
#: When a day's partition could not be made, its rows go to DEFAULT; it is tried again after so long.
DAY_RETRY_S: Final = 60.0

#: The tables behind the fence: which rows of a step go there, and how they are written.
_TABLES: Final[tuple[tuple[str, Callable[[AuditStep], Sized], Callable[[str, JournaledStep], Iterable[str]]], ...]] = (
    ("copy_decisions", attrgetter("decisions"), rows.decision_lines),
    ("copy_outcomes", attrgetter("work"), rows.outcome_lines),
    ("copy_controls", attrgetter("controls"), rows.control_lines),
    ("copy_money", attrgetter("money"), rows.money_lines),
)

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


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
    ) -> None:
        """`name` says in messages which database this is."""
        self._connect = connect
        self._journal = journal
        self.name = name
        self._transaction_s_max = transaction_s_max
        self._connection: AsyncConnection[TupleRow] | None = None
        #: Days (since 1970) whose partitions exist, or are not to be tried again before that time.
        self._days: set[int] = set()
        self._days_asked_s: dict[int, float] = {}

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Return the last step of each partition in the audit."""

        async def ask(connection: AsyncConnection[TupleRow]) -> dict[int, SinkPosition]:
            found: dict[int, SinkPosition] = {}
            cursor = await connection.execute(QUERIES["standing"], {"journal": self._journal})
            async for partition, seq, offset, sha256, link, journal_id in cursor:
                found[partition] = SinkPosition(
                    seq=seq, offset=offset, sha256=sha256, chain=link, journal_id=journal_id
                )
            return found

        return await self._guarded(ask)

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Write these steps with their decisions and outcomes, all or none."""
        try:
            await self._guarded(lambda connection: self._copy(connection, steps))
        except _DoubledError as error:
            _log.error(
                "%s: an id stands twice in steps %s (%s); the first row of it is kept", self.name, _range(steps), error
            )
            await self._guarded(lambda connection: self._copy_singly(connection, steps))

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _guarded(self, work: Callable[[AsyncConnection[TupleRow]], Awaitable[Answer]]) -> Answer:
        """Run an operation on the connection; after a failure the connection is closed, and the error is a sentence."""
        try:
            # Postgres bounds its statements, TCP its silence; a frozen server triggers neither.
            async with asyncio.timeout(self._transaction_s_max):
                if self._connection is None:
                    self._connection = await self._connect()
                return await work(self._connection)
        except BaseException as error:
            await self.close()
            match error:
                case errors.UniqueViolation(diag=diag) if diag.table_name == "journal_steps":
                    raise ConflictError("another sink has written these steps") from error
                case errors.UniqueViolation():
                    raise _DoubledError(sentence(error)) from error
                case errors.UndefinedTable() | errors.UndefinedFunction() | errors.UndefinedColumn():
                    why = f"lacks what this slotwise needs ({sentence(error)}): run `slotwise db migrate`"
                case errors.InsufficientPrivilege():
                    why = f"refuses us ({sentence(error)}): GRANT slotwise_write to this login"
                case TimeoutError():
                    why = f"did not answer within {self._transaction_s_max:.0f} s"
                case psycopg.Error() | OSError():
                    why = f"failed ({sentence(error)})"
                case _:
                    raise
            raise RetryableError(f"{self.name} {why}") from error

    async def _copy(self, connection: AsyncConnection[TupleRow], steps: Sequence[JournaledStep]) -> None:
        await self._make_days(connection, steps)
        async with connection.transaction(), connection.cursor() as cursor:
            await _copy(cursor, "copy_steps", (rows.step_line(self._journal, one) for one in steps))
            for query, lines in self._tables(steps):
                await _copy(cursor, query, lines)

    async def _copy_singly(self, connection: AsyncConnection[TupleRow], steps: Sequence[JournaledStep]) -> None:
        """Write row by row, without those that exist: slow, for a batch with a duplicate."""
        async with connection.transaction(), connection.cursor() as cursor:
            await _copy(cursor, "copy_steps", (rows.step_line(self._journal, one) for one in steps))
            for query, lines in self._tables(steps):
                for line in lines:
                    with suppress(errors.UniqueViolation):
                        async with connection.transaction():
                            await _copy(cursor, query, [line])

    def _tables(self, steps: Sequence[JournaledStep]) -> Iterator[tuple[str, Iterable[str]]]:
        """Return the rows by table, behind the steps' own rows; tables without rows are left out."""
        for query, has_rows, lines_of in _TABLES:
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
        topic: str = DECISION_AUDIT,
        journal: str = "",
        accept_loss: bool = False,
    ) -> None:
        """Prepare; nothing is connected yet.

        `journal` names the journal in the audit, by default as the settings and the topic do.
        `accept_loss` goes on after steps that the topic no longer has; the gap stays visible in the audit.

        Raises:
            DatabaseError: the database setting is no DSN.
        """
        timeouts = Timeouts.of(settings)
        name = where(parameters(settings.database, timeouts, "slotwise sink"))
        self._follower = JournalFollower(
            KafkaRecords(settings, topic=settings.topic_prefix + topic, group=f"{settings.group}-sink-postgres"),
            PostgresStore(
                lambda: connect_async(settings.database, timeouts, application="slotwise sink"),
                journal=journal or name_in_audit(settings, topic),
                name=name,
                transaction_s_max=timeouts.connect_s + timeouts.statement_s + timeouts.silence_s,
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
