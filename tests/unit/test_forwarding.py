"""A record on a partition that is not its key's: forwarded once, in order, as it was sent, and journaled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schemas.event_id import event_id_of
from schemas.events import ModelDrained, SlotFreed, TaskPending
from schemas.forwarding import FORWARDED, HEADERS_BYTES_MAX
from schemas.input import Misplaced, Unreadable
from schemas.vocabulary import INPUT_TOPICS, SLOT_FREED, from_millis
from streams import metrics
from streams.partition.memory import Log, MemoryForwards, MemoryRecord
from streams.partition.ports import Forward, PartitionError
from streams.partition.received import RecordReader
from tests.support.builders import START_MS, task
from tests.support.partition_world import World, lost, until

TASK = b'{"task_id":"t-1","pool":"elsewhere","at":"2026-11-21T10:00:00Z"}'


def home(key: bytes) -> int:
    """Pools of partition 0, which is ours, and one of partition 3."""
    return 3 if key == b"elsewhere" else 0


def world() -> World:
    """A world in which one pool is of partition 3."""
    made = World()
    made.home = home
    return made


@pytest.mark.rule("amend.50", "wire.key")
async def test_a_record_of_another_partition_is_there_in_order_as_it_was_sent() -> None:
    """Key, value, time and headers; one more header says where it was. Here nothing comes of it."""
    there, at = world(), from_millis(START_MS)
    async with there.worker() as worker:
        there.send("task.pending", task("t-0", pool="elsewhere"), headers=(("ce_id", b"e-0"), ("x", b"\xff")))
        there.task("t-1")
        there.clock.advance(1)
        there.task("t-2", pool="elsewhere")
        there.send("slot.freed", SlotFreed(slot_id="s-1", pool="elsewhere", at=at, model="haiku"))
        there.send("fleet.control", ModelDrained(control_id="c", at=at, by="ops", model="opus", pool="elsewhere"))
        for name in INPUT_TOPICS:
            await there.pass_through(worker, name)
    sent, came = there.inputs.logs, there.elsewhere[3]
    for topic, offsets in enumerate(([0, 2], [0], [0])):
        originals = [sent[topic].records[offset] for offset in offsets]
        assert [(one.key, one.value, one.timestamp) for one in came[topic].records] == [
            (one.key, one.value, one.timestamp) for one in originals
        ]
        assert [one.headers for one in came[topic].records] == [
            (*one.headers, (FORWARDED, b"0@%d" % one.offset)) for one in originals
        ]
    assert [one.key for one in came[0].records] == [b"elsewhere"] * 2
    journaled = [(one.topic, one.offset, one.to) for step in there.steps for one in step.forwarded]
    assert sorted(journaled) == [(0, 0, 3), (0, 2, 3), (1, 0, 3), (2, 0, 3)]
    found = there.sound()
    assert found.rejected == {}
    assert {one["pool"] for one in found.decisions} == {"main"}
    assert there.verified().difference is None


async def test_the_id_of_an_event_is_the_same_after_it_was_forwarded() -> None:
    """By it the home partition recognises one that comes twice."""
    headers = (("ce_id", b"e-1"), ("ce_source", b"me"))
    logs = {3: [Log() for _ in range(3)]}
    raw = MemoryRecord(offset=5, timestamp=1, key=b"elsewhere", value=b"{}", headers=headers)
    await MemoryForwards(0, logs).write([Forward(1, raw, 3)])
    (record,) = logs[3][1].records
    assert event_id_of(SLOT_FREED, record.headers) == event_id_of(SLOT_FREED, headers) is not None


class Watched:
    """Forwards that note how many steps the journal has when a record goes; the first writes may fail."""

    def __init__(self, world: World, failures: int = 0) -> None:
        self._world, self._failures = world, failures
        self._own = MemoryForwards(0, world.elsewhere)
        self.steps_before: list[int] = []

    async def write(self, forwards: Sequence[Forward]) -> None:
        """Fail, or write."""
        if self._failures:
            self._failures -= 1
            raise ConnectionError("the broker is away")
        self.steps_before.append(len(self._world.journal.log.records))
        await self._own.write(forwards)


@pytest.mark.rule("amend.50")
async def test_a_record_is_forwarded_before_the_step_says_so_and_once_in_spite_of_failures() -> None:
    """A step that cannot be written is written again; what it forwards is there already."""
    there = world()
    there.forwards = watched = Watched(there, failures=2)
    before = metrics.FORWARDED.labels("task.pending")._value.get()
    async with there.worker() as worker:
        there.task("t-0", pool="elsewhere")
        there.journal.faults.extend([lost, lost])
        await there.pass_through(worker, "task.pending")
    assert watched.steps_before == [0]
    assert len(there.elsewhere[3][0].records) == 1
    assert metrics.FORWARDED.labels("task.pending")._value.get() == before + 1


@pytest.mark.rule("amend.50")
async def test_after_a_crash_between_forward_and_step_it_is_forwarded_again() -> None:
    """At least once: the record is handled when its step is durable, and not before."""
    there = world()
    there.task("t-0", pool="elsewhere")

    class Killed(MemoryForwards):
        """Writes, and the process is gone."""

        async def write(self, forwards: Sequence[Forward]) -> None:
            """Write, then die."""
            await super().write(forwards)
            raise PartitionError("killed")

    there.forwards = Killed(0, there.elsewhere)
    async with there.worker() as worker:
        there.deliver(worker, "task.pending")
        await until(lambda: not worker.working)
    assert there.journal.log.records == []
    there.forwards = MemoryForwards(0, there.elsewhere)
    async with there.worker() as worker:
        await there.pass_through(worker, "task.pending")
    assert [one.value for one in there.elsewhere[3][0].records] == [there.inputs.logs[0].records[0].value] * 2
    assert [len(step.forwarded) for step in there.steps] == [1]
    # The partition that it belongs to takes it once.
    home_world = World()
    for record in there.elsewhere[3][0].records:
        home_world.inputs.logs[0].append(
            record.value, key=record.key, headers=record.headers, timestamp_ms=record.timestamp
        )
    async with home_world.worker() as worker:
        await home_world.pass_through(worker, "task.pending")
    assert [row.task.task_id for step in home_world.steps for row in step.tasks] == ["t-0"]
    assert home_world.sound().rejected == {}


@pytest.mark.rule("amend.50")
@pytest.mark.parametrize(
    ("headers", "want"),
    [
        pytest.param((), None, id="as sent"),
        pytest.param((("slotwise.forwarder", b"x"),), None, id="another header"),
        pytest.param((("x", b"v" * (HEADERS_BYTES_MAX - 1)),), None, id="headers as large as may be"),
        pytest.param(((FORWARDED, b"1@7"),), "it was forwarded once already, from '1@7'", id="forwarded before"),
        pytest.param((("x", b"v" * HEADERS_BYTES_MAX),), "16385 bytes of headers", id="headers too large"),
    ],
)
def test_a_record_is_forwarded_at_most_once(headers: tuple[tuple[str, bytes], ...], want: str | None) -> None:
    """On a wrong partition again it is a dead letter, or it would go in circles. At home the mark says nothing."""
    reader = RecordReader(0, home)
    raw = MemoryRecord(offset=4, timestamp=1, key=b"elsewhere", value=TASK, headers=headers)
    event = reader.read(0, raw).event
    if want is None:
        assert event == Misplaced(3)
    else:
        assert isinstance(event, Unreadable)
        assert want in event.reason
        assert "belongs to partition 3" in event.reason
    at_home = RecordReader(3, home).read(0, raw).event
    assert isinstance(at_home, TaskPending)


def test_what_cannot_be_read_is_refused_where_its_sender_put_it() -> None:
    """Not carried on; an event without a key is of every partition."""
    reader = RecordReader(0, home)
    control = b'{"kind":"model.drained","control_id":"c","at":"2026-11-21T10:00:00Z","by":"ops","model":"opus"}'
    refused = reader.read(0, MemoryRecord(offset=0, timestamp=1, key=b"elsewhere", value=b"{"))
    assert isinstance(refused.event, Unreadable)
    for key in (None, b""):
        assert isinstance(
            reader.read(2, MemoryRecord(offset=0, timestamp=1, key=key, value=control)).event, ModelDrained
        )
