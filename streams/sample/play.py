"""Plays the sample against a broker: sends each task at its time and simulates the work of routed ones.

The only part of the sample with a clock and a network. It may be killed and started again at any time: every slot
announces itself again, so that its task is pending again; every task is sent again, which the router recognises as a
duplicate; earlier decisions are ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas.codec import write_event
from schemas.events import SlotFreed, TaskPending, TaskRouted
from schemas.vocabulary import SLOT_FREED, TASK_PENDING, TASK_ROUTED, from_millis
from streams.access.security import client_options
from streams.clock import SystemClock
from streams.core.policy.catalog import Catalog
from streams.core.policy.document import read
from streams.errors import MISTAKE, SlotwiseError
from streams.sample.fleet import SLOTS, Engine, Fleet, Work
from streams.sample.work import SampleTask, tasks
from streams.settings import Settings
from streams.shipped import catalog_text
from streams.whole_file import write_whole

SOURCE: Final = "/slotwise/sample"
STATUS_EVERY_S: Final = 0.2
#: A broker that is away does not hold up the end.
LEAVE_S_MAX: Final = 3.0


class SampleError(SlotwiseError):
    """The sample cannot be played with this catalogue; the message says what it lacks."""

    exit_code = MISTAKE


class SampleProgress(Struct, kw_only=True):
    """Progress of the sample, written to a file for the board."""

    #: Tasks of the sample.
    tasks: int
    #: Sent and confirmed by the broker.
    sent: int = 0
    slots: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    spent_usd: float = 0.0
    #: Every task was sent, and the broker has confirmed it.
    all_sent: bool = False


async def play(
    settings: Settings,
    *,
    run: str,
    count: int,
    speed: float,
    stop: asyncio.Event,
    pool: str = "main",
    status: Path | None = None,
) -> SampleProgress:
    """Play `count` tasks at `speed` simulated seconds a second, until `stop` is set; then the slots leave the pool."""
    sample = tasks(run, count, pool)
    player = _Player(settings, Fleet(engines(settings), sample, pool), sample, speed)
    async with _clients(settings) as (producer, consumer):
        running: list[asyncio.Task[None]] = [
            asyncio.create_task(player.follow(consumer)),
            asyncio.create_task(player.free_slots(producer)),
            asyncio.create_task(player.feed(producer)),
            asyncio.create_task(_write_status(player.progress, status)),
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stopped.done():
                await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task.done()]:
                    task.result()  # only feeding ends without an error
                    running.remove(task)
        finally:
            stopped.cancel()
            for task in running:
                task.cancel()
            await asyncio.gather(stopped, *running, return_exceptions=True)
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(LEAVE_S_MAX):
                    await player.leave(producer)
            _write(player.progress, status)
    return player.progress


def engines(settings: Settings) -> Iterator[Engine]:
    """Return the fleet's view of each model, from the router's catalogue.

    Raises:
        TextFileError, RulebookError: the catalogue cannot be used.
        SampleError: a model that the sample is played with has no speed or quality.
    """
    for model in read(catalog_text(settings), Catalog, settings.catalog or "catalog.toml").model:
        if model.id not in SLOTS:
            continue
        if model.speed_tps is None or model.quality is None:
            raise SampleError(
                f"The sample works off tasks with {model.id}: give it speed_tps and quality in the catalogue."
            )
        yield Engine(
            model=model.id,
            tier=model.tier,
            speed_tps=model.speed_tps,
            quality=model.quality,
            tariff=model.tariff,
        )


class _Player:
    def __init__(self, settings: Settings, fleet: Fleet, sample: list[SampleTask], speed: float) -> None:
        self.progress = SampleProgress(tasks=len(sample), slots=len(fleet.slots))
        self._fleet = fleet
        self._sample = sample
        self._speed = speed
        self._clock = SystemClock()
        self._topic = {name: settings.topic_prefix + name for name in (TASK_PENDING, SLOT_FREED)}
        self._finished: asyncio.Queue[Work] = asyncio.Queue()

    async def feed(self, producer: AIOKafkaProducer) -> None:
        """Announce the slots, then send each task at its time."""
        for announcement in self._fleet.announcements(self._clock.now_ms()):
            await self._send(producer, SLOT_FREED, announcement, f"{announcement.slot_id}-{announcement.at}")
        await producer.flush()
        start_s = time.monotonic()
        for task in self._sample:
            wait_s = start_s + task.at_s / self._speed - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            event = msgspec.structs.replace(task.event, at=from_millis(self._clock.now_ms()))
            await self._send(producer, TASK_PENDING, event, event.task_id)
            self.progress.sent += 1
        await producer.flush()
        self.progress.all_sent = True

    async def leave(self, producer: AIOKafkaProducer) -> None:
        """Take every slot out of the pool: no one would do what is routed to it."""
        for farewell in self._fleet.farewells(self._clock.now_ms()):
            await self._send(producer, SLOT_FREED, farewell, f"{farewell.slot_id}-{farewell.at}-leaving")
        await producer.flush()

    async def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Start the work of each decision, and record when it ends."""
        loop = asyncio.get_running_loop()
        async for record in consumer:
            work = self._fleet.take(msgspec.json.decode(record.value, type=TaskRouted))
            if work is not None:
                self.progress.started += 1
                loop.call_later(work.duration_s / self._speed, self._finished.put_nowait, work)

    async def free_slots(self, producer: AIOKafkaProducer) -> None:
        """Free each slot whose simulated work is over."""
        while True:
            work = await self._finished.get()
            await self._send(producer, SLOT_FREED, work.freed(self._clock.now_ms()), f"{work.routed.decision_id}-freed")
            if work.outcome.status == "success":
                self.progress.succeeded += 1
            else:
                self.progress.failed += 1
            self.progress.spent_usd += work.outcome.cost_usd or 0.0

    async def _send(self, producer: AIOKafkaProducer, topic: str, event: TaskPending | SlotFreed, ce_id: str) -> None:
        record = write_event(topic, event, ce_id=ce_id, source=SOURCE, time_ms=self._clock.now_ms())
        await producer.send(self._topic[topic], key=record.key, value=record.value, headers=list(record.headers))


@contextlib.asynccontextmanager
async def _clients(settings: Settings) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    """Connect a producer, and a consumer of all decisions from now on (no group: each player sees all)."""
    producer = AIOKafkaProducer(**client_options(settings), acks="all", linger_ms=2)
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=50,  # Tansu answers a waiting fetch late, the later the longer it may wait
    )
    topic = settings.topic_prefix + TASK_ROUTED
    async with contextlib.AsyncExitStack() as stack:
        await producer.start()
        stack.push_async_callback(producer.stop)
        await consumer.start()
        stack.push_async_callback(consumer.stop)
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        # Fetch the positions now: "the end" must be the one before the first slot announces itself.
        for partition in partitions:
            await consumer.position(partition)
        yield producer, consumer


async def _write_status(progress: SampleProgress, path: Path | None) -> None:
    while True:
        _write(progress, path)
        await asyncio.sleep(STATUS_EVERY_S)


def _write(progress: SampleProgress, path: Path | None) -> None:
    if path is None:
        return
    write_whole(path, msgspec.json.encode(progress))
