"""A dispatcher on a wire that fails: what must arrive is sent again as it is, and what comes is taken all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from schemas.codec import read_event, write_event
from schemas.events import Outcome, SlotFreed, TaskFinished, TaskPending
from schemas.record import Record
from schemas.vocabulary import SLOT_FREED, TASK_FINISHED, TASK_PENDING, TASK_ROUTED
from streams.client import dispatcher as dispatching
from streams.client import ends as ending
from streams.client.conversation import SlotSpec, Start
from streams.client.dispatcher import Dispatcher
from streams.client.ends import Ends
from streams.client.fake import AsyncClient, Memory, MemoryWire
from streams.client.slots import AsyncSlot
from streams.client.wire import PAUSE, NotSent
from streams.core.router import Router
from streams.errors import SlotwiseError
from tests.support.builders import rulebook

HAIKU = SlotSpec(slot_id="haiku-1", pool="main", model="haiku")
AT = "2026-11-21T10:00:00.000Z"


class FailingWire(MemoryWire):
    """A wire whose next records get lost, before or behind the broker."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        #: Why the next records are not acknowledged, and whether the broker has them.
        self.faults: list[tuple[SlotwiseError, bool]] = []
        self.sent: list[Record] = []

    async def send(self, topic: str, record: Record) -> None:
        """Write it, or do what the next fault says."""
        self.sent.append(record)
        if self.faults:
            error, written = self.faults.pop(0)
            if written:
                await super().send(topic, record)
            raise error
        await super().send(topic, record)

    @property
    def reports(self) -> list[SlotFreed]:
        """What was sent."""
        found = [read_event(SLOT_FREED, one.key, one.value, one.headers) for one in self.sent]
        return [one for one in found if isinstance(one, SlotFreed)]


@asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Memory, FailingWire, Dispatcher]]:
    """Give an installation, a wire to it and a dispatcher without pauses."""
    monkeypatch.setattr(dispatching, "PAUSE", replace(PAUSE, first_s=0.0, longest_s=0.0))
    memory = Memory(rulebook())
    wire = FailingWire(memory)
    async with Dispatcher(wire) as dispatcher:
        yield memory, wire, dispatcher
    memory.close()


def submit(memory: Memory, task_id: str, pool: str = "main") -> None:
    """Send a task that any model can do."""
    task = TaskPending(task_id=task_id, pool=pool, at=AT)
    memory.write(TASK_PENDING, write_event(TASK_PENDING, task, ce_id=task_id, source="test", time_ms=0))


@pytest.mark.parametrize("written", [False, True])
async def test_an_announcement_is_sent_again_until_the_broker_has_it(
    monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    """As it was, with its identity: one that arrived twice is one, and the slot is in service once."""
    async with serving(monkeypatch) as (memory, wire, dispatcher):
        wire.faults = [(NotSent("away"), written)] * 3
        await dispatcher.announce(HAIKU)
        assert len({(record.value, dict(record.headers)["ce_id"]) for record in wire.sent}) == 1
        assert len(wire.sent) == 4
        assert dispatcher.trouble is None
        submit(memory, "t-1")
        action = await dispatcher.next()
        assert isinstance(action, Start)
        assert action.work.task.task_id == "t-1"


async def test_an_outcome_that_was_written_and_not_acknowledged_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one names a lease that has ended."""
    async with serving(monkeypatch) as (memory, wire, dispatcher):
        await dispatcher.announce(HAIKU)
        submit(memory, "t-1")
        action = await dispatcher.next()
        wire.faults = [(NotSent("away"), True)]
        await dispatcher.end(action.work, Outcome(task_id="t-1", status="success"))
        assert len(memory.records[TASK_FINISHED]) == 1
        submit(memory, "t-2")
        assert (await dispatcher.next()).work.task.lease == 2


async def test_a_heartbeat_that_is_lost_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one takes its place, with a later time."""
    async with serving(monkeypatch) as (memory, wire, dispatcher):
        await dispatcher.announce(replace(HAIKU, ttl_s=30.0))
        wire.faults = [(NotSent("away"), False)]
        troubles = []
        for _ in range(2):
            await memory.advance(10.5)
            troubles.append(dispatcher.trouble)
        assert troubles == ["away", None]
        assert [one.state for one in wire.reports] == ["free", "idle", "idle"]
        assert [one.at for one in wire.reports] == sorted({one.at for one in wire.reports})


@pytest.mark.parametrize("ttl_s", [None, 30.0])
async def test_a_router_that_has_forgotten_everything_learns_of_the_slots_by_their_heartbeats(
    monkeypatch: pytest.MonkeyPatch, ttl_s: float | None
) -> None:
    """Its leases begin at 1 again, and are none of before. What runs of before keeps its slot until it is over."""
    async with serving(monkeypatch) as (memory, wire, dispatcher):
        busy = replace(HAIKU, slot_id="busy-1", pool="busy", ttl_s=ttl_s)
        for slot in (replace(HAIKU, ttl_s=ttl_s), busy):
            await dispatcher.announce(slot)
        for number in range(3):
            submit(memory, f"before-{number}")
            work = (await dispatcher.next()).work
            await dispatcher.end(work, Outcome(task_id=work.task.task_id, status="success"))
        submit(memory, "long", pool="busy")
        long = (await dispatcher.next()).work
        memory._router = Router(0, rulebook())
        submit(memory, "after")
        submit(memory, "after-long", pool="busy")
        await memory.advance(60.5)
        action = await dispatcher.next()
        assert (action.work.task.task_id, action.work.task.lease) == ("after", 1)
        await dispatcher.end(long, Outcome(task_id="long", status="success"))
        assert (await dispatcher.next()).work.task.task_id == "after-long"
        assert len([one for one in wire.reports if one.state == "free" and one.lease is None]) == 2


async def test_a_broker_that_refuses_ends_the_dispatcher_with_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time makes a wrong password right; who asks for work hears of it, each time."""
    async with serving(monkeypatch) as (_, wire, dispatcher):
        wire.faults = [(SlotwiseError("The broker refuses the login."), False)]
        with pytest.raises(SlotwiseError, match="refuses the login"):
            await dispatcher.announce(HAIKU)
        for _ in range(2):
            with pytest.raises(SlotwiseError, match="refuses the login"):
                await dispatcher.next()


async def test_a_record_that_cannot_be_read_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning; what comes after it is taken."""
    async with serving(monkeypatch) as (memory, _, dispatcher):
        await dispatcher.announce(HAIKU)
        memory.records[TASK_ROUTED].append(b"damaged")
        submit(memory, "t-1")
        assert (await dispatcher.next()).work.task.task_id == "t-1"
        assert "A record is passed over" in caplog.text


async def test_work_that_was_cancelled_before_it_was_taken_is_never_handed_out() -> None:
    """The slot goes on with the next task."""
    async with AsyncClient() as client, AsyncSlot("haiku-1", pool="main", model="haiku", client=client) as slot:
        first = await client.submit(pool="main", task_id="t-1")
        await client.memory.advance(0.001)
        await client.cancel(first)
        await client.memory.advance(0.001)
        await client.submit(pool="main", task_id="t-2")
        work = await slot.next(timeout=5)
        assert work is not None
        assert work.task_id == "t-2"
        await work.succeed()
        assert (await client.wait(first, timeout=5)).status == "cancelled"


async def test_work_that_was_not_reported_has_failed_when_the_next_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A program that forgets it does not stand still for the length of a lease."""
    async with AsyncClient() as client, AsyncSlot("haiku-1", pool="main", model="haiku", client=client) as slot:
        task = await client.submit(pool="main", on_failure="drop")
        assert await slot.next(timeout=5) is not None
        assert await slot.next(timeout=0.01) is None
        end = await client.wait(task, timeout=5)
        assert (end.status, "not_reported" in end.reason) == ("dropped", True)
        assert "was not reported: it counts as failed" in caplog.text


async def test_a_cancelled_program_gives_its_work_up() -> None:
    """Its event loop ends: the task is pending again at once, and no failure of the work."""
    async with AsyncClient() as client, AsyncSlot("haiku-1", pool="main", model="haiku", client=client) as slot:
        await client.submit(pool="main", task_id="t-1")
        work = await slot.next(timeout=5)
        assert work is not None

        async def program() -> None:
            async with work:
                await asyncio.sleep(3600)

        running = asyncio.create_task(program())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await client.memory.advance(6)
        again = await slot.next(timeout=5)
        assert again is not None
        assert (again.task_id, again.task.attempt) == ("t-1", 2)
        await again.succeed()


async def test_an_end_that_was_forgotten_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits late finds it in the topic."""
    monkeypatch.setattr(ending, "REMEMBERED_MAX", 2)
    memory = Memory(rulebook())
    ends = Ends(MemoryWire(memory))
    await ends.start()

    def finish(task_id: str) -> None:
        end = TaskFinished(task_id=task_id, pool="main", status="success", attempts=1, at=AT)
        memory.records[TASK_FINISHED].append(
            write_event(TASK_FINISHED, end, ce_id=task_id, source="test", time_ms=0).value
        )

    async def wait(task_id: str) -> TaskFinished:
        async with asyncio.timeout(5):
            return await ends.wait("main", task_id, lambda _: True, look_back=False)

    for n in range(4):
        finish(f"t-{n}")
    assert (await wait("t-3")).task_id == "t-3"
    assert (await wait("t-0")).task_id == "t-0"
    await ends.stop()
