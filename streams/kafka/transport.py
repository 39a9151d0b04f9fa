"""Faust's consumer, changed to deliver batches, to start at the journal's positions, and to find missing inputs.

This depends on internals of faust-streaming 0.15 and its aiokafka driver (the version is pinned): `getmany` feeds the
agents, `seek_to_committed` is called after table recovery and before the flow resumes, `_new_offset` says what may be
committed. Committed offsets are written for lag dashboards and never read back: positions come from the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import faust
from aiokafka.structs import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from schemas.vocabulary import INPUT_TOPICS
from streams import metrics
from streams.kafka.client import Broker
from streams.partition.assignment import Assignment
from streams.partition.journal_id import REMEDY
from streams.partition.ports import JournalError, PartitionError
from streams.partition.recovery import cut_short
from streams.tables import Tables
from streams.topic_names import Names

_log = logging.getLogger(__name__)

#: Longest wait for records while some partitions are left out because their inboxes are full.
REFILL_S: Final = 0.05
#: While the broker does not answer a check, the next one comes this much later.
CHECK_ERROR_PAUSE_S: Final = 2.0
#: How long the broker may delay its answer while it has no records. Tansu looks again only after a good part of this
#: time (at 500 ms a record arrives after ~180 ms, at 50 ms after ~8 ms); Kafka answers at once in any case.
FETCH_WAIT_MS: Final = 50


class Batches(faust.Schema[Any, Any]):
    """Gives an agent the consumer's message without decoding it."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - of the interface
        """The key is in the records."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - of the interface
        """The records of one partition and one fetch."""
        return message.value


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches in a thread of its own, with short waits. No position moves while the flow is stopped."""

    app: Any

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Wait less than Faust's 1500 ms, for which there is no setting."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - read when it starts, and no argument is passed on
        return consumer

    async def on_thread_stop(self) -> None:
        """Leave the group in an orderly stop, unless the worker's name was given, and is meant to come back.

        aiokafka never lets a static member leave: for the length of a session its partitions would wait for it.
        """
        coordinator = getattr(self._consumer, "_coordinator", None)
        if self.app.leaves_group and coordinator is not None:
            coordinator._group_instance_id = None  # noqa: SLF001 - read when it leaves
        await super().on_thread_stop()

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - of the parent
        max_records: int | None = None,
    ) -> Any:
        """Fetch from the partitions that are active now.

        The set changes while a fetch waits, and aiokafka takes an empty one for all partitions. So a fetch from before
        a rebalance could swallow the changelog records that the recovery after it waits for: it asks for a copy, and
        what it got during a stop is put back at once, in the one thread that moves positions.
        """
        if not active_partitions:
            return {}
        records = await super()._fetch_records(consumer, set(active_partitions), timeout, max_records)
        if self.consumer.flow_active:
            return records
        assigned = consumer.assignment()
        for tp, run in records.items():
            if run and tp in assigned:
                consumer.seek(tp, run[0].offset)
        return {}


class Consumer(driver.Consumer):
    """The consumer of a worker; `assignment`, `projections` and `names` of its app are there before it starts."""

    app: Any

    @property
    def _workers(self) -> Assignment:
        assignment: Assignment = self.app.assignment
        return assignment

    @property
    def _tables(self) -> Tables:
        tables: Tables = self.app.projections
        return tables

    @property
    def _names(self) -> Names:
        names: Names = self.app.names
        return names

    @property
    def _broker(self) -> Broker:
        broker: Broker = self.app.connections[0]
        return broker

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # Batches --------------------------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109
        """Yield one message for all records of a batched partition; changelogs record by record, as Faust does."""
        # A wait for the others would hold up a partition whose inbox has room again.
        records, active = await self._wait_next_records(REFILL_S if self._buffered_partitions else timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            # A rebalance, which ends with a seek: what is dropped here is fetched again.
            return
        batched = {*self._names.inputs, self._names.journal}
        single = {}
        for tp, run in records.items():
            if tp.topic not in batched:
                single[tp] = run
            elif run and self._wanted(tp, active, generation):
                yield tp, self._to_batch(tp, run)
        for tp, record in self.scheduler.iterate(single):
            if self._wanted(tp, active, generation):
                yield tp, self._to_message(tp, record)

    def _wanted(self, tp: TP, active: set[TP] | None, generation: int) -> bool:
        return (
            self.flow_active
            and self.app.consumer_generation_id == generation
            and (active is None or tp in active or tp in self._buffered_partitions)
        )

    def _to_batch(self, tp: TP, run: Sequence[ConsumerRecord[bytes, bytes]]) -> ConsumerMessage:
        last = run[-1]
        value: Any = run
        return ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000, last.timestamp_type, None, None, value,
            None, 0, 0, tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    # Positions ------------------------------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Bring the workers to the journal's end and seek to what they have not handled. Idempotent in a generation."""
        positions = dict(await super().seek_to_committed())
        generation = self.app.consumer_generation_id
        await self._check_topics()
        partitions = self._assigned_partitions()
        await self._workers.assign(generation, partitions)
        wanted = {
            TP(name, partition): worker.position(topic) + 1
            for partition, worker in self._workers.workers.items()
            for topic, name in enumerate(self._names.inputs)
        }
        ends = await self.highwaters(*wanted) if wanted else {}
        await self._check_ends({tp: start for tp, start in wanted.items() if ends[tp] < start})
        wanted |= {
            TP(self._names.journal, partition): offset for partition, offset in self._tables.assign(partitions).items()
        }
        assigned = self.assignment()
        wanted = {tp: offset for tp, offset in wanted.items() if tp in assigned}
        await self.seek_wait(wanted)
        return positions | wanted

    async def _check_topics(self) -> None:
        """A topic that is deleted while we run has no partitions: the group would seem to be split."""
        assigned = {tp.topic for tp in self.assignment()}
        lacking = {*self._names.inputs, self._names.journal} - assigned
        if not assigned or not lacking:
            return
        gone = sorted(lacking - await self._broker.topics())
        if gone:
            raise self._fail(
                JournalError(f"The topic {', '.join(gone)} is gone: it was deleted while we ran. {REMEDY}.")
            )
        for partition, worker in self._workers.workers.items():
            known_end = worker.journal_position.offset
            first, end = await self._broker.bounds(self._names.journal, partition)
            if end < known_end:
                raise self._fail(cut_short(partition, first, end, known_end))

    def _assigned_partitions(self) -> set[int]:
        by_topic: dict[str, set[int]] = {
            name: {tp.partition for tp in self.assignment() if tp.topic == name}
            for name in (*self._names.inputs, self._names.journal)
        }
        one, *others = by_topic.values()
        if any(other != one for other in others):
            raise self._fail(
                PartitionError(
                    "The group's partitions are split between workers: "
                    + "; ".join(f"{name} {sorted(has)}" for name, has in by_topic.items())
                    + ". All members of the group must run the same version and settings."
                )
            )
        return one

    async def _check_ends(self, wanted: Mapping[TP, int]) -> None:
        """A topic that was created again begins at offset 0; its records would all look like duplicates."""
        for tp, start in wanted.items():
            _, end = await self._broker.bounds(tp.topic, tp.partition)
            if end < start:
                raise self._fail(
                    JournalError(
                        f"{tp.topic}[{tp.partition}] ends at {end}, but the journal holds inputs up to {start - 1}: "
                        f"the topic was deleted and created again. {REMEDY}."
                    )
                )

    def _fail(self, error: Exception) -> Exception:
        failed: Callable[[BaseException], None] = self.app.failed
        failed(error)
        return error

    # Commits and checks ---------------------------------------------------------------------------------------

    def _new_offset(self, tp: TP) -> int | None:
        worker = self._workers.workers.get(tp.partition)
        if tp.topic in self._names.inputs:
            self._forget_acks(tp)
            return None if worker is None else worker.position(self._names.inputs.index(tp.topic)) + 1
        if tp.topic == self._names.journal:
            self._forget_acks(tp)
            return self._tables.offset(tp.partition)
        offset: int | None = super()._new_offset(tp)
        return offset

    def _forget_acks(self, tp: TP) -> None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self._names.inputs and tp.topic != self._names.journal:
            await super()._add_gap(tp, offset_from, offset_to)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust would report an idle partition as hung. Readiness watches the journal's age instead."""


class Transport(driver.Transport):
    """Faust's transport with the consumer of this module."""

    Consumer = Consumer


async def check_delivery(app: Any, every_s: float, recovery_s_max: float) -> None:
    """Look every second at the inputs that exist and were not delivered; end a worker whose assignment never ends.

    A commit ahead of the journal, or a seek that came too late, leaves inputs that no later one would reveal.
    """
    idle_since_s: float | None = None
    loop = asyncio.get_running_loop()
    place = Place(app.conf.broker_session_timeout)
    while not app.should_stop:
        await app.sleep(every_s)
        names: Names = app.names
        assignment: Assignment = app.assignment
        metrics.OLDEST_UNJOURNALED.set(assignment.unjournaled_s_max())
        if (ended := _membership_ended(app)) is not None:
            app.failed(
                PartitionError(f"The worker's membership in the group {app.conf.id} ended: {ended!r}. Start it again.")
            )
            return
        if app.should_stop:
            return
        name = app.conf.consumer_group_instance_id
        if name and place.intrudes(getattr(_coordinator(app), "member_id", ""), loop.time()):
            app.failed(PartitionError(
                f"A worker named {name} works in the group {app.conf.id} already, and this one, started later, ends: "
                "give each worker a SLOTWISE_INSTANCE_ID of its own, or each host a name of its own."
            ))  # fmt: skip
            return
        try:
            assigned = {tp for tp in app.consumer.assignment() if tp.topic in names.inputs}
            current = not app.rebalancing and assignment.generation == app.consumer_generation_id
            working = {partition for partition, worker in assignment.workers.items() if current and worker.working}
            if not app.rebalancing and all(tp.partition in working for tp in assigned):
                idle_since_s = None
            elif idle_since_s is None:
                idle_since_s = loop.time()
            elif loop.time() - idle_since_s > recovery_s_max:
                app.failed(PartitionError(
                    f"A rebalance or a recovery has not ended for {recovery_s_max:.0f} s: the worker ends, so that it "
                    "can start afresh and another one can have its partitions."
                ))  # fmt: skip
                return
            known = [tp for tp in assigned if tp.partition in working]
            if known:
                for tp, end in (await app.consumer.highwaters(*known)).items():
                    worker = assignment.workers.get(tp.partition)
                    if worker is not None and worker.working:
                        # What came with a fetch is right on Tansu too, where asking gives the last batch's beginning.
                        worker.check_delivery(names.inputs.index(tp.topic), max(end, app.consumer.highwater(tp) or 0))
        except Exception as error:  # noqa: BLE001 - the broker is away; readiness reports that
            _log.debug("the check of delivery got no answer: %r", error)
            await app.sleep(CHECK_ERROR_PAUSE_S)


class Place:
    """A static member's place in its group. Kafka gives it to the last that joins under the name, and both join again.

    aiokafka takes it back without a word, again and again: the one that was there first, at its next heartbeat. But the
    broker gives a member a new id each time, and a place that no other member took is lost by silence only, which needs
    a session's time. A place that is lost much sooner, the first that a worker got, was another one's.
    """

    def __init__(self, session_s: float) -> None:
        #: Two heartbeats and a bit.
        self._early_s = session_s / 2
        self._member_id = ""
        self._got_s = 0.0
        self._places = 0

    def intrudes(self, member_id: str, now_s: float) -> bool:
        """Look at the membership; True: this worker took another one's place, who has taken it back."""
        if not member_id or member_id == self._member_id:
            return False
        if self._places:
            _log.warning("another member has had this worker's place in the group, or it was silent for too long")
        intrudes = self._places == 1 and now_s - self._got_s < self._early_s
        self._member_id, self._got_s, self._places = member_id, now_s, self._places + 1
        return intrudes


def _coordinator(app: Any) -> Any:
    thread = app.consumer._thread  # noqa: SLF001 - as far inside as the rest of this module
    return getattr(thread._consumer, "_coordinator", None)  # noqa: SLF001


def _membership_ended(app: Any) -> BaseException | None:
    """Return the error that ended aiokafka's group coordination: it is only logged, and no partition comes after it."""
    task = getattr(_coordinator(app), "_coordination_task", None)
    if task is None or app.should_stop or not task.done() or task.cancelled():
        return None
    error: BaseException | None = task.exception()
    return error


def topic_index(names: Names, topic: str) -> int:
    """Index of an input topic, by its name on the broker."""
    return INPUT_TOPICS.index(topic.removeprefix(names.prefix))
