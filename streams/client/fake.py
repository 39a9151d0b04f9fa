"""An installation in memory: the real router behind a wire, for unit tests of programs, without a broker.

Records pass the same codec, the router decides by the shipped policy and catalogue (or by files of one's own), and its
outputs are those of the publisher. Time is that of this machine, and can be moved on. It keeps everything it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final

from msgspec import Struct

from schemas.codec import read_event
from schemas.decision import Step
from schemas.event_id import event_id_of
from schemas.events import TaskPending, Tick
from schemas.input import Input, Unreadable
from schemas.record import Record
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, OUTPUT_TOPICS, Millis, from_millis
from streams.client.blocking import Client as BlockingClient
from streams.client.loop import run
from streams.client.tasks import AsyncClient as RealAsyncClient
from streams.client.wire import Place, Places, Wire
from streams.clock import SystemClock
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.partition.outputs import output_records
from streams.settings import load
from streams.shipped import file_rulebook

#: Turns of the event loop in which programs do what follows from a record, as nothing in memory waits.
TURNS: Final = 50


class DeadLetter(Struct, frozen=True):
    """A record that was refused."""

    topic: str
    value: bytes
    reason: str


class Memory:
    """One partition with its topics, in the event loop of who uses it."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._router = Router(0, rulebook)
        self._clock = SystemClock()
        #: How far time was moved on.
        self._ahead_ms = 0
        self._now_ms = Millis(0)
        #: Values of each topic, inputs among them.
        self.records: dict[str, list[bytes]] = {topic: [] for topic in (*INPUT_TOPICS, *OUTPUT_TOPICS)}
        self.dead_letters: list[DeadLetter] = []
        #: The next record, or another time.
        self._changed = asyncio.Event()
        #: Until when programs sleep.
        self._sleeping: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def now_ms(self) -> Millis:
        """Return the time, which never goes back."""
        self._now_ms = Millis(max(self._now_ms, self._clock.now_ms() + self._ahead_ms))
        return self._now_ms

    def write(self, topic: str, record: Record) -> None:
        """Take a record of an input topic, and let the router act on it."""
        offset = len(self.records[topic])
        self.records[topic].append(record.value)
        event = read_event(topic, record.key, record.value, record.headers)
        if isinstance(event, Unreadable):
            self.dead_letters.append(DeadLetter(topic, record.value, event.reason))
        event_id = event_id_of(topic, record.headers)
        self._handle([Input(INPUT_TOPICS.index(topic), offset, self.now_ms(), event, event_id=event_id)])

    async def advance(self, seconds: float) -> None:
        """Move time on, through everything that falls due on the way, in order."""
        until_ms = self.now_ms() + round(seconds * 1000)
        while (now_ms := self.now_ms()) < until_ms:
            due_ms = min((at_ms for at_ms in (*self._sleeping, self._router.due_ms()) if at_ms is not None),
                         default=until_ms)  # fmt: skip
            self._ahead_ms += max(0, min(max(due_ms, now_ms + 1), until_ms) - now_ms)
            self._tick()
            self._wake()
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def sleep_until(self, at_ms: int) -> None:
        """Return when it is that late."""
        self._sleeping.append(at_ms)
        try:
            while (left_ms := at_ms - self.now_ms()) > 0:
                await self.change(left_ms / 1000)
        finally:
            self._sleeping.remove(at_ms)

    async def change(self, seconds: float | None = None) -> None:
        """Return at the next record or another time, after so many seconds at the latest."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Let time stand still."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _handle(self, inputs: list[Input]) -> None:
        step = self._router.handle(inputs)
        events = self._events(step)
        self._router.apply(step)
        for refused in step.rejected:
            topic = INPUT_TOPICS[refused.topic]
            self.dead_letters.append(DeadLetter(topic, self.records[topic][refused.offset], refused.reason))
        for topic, record in output_records(step, events):
            self.records.setdefault(topic, []).append(record.value)
        self._wake()
        self._schedule()

    def _schedule(self) -> None:
        """Look at what is due in the router when it is."""
        self.close()
        due_ms = self._router.due_ms()
        if due_ms is not None:
            delay_s = max(0, due_ms - self.now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        """Let the router act on what is due."""
        due_ms, now_ms = self._router.due_ms(), self.now_ms()
        if due_ms is not None and due_ms <= now_ms:
            offset = len(self.records[FLEET_CONTROL])
            self.records[FLEET_CONTROL].append(b"")
            tick = Tick(control_id=f"tick-{offset}", at=from_millis(now_ms), by="fake")
            self._handle([Input(INPUT_TOPICS.index(FLEET_CONTROL), offset, now_ms, tick)])
        else:
            self._schedule()

    def _events(self, step: Step) -> dict[tuple[str, str, int | None], TaskPending]:
        """Return what the producers of the step's tasks sent, which its outputs hand on."""
        rows = [*step.tasks, *step.dead]
        rows += [row for one in step.decisions if (row := self._router.task(one.pool, one.task_id)) is not None]
        return {(row.task.pool, row.task.task_id, row.accepted_seq): row.task for row in rows}


class MemoryWire:
    """A connection to it: a `Wire`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to disconnect."""

    def now_ms(self) -> Millis:
        """Return its time."""
        return self._memory.now_ms()

    async def sleep_until(self, at_ms: int) -> None:
        """Wait by its time."""
        await self._memory.sleep_until(at_ms)

    async def ends(self, topics: Collection[str]) -> Places:
        """Count."""
        return {Place(topic, 0): len(self._memory.records[topic]) for topic in topics}

    async def past(self, topic: str, pool: str) -> AsyncGenerator[bytes | None, None]:  # noqa: ARG002 - one partition
        """Give what is there."""
        for value in list(self._memory.records[topic]):
            yield value

    async def read(self, places: Places) -> AsyncGenerator[tuple[str, bytes | None], None]:
        """Give what comes."""
        offsets = {place.topic: offset for place, offset in places.items()}
        while True:
            for topic, offset in offsets.items():
                records = self._memory.records[topic]
                if offset < len(records):
                    offsets[topic] = offset + 1
                    yield topic, records[offset]
                    break
            else:
                await self._memory.change()

    async def send(self, topic: str, record: Record) -> None:
        """Write at once."""
        self._memory.write(topic, record)


class AsyncClient(RealAsyncClient):
    """A client, and the installation in memory that it talks to; give it to slots as `client`.

    `policy` and `catalog` are files of one's own, as the settings name them; without them it has the shipped ones.
    """

    def __init__(self, **settings: object) -> None:
        rulebook = file_rulebook(load({}, settings))
        self._memory: Memory | None = None

        def connect() -> Wire:
            # Here, because it belongs to the event loop that runs now.
            self._memory = self._memory or Memory(rulebook)
            return MemoryWire(self._memory)

        self.connect: Callable[[], Wire] = connect
        self._wire = self._ends = None

    async def stop(self) -> None:
        """Disconnect, and let time stand still."""
        await super().stop()
        self.memory.close()

    @property
    def memory(self) -> Memory:
        """The installation, once it was started."""
        if self._memory is None:
            raise RuntimeError("The fake is not started: use it within its `with` block, or call start() before.")
        return self._memory

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The records that the router refused."""
        return self.memory.dead_letters

    async def advance(self, seconds: float) -> None:
        """Move time on: leases end, renewals and heartbeats are due, tasks are tried again."""
        await self.memory.advance(seconds)


class Client(BlockingClient):
    """The same for programs without an event loop."""

    client: AsyncClient

    def __init__(self, **settings: object) -> None:
        self.client = AsyncClient(**settings)

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The records that the router refused."""
        return self.client.dead_letters

    def advance(self, seconds: float) -> None:
        """Move time on: leases end, renewals and heartbeats are due, tasks are tried again."""
        run(self.client.advance(seconds))
