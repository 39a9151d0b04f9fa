"""Sends recorded inputs to `routing.replay` at a chosen speed, and decides about what comes there, beside all workers.

The two know nothing of each other but the topic. The one that decides has state of its own, in memory, from where it
began to listen; it is in no group, commits no offset, and writes steps to `decision.replay` and nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Step
from schemas.events import SlotFreed, TaskPending
from schemas.input import Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import Millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.kafka.client import Broker
from streams.replay.continued import equip, is_of_a_slot
from streams.replay.recording import Key, Occurrence, Recording
from streams.replay.sent import End, end_record, occurrence_of, outgoing, record_of
from streams.replay.side import Course, Side, side_of
from streams.replay.work_model import WorkModel
from streams.replay.world import World
from streams.settings import Settings
from streams.topics import create_replay_topics, home_of, names

#: Steps that may be on their way at a time.
_UNCONFIRMED_MAX: Final = 500


class Listened(Struct, frozen=True, kw_only=True):
    """What came of what was listened to."""

    #: Name of the run, which its steps have as the id of their journal.
    run: str
    records: int
    #: Records that are no event, and events that were refused: how many, and the first reason.
    refused: int
    first_refusal: str | None
    policy: str
    catalog: str
    #: Slots by model in every pool in place of those that are announced; None: those.
    fleet: dict[str, int] | None
    side: Side


class Window(Struct, frozen=True):
    """What is sent: in the order of time, for the partition that has what concerns all pools."""

    partition: int
    occurrences: Iterable[Occurrence]
    end_ms: int

    @classmethod
    def of(cls, recording: Recording) -> Window:
        """Return what a recorded window sends."""
        return cls(recording.partition, outgoing(recording), recording.steps[-1].now_ms if recording.steps else 0)


async def send(
    settings: Settings,
    windows: Sequence[Window],
    *,
    run: str,
    speed: float,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Send windows at `speed` recorded seconds a second, then an end to every partition; return how many records.

    Raises:
        TopicsError: the topics are not there and cannot be made.
        KafkaError: the broker does not answer.
    """
    await asyncio.to_thread(create_replay_topics, settings)
    topic, home = names(settings).replay, home_of(settings.partitions)
    streams = [[(one.at_ms, of.partition, one) for one in of.occurrences] for of in windows]
    async with Broker(settings) as broker:
        count, begin_ms, begin_s = 0, None, time.monotonic()
        end_ms = max((one.end_ms for one in windows), default=0)
        sent = []
        for at_ms, partition, one in heapq.merge(*streams, key=lambda coming: coming[0]):
            begin_ms = at_ms if begin_ms is None else begin_ms
            wait_s = begin_s + (at_ms - begin_ms) / 1000 / speed - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            record = record_of(one, f"{run}-{count}")
            place = home(record.key) if record.key is not None else partition % settings.partitions
            sent.append(await broker.send(topic, place, record.value, key=record.key, headers=record.headers))
            count += 1
            progress(count)
        for partition in range(settings.partitions):
            end = end_record(f"{run}-end-{partition}", end_ms)
            sent.append(await broker.send(topic, partition, end.value, headers=end.headers))
        await asyncio.gather(*sent)
        return count


class Listener:
    """Decides about what comes to `routing.replay`, by rules of its own."""

    def __init__(
        self,
        settings: Settings,
        rulebook: Rulebook,
        work: WorkModel,
        *,
        run: str,
        starved_after_s: float = 3_600.0,
        fleet: dict[str, int] | None = None,
    ) -> None:
        """`work` says how long work takes; `run` names the steps; `fleet` are the slots of each pool, by model."""
        self._starved_after_s = starved_after_s
        self._settings = settings
        self._rulebook = rulebook
        self._run = run
        self._fleet = fleet
        #: Pools that have the slots of the fleet.
        self._equipped: set[str] = set()
        self._worlds = {
            number: World(Router(number, rulebook, mode="replay"), work) for number in range(settings.partitions)
        }
        self._steps: dict[int, list[Step]] = {number: [] for number in self._worlds}
        #: Time of the last record, by partition.
        self._last_ms: dict[int, int] = {}
        self._evs: dict[Key, float | None] = {}
        self._records = 0
        self._unreadable: list[str] = []
        #: Steps that are on their way.
        self._sent: list[Awaitable[object]] = []

    async def listen(
        self, *, ready: Callable[[], None] = lambda: None, progress: Callable[[int], None] = lambda _: None
    ) -> Listened:
        """Listen from now on until an end was sent to every partition.

        Raises:
            TopicsError: the topics are not there and cannot be made.
            KafkaError: the broker does not answer.
        """
        await asyncio.to_thread(create_replay_topics, self._settings)
        async with Broker(self._settings) as broker:
            topic = names(self._settings).replay
            starts = {number: (await broker.bounds(topic, number))[1] for number in self._worlds}
            ready()
            async with aclosing(self._coming(broker, topic, starts)) as coming:
                async for number, one in coming:
                    await self._take(broker, number, one)
                    progress(self._records)
            await self._confirm()
        return self._answer()

    async def _coming(
        self, broker: Broker, topic: str, starts: dict[int, int]
    ) -> AsyncGenerator[tuple[int, Occurrence | End], None]:
        """Yield what comes, by partition, until all have ended."""
        open_ones = set(self._worlds)
        async with aclosing(broker.tail(topic, starts)) as runs:
            async for number, records in runs:
                for record in records:
                    read = occurrence_of(record.key, record.value, record.headers, record.timestamp)
                    if isinstance(read, Unreadable):
                        self._unreadable.append(read.reason)
                        continue
                    if isinstance(read, End):
                        open_ones.discard(number)
                    yield number, read
                if not open_ones:
                    return

    async def _take(self, broker: Broker, number: int, one: Occurrence | End) -> None:
        """Let what was before a record happen, and send the steps; what comes at one time is decided about together."""
        world, last_ms = self._worlds[number], self._last_ms.get(number, 0)
        if isinstance(one, End):
            await self._write(broker, number, world.advance(max(one.at_ms, last_ms)) if last_ms else ())
            return
        self._records += 1
        at_ms = self._last_ms[number] = Millis(max(one.at_ms, last_ms))
        await self._write(broker, number, world.advance(at_ms - 1))
        if self._fleet is not None:
            if isinstance(one.event, (TaskPending, SlotFreed)) and one.event.pool not in self._equipped:
                self._equipped.add(one.event.pool)
                equip(world, one.event.pool, self._fleet, at_ms)
            if is_of_a_slot(one):
                return
        world.come(replace(one, at_ms=at_ms))

    async def _write(self, broker: Broker, number: int, steps: Iterable[Step]) -> None:
        topic = names(self._settings).replayed
        for step in steps:
            self._steps[number].append(step)
            self._evs.update(((row.task.pool, row.task.task_id), row.ev) for row in step.tasks)
            value = encode_step(replace(step, journal=self._run))
            self._sent.append(await broker.send(topic, number, value))
        if len(self._sent) >= _UNCONFIRMED_MAX:
            await self._confirm()

    async def _confirm(self) -> None:
        """Wait until all steps that were sent are durable."""
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)

    def _answer(self) -> Listened:
        refused = [*self._unreadable, *(reason for world in self._worlds.values() for reason in world.refused)]
        courses = [Course(self._steps[number], world.router.state) for number, world in self._worlds.items()]
        return Listened(
            run=self._run,
            records=self._records,
            refused=len(refused),
            first_refusal=refused[0] if refused else None,
            policy=self._rulebook.policy_hash,
            catalog=self._rulebook.catalog_hash,
            fleet=self._fleet,
            side=side_of(courses, self._evs, starved_after_s=self._starved_after_s),
        )
