"""The consumer delivers batches, drops what a rebalance overtakes, and starts where the journal says."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.kafka.transport import REFILL_S, Batches, ConsumerThread, check_delivery, topic_index
from streams.partition.memory import MemoryRecord
from streams.partition.ports import JournalError, PartitionError
from tests.support.faust_rig import FaustRig, StubThread, faust_rig, fetched

CHANGELOG = TP("slotwise-utilisation-changelog", 0)


def records(*offsets: int) -> list[MemoryRecord]:
    """Records at these offsets."""
    return [MemoryRecord(offset=offset, timestamp=1_000 + offset, key=b"k", value=b"v") for offset in offsets]


def offsets(found: list[tuple[TP, Any]]) -> list[tuple[TP, list[int]]]:
    """Partition and offsets of each message."""
    return [
        (tp, [one.offset for one in message.value] if isinstance(message.value, list) else [message.offset])
        for tp, message in found
    ]


# Batches --------------------------------------------------------------------------------------------------------------


async def test_a_fetch_of_an_input_partition_is_one_message() -> None:
    """Unread, with the last offset and the generation it was fetched in; changelogs come record by record."""
    async with faust_rig() as rig:
        rig.assign(0, 1, more=[CHANGELOG])
        tasks, journal = rig.tp(0, 0), rig.tp(3, 1)
        found = await rig.fetch(
            {
                tasks: fetched(tasks, *records(4, 5, 6)),
                journal: fetched(journal, *records(9)),
                CHANGELOG: fetched(CHANGELOG, *records(0, 1)),
            }
        )
        assert offsets(found) == [(tasks, [4, 5, 6]), (journal, [9]), (CHANGELOG, [0]), (CHANGELOG, [1])]
        (_, batch), *_ = found
        assert (batch.offset, batch.timestamp, batch.generation_id, batch.key) == (6, 1.006, 1, None)
        assert Batches().loads_value(rig.app, batch) is batch.value


async def test_an_empty_fetch_is_no_message() -> None:
    """Of a partition or of all."""
    async with faust_rig() as rig:
        rig.assign(0)
        assert await rig.fetch({}, {rig.tp(0, 0): []}) == []


async def test_a_header_name_that_is_no_text_reaches_the_worker() -> None:
    """The record is refused or handled like any other; it does not hold up its partition."""
    async with faust_rig() as rig:
        rig.assign(0)
        await rig.consumer.seek_to_committed()
        tp, world = rig.tp(0, 0), rig.worlds[0]
        world.task("t-0")
        (task,) = world.inputs.logs[0].records
        strange = MemoryRecord(offset=1, timestamp=task.timestamp, key=b"main", value=b"x", headers=(("\udcff", b"v"),))
        ((_, message),) = await rig.fetch({tp: fetched(tp, task, strange)})
        rig.app.assignment.take(message.generation_id, tp.partition, 0, message.value, lambda: None)
        await world.handled(rig.app.assignment.workers[0], "task.pending", 1)
    (dead_letter,) = world.dead_letters.records
    assert dead_letter.raw.headers == (("\udcff", b"v"),)


# Rebalances -----------------------------------------------------------------------------------------------------------


async def test_a_generation_that_changes_during_a_delivery_ends_it() -> None:
    """What was not delivered yet is fetched again by the worker that has the partition now."""
    async with faust_rig() as rig:
        rig.assign(0, 1)
        one, other = rig.tp(0, 0), rig.tp(0, 1)
        rig.thread.fetches.append({one: fetched(one, *records(0)), other: fetched(other, *records(0))})
        seen = []
        async for tp, _ in rig.consumer.getmany(1.0):
            seen.append(tp)
            rig.app.consumer_generation_id = 2
        assert seen == [one]


async def test_what_was_fetched_while_the_flow_stopped_is_dropped() -> None:
    """A rebalance ends with a seek, after which it is fetched again."""
    async with faust_rig() as rig:
        rig.assign(0)
        tp = rig.tp(0, 0)

        def stopping(_: StubThread) -> Any:
            rig.consumer.stop_flow()
            return {tp: fetched(tp, *records(0))}

        assert await rig.fetch(stopping) == []


async def test_a_record_of_a_partition_that_went_away_is_dropped() -> None:
    """It was fetched before the move."""
    async with faust_rig() as rig:
        rig.assign(0)
        gone = rig.tp(0, 1)
        assert await rig.fetch({gone: fetched(gone, *records(0))}) == []


async def test_a_full_inbox_pauses_its_partition_and_the_others_go_on() -> None:
    """What was on its way of it is still delivered; fetches get short, so that it comes back at once."""
    async with faust_rig() as rig:
        rig.assign(0)
        full, other = rig.tp(0, 0), rig.tp(1, 0)
        await rig.fetch({})
        rig.consumer.on_buffer_full(full)
        found = await rig.fetch({full: fetched(full, *records(0)), other: fetched(other, *records(0))})
        assert offsets(found) == [(full, [0]), (other, [0])]
        rig.consumer.on_buffer_drop(full)
        await rig.fetch({})
        first, paused, again = rig.thread.asked
        assert full in first[0]
        assert (full in paused[0], other in paused[0], paused[1]) == (False, True, REFILL_S)
        assert (full in again[0], again[1]) == (True, 1.0)


# Positions ------------------------------------------------------------------------------------------------------------


async def test_positions_come_from_the_journal_and_not_from_commits() -> None:
    """Inputs go on behind the last journaled one, the tables where they were projected to, once a generation."""
    async with faust_rig() as rig:
        world = rig.worlds[0]
        async with world.worker() as worker:
            await world.handle_tasks(worker, 3)
        await rig.tables.gather(0, world.journal.log.records)
        rig.tables.assign({0})
        await rig.tables.project(0, world.journal.log.records)
        rig.assign(0)
        rig.thread.committed = dict.fromkeys(rig.thread.assigned, 99) | {CHANGELOG: 7}
        rig.thread.ends = {rig.tp(0, 0): 3}
        positions = await rig.consumer.seek_to_committed()
        want = {rig.tp(0, 0): 3, rig.tp(1, 0): 0, rig.tp(2, 0): 0, rig.tp(3, 0): len(world.journal.log.records)}
        assert rig.thread.sought == [want]
        assert positions == want | {CHANGELOG: 7}
        workers = dict(rig.app.assignment.workers)
        assert rig.app.assignment.generation == 1
        await rig.consumer.seek_to_committed()
        assert rig.app.assignment.workers == workers
        assert rig.failures == []


async def test_inputs_that_are_split_between_members_end_the_worker() -> None:
    """A pool's topics would have two writers."""
    async with faust_rig() as rig:
        rig.assign(0, more=[rig.tp(1, 1)])
        with pytest.raises(PartitionError, match="split between workers"):
            await rig.consumer.seek_to_committed()
        assert [type(one) for one in rig.failures] == [PartitionError]


async def test_a_topic_that_was_created_again_ends_the_worker() -> None:
    """Its records would look like duplicates; that the consumer knows no better yet is no reason."""
    async with faust_rig() as rig:
        world = rig.worlds[0]
        async with world.worker() as worker:
            await world.handle_tasks(worker, 3)
        rig.assign(0)
        rig.bounds = {rig.tp(0, 0): (0, 3)}
        await rig.consumer.seek_to_committed()
        assert rig.failures == []
        rig.bounds = {rig.tp(0, 0): (0, 1)}
        with pytest.raises(
            JournalError, match=r"x\.task\.pending\[0\] ends at 1, but the journal holds inputs up to 2"
        ):
            await rig.consumer.seek_to_committed()
        assert len(rig.failures) == 1


async def test_what_is_committed_is_what_is_journaled() -> None:
    """For dashboards: acks do not count, and none are kept."""
    async with faust_rig() as rig:
        rig.assign(0)
        tp = rig.tp(0, 0)
        assert rig.consumer._new_offset(tp) is None, "there is no worker yet"
        await rig.consumer.seek_to_committed()
        rig.consumer._acked[tp].extend([0, 1, 2])
        rig.consumer._acked_index[tp].update([0, 1, 2])
        assert rig.consumer._new_offset(tp) == 0
        await rig.worlds[0].handle_tasks(rig.app.assignment.workers[0], 2)
        assert rig.consumer._new_offset(tp) == 2
        assert (rig.consumer._acked[tp], rig.consumer._acked_index[tp]) == ([], set())
        await rig.tables.project(0, rig.worlds[0].journal.log.records)
        assert rig.consumer._new_offset(rig.tp(3, 0)) == rig.worlds[0].journal.log.end


def test_a_topic_is_known_by_its_name_with_the_prefix() -> None:
    """Index into the input topics."""
    names: Any = SimpleNamespace(prefix="x.")
    assert [topic_index(names, f"x.{topic}") for topic in ("task.pending", "slot.freed", "fleet.control")] == [0, 1, 2]


# The thread -----------------------------------------------------------------------------------------------------------


class StubFetcher:
    """Aiokafka's consumer, as far as a fetch touches it."""

    def __init__(self, rig: FaustRig, found: dict[TP, list[Any]], *, stops: bool = False) -> None:
        self._closed = False
        self._fetcher = self
        self._subscriptions = SimpleNamespace(fetch_context=nullcontext)
        self._rig, self._found, self._stops = rig, found, stops
        self.asked: list[set[TP]] = []
        self.sought: list[tuple[TP, int]] = []

    async def fetched_records(self, active: set[TP], **_: Any) -> dict[TP, list[Any]]:
        """Give the records; the flow may stop meanwhile."""
        self.asked.append(active)
        if self._stops:
            self._rig.consumer.stop_flow()
        return self._found

    def assignment(self) -> set[TP]:
        """Partition 0 only."""
        return {self._rig.tp(0, 0)}

    def seek(self, tp: TP, offset: int) -> None:
        """Note where to."""
        self.sought.append((tp, offset))


async def test_a_fetch_that_a_stop_overtook_is_put_back() -> None:
    """Else the records would be skipped: the position had moved already."""
    async with faust_rig() as rig:
        kept, gone = rig.tp(0, 0), rig.tp(0, 1)
        thread: ConsumerThread = rig.consumer._new_consumer_thread()
        active = {kept, gone}
        found = {kept: fetched(kept, *records(5, 6)), gone: fetched(gone, *records(8))}
        calm, stopped = StubFetcher(rig, found), StubFetcher(rig, found, stops=True)
        assert await thread._fetch_records(calm, active) == found
        assert calm.sought == []
        assert await thread._fetch_records(stopped, active) == {}
        assert stopped.sought == [(kept, 5)]
        assert calm.asked[0] is not active, "the set changes while a fetch waits"


async def test_without_an_active_partition_nothing_is_fetched() -> None:
    """Aiokafka would fetch from all."""
    async with faust_rig() as rig:
        thread: ConsumerThread = rig.consumer._new_consumer_thread()
        stub = StubFetcher(rig, {})
        assert await thread._fetch_records(stub, set()) == {}
        assert stub.asked == []


# The check of delivery ------------------------------------------------------------------------------------------------


class Checked:
    """An app as the check sees it, for a number of rounds."""

    def __init__(self, rig: FaustRig, rounds: int) -> None:
        self.names, self.assignment, self.consumer = rig.names, rig.app.assignment, rig.consumer
        self.conf = SimpleNamespace(id="slotwise", broker_session_timeout=6.0, consumer_group_instance_id=None)
        self.rebalancing = False
        self.consumer_generation_id = 1
        self.failures: list[BaseException] = []
        self.rounds = rounds

    @property
    def should_stop(self) -> bool:
        """Whether the rounds are over, or it failed."""
        return self.rounds <= 0 or bool(self.failures)

    async def sleep(self, _: float) -> None:
        """Let others run."""
        self.rounds -= 1
        await asyncio.sleep(0)

    def failed(self, error: BaseException) -> None:
        """Note it."""
        self.failures.append(error)


def with_task(rig: FaustRig, task: object = None) -> None:
    """Give the stub thread a coordinator with this task."""
    vars(rig.thread)["_consumer"] = SimpleNamespace(_coordinator=SimpleNamespace(_coordination_task=task))


async def test_an_input_that_was_never_delivered_is_found_by_the_end_of_its_topic() -> None:
    """Two checks in a row, and it is fetched."""
    async with faust_rig() as rig:
        with_task(rig)
        rig.assign(0)
        await rig.consumer.seek_to_committed()
        rig.worlds[0].task("t-0")
        rig.thread.ends = {rig.tp(0, 0): 1}
        app = Checked(rig, 4)
        await check_delivery(app, 0.0, 10.0)
        await rig.worlds[0].handled(rig.app.assignment.workers[0], "task.pending", 0)
        assert app.failures == []


async def test_a_membership_that_ended_ends_the_worker() -> None:
    """Aiokafka only logs it, and no partition would ever come."""
    async with faust_rig() as rig:
        ended: asyncio.Future[None] = asyncio.Future()
        ended.set_exception(RuntimeError("fenced"))
        with_task(rig, ended)
        app = Checked(rig, 5)
        await check_delivery(app, 0.0, 10.0)
        (failure,) = app.failures
        assert "membership in the group slotwise ended" in str(failure)


async def test_a_rebalance_without_end_ends_the_worker() -> None:
    """It can start again, and another worker can have its partitions."""
    async with faust_rig() as rig:
        with_task(rig)
        app = Checked(rig, 5)
        app.rebalancing = True
        await check_delivery(app, 0.0, -1.0)
        (failure,) = app.failures
        assert "A rebalance or a recovery has not ended" in str(failure)


async def test_a_broker_that_does_not_answer_is_no_failure() -> None:
    """It is asked again later."""
    async with faust_rig() as rig:
        with_task(rig)
        rig.assign(0)
        await rig.consumer.seek_to_committed()

        async def away(*_: TP) -> Any:
            raise ConnectionError("away")

        vars(rig.thread)["highwaters"] = away
        app = Checked(rig, 4)
        await check_delivery(app, 0.0, 10.0)
        assert app.failures == []
