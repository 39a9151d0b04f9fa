"""Asks broker and database how the parts around the router are: who is in the workers' group, how far the audit is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from schemas.steps import decode_step
from schemas.vocabulary import TASK_PENDING
from streams.access.security import client_options
from streams.database.connection import DatabaseError, Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.kafka.client import REQUEST_TIMEOUT_MS, Broker
from streams.partition.reader import LOOKBACK_RECORDS, JournalReader
from streams.topics import name_in_audit, names
from streams.views.parts import AuditView, Parts, WorkerView

if TYPE_CHECKING:
    from psycopg import Connection

    from streams.settings import Settings

#: A sink that works writes a step in well under a second: what is missing for longer is worth a look.
CATCH_UP_S_MAX: Final = 2.0
CATCH_UP_POLL_S: Final = 0.1


async def read_parts(settings: Settings, ends: Mapping[int, int], *, audit: bool = True) -> Parts:
    """Look at the workers' group and, with `audit`, at Postgres; `ends` has the next step of each partition looked at.

    The audit has `CATCH_UP_S_MAX` to catch up with them.
    """
    members = await _workers(settings)
    served = {number for one in members or () for number in one.partitions or ()}
    sure = members and all(one.partitions is not None for one in members)
    return Parts(
        workers=members,
        unserved=tuple(sorted(set(range(settings.partitions)) - served)) if sure else (),
        audit=await asyncio.to_thread(audit_view, settings, ends) if audit else None,
    )


class AuditReader:
    """Says again and again how far the audit is, over one connection; for one thread at a time."""

    def __init__(self) -> None:
        self._connection: Connection[Any] | None = None

    def view(self, settings: Settings, ends: Mapping[int, int], *, wait_s: float = CATCH_UP_S_MAX) -> AuditView:
        """Compare the audit with the next step of each partition; wait so long for it to have them all."""
        deadline_s = time.monotonic() + wait_s
        try:
            with reading_audit():
                while True:
                    behind = _behind(ends, self._stands(settings, max(ends, default=-1) + 1))
                    if not behind or time.monotonic() >= deadline_s:
                        return AuditView(behind=behind)
                    time.sleep(CATCH_UP_POLL_S)
        except DatabaseError as error:
            self.close()
            return AuditView(trouble=str(error))

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _stands(self, settings: Settings, partitions: int) -> dict[int, int]:
        """Return the last step of each partition in the audit."""
        if self._connection is None:
            self._connection = connect(settings.database, Timeouts.of(settings), application="slotwise check")
        named = {"journal": name_in_audit(settings), "partitions": partitions}
        return {number: seq for number, seq, _ in self._connection.execute(QUERIES["last_steps"], named)}


def audit_view(settings: Settings, ends: Mapping[int, int], *, wait_s: float = CATCH_UP_S_MAX) -> AuditView:
    """Say once how far the audit is, as `AuditReader` does."""
    reader = AuditReader()
    try:
        return reader.view(settings, ends, wait_s=wait_s)
    finally:
        reader.close()


async def journal_ends(settings: Settings, partitions: Iterable[int]) -> dict[int, int]:
    """Return the number of the next step of each partition, read from the last records of its journal.

    Raises:
        KafkaError: the broker does not answer.
    """
    topic = names(settings).journal
    found: dict[int, int] = {}
    async with Broker(settings) as broker:
        for partition in partitions:
            first, end = await broker.bounds(topic, partition)
            # All of them only say which step is next.
            reader = JournalReader.joining(partition, decode_step, offset=end)
            async with aclosing(broker.read(topic, partition, max(first, end - LOOKBACK_RECORDS), end)) as runs:
                async for records in runs:
                    for record in records:
                        reader.take(record.offset, record.value or b"")
            if reader.seq:
                found[partition] = reader.seq
    return found


def _behind(ends: Mapping[int, int], stands: Mapping[int, int]) -> dict[int, int]:
    lags = {partition: end - 1 - stands.get(partition, -1) for partition, end in ends.items()}
    return {partition: lag for partition, lag in lags.items() if lag > 0}


async def _workers(settings: Settings) -> tuple[WorkerView, ...] | None:
    admin = AIOKafkaAdminClient(
        **client_options(settings),
        client_id=f"{settings.group}-check",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([names(settings).group])
    except (KafkaError, ValueError):
        return None
    finally:
        await admin.close()
    (group,) = answer.groups
    error_code, _, _, _, _, members, *_ = group
    if error_code:
        return None
    topic = settings.topic_prefix + TASK_PENDING
    return tuple(
        WorkerView(member=member, host=host, partitions=_assigned(assignment, topic))
        for member, _, host, _, assignment, *_ in members
    )


def _assigned(assignment: bytes, topic: str) -> tuple[int, ...] | None:
    """Return a member's partitions of a topic; None where the broker does not hand them out."""
    if not assignment:
        return None
    try:
        given: Any = ConsumerProtocolMemberAssignment.decode(assignment)
    except ValueError:
        return None
    return tuple(sorted(number for name, numbers in given.assignment if name == topic for number in numbers))
