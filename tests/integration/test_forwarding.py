"""Producers whose client places records by another partitioner than the router's: each task is decided once."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import confluent_kafka
import pytest

from schemas.codec import write_event
from schemas.events import SlotFreed, TaskPending
from schemas.forwarding import FORWARDED
from schemas.steps import decode_step
from schemas.vocabulary import INPUT_TOPICS, SLOT_FREED, TASK_PENDING, from_millis
from streams.settings import NAMELESS
from tests.support.builders import START_MS
from tests.support.installation import Installation

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

PARTITIONS = 3
POOLS = [f"pool-{number}" for number in range(8)]


def by_crc32(key: bytes) -> int:
    """The partition that librdkafka's `consistent_random` gives to a key."""
    return zlib.crc32(key) % PARTITIONS


class Elsewhere:
    """A producer that places every record by a partitioner of its own; each pool's records stay in order."""

    def __init__(self, installation: Installation, place: Callable[[bytes], int]) -> None:
        self._installation, self._place = installation, place

    async def event(self, topic: str, event: TaskPending | SlotFreed, ce_id: str) -> None:
        """Send one."""
        record = write_event(topic, event, ce_id=ce_id, source="/elsewhere", time_ms=START_MS)
        assert record.key is not None
        await self._installation.send(
            topic, record.value, record.key, headers=record.headers, partition=self._place(record.key)
        )

    async def tasks(self, first: int, count: int) -> None:
        """Send so many tasks, a pool after the other."""
        for number in range(first, first + count):
            pool, task_id = POOLS[number % len(POOLS)], f"t-{number:03}"
            event = TaskPending(task_id=task_id, pool=pool, at=from_millis(START_MS + number))
            await self.event(TASK_PENDING, event, f"e-{task_id}")
            self._installation.sent.setdefault(pool, []).append(task_id)

    async def slots(self) -> None:
        """Announce a slot in every pool."""
        for pool in POOLS:
            event = SlotFreed(slot_id="haiku-1", pool=pool, at=from_millis(START_MS), model="haiku")
            await self.event(SLOT_FREED, event, f"e-{pool}")


async def decided_once(installation: Installation) -> list[Any]:
    """Every task is finished, none was routed twice, none refused; return the steps' forwards."""
    found = await installation.worked_off()
    await installation.outputs_agree(await installation.sound())
    assert [one.rejected for one in found] == [{}] * PARTITIONS
    routed = [(row["pool"], row["task_id"]) for one in found for row in one.decisions if row["outcome"] == "routed"]
    assert sorted(routed) == sorted((pool, task) for pool, tasks in installation.sent.items() for task in tasks)
    for one in found:
        for pool in POOLS:
            rows = [row["task_id"] for row in one.decisions if row["pool"] == pool and row["outcome"] == "routed"]
            assert rows == sorted(rows), "its records were forwarded out of order"
    steps = [decode_step(record.value) for record in await installation.records(installation.names.journal)]
    return [one for step in {(step.partition, step.seq): step for step in steps}.values() for one in step.forwarded]


def in_order(marked: list[Any]) -> bool:
    """Whether forwarded records, each where it came first, are in the order of the partition that they were on."""
    came: dict[tuple[str, int, int], list[int]] = {}
    for record in marked:
        partition, _, offset = dict(record.headers)[FORWARDED].decode().partition("@")
        offsets = came.setdefault((record.topic, record.partition, int(partition)), [])
        if int(offset) not in offsets:
            offsets.append(int(offset))
    return all(offsets == sorted(offsets) for offsets in came.values())


@pytest.mark.rule("amend.50")
async def test_tasks_placed_by_crc32_are_decided_once_through_kills_of_the_worker(
    broker: ApacheKafka | EmbeddedBroker, tmp_path: Path
) -> None:
    """As librdkafka places them; a worker that is killed between may forward a record again, and its id counts once."""
    name = "one" if broker.durable else NAMELESS
    async with Installation(broker.address, tmp_path, partitions=PARTITIONS, instance_id=name) as installation:
        misplaced = [pool for pool in POOLS if by_crc32(pool.encode()) != installation.home(pool.encode())]
        assert 0 < len(misplaced) < len(POOLS)
        elsewhere = Elsewhere(installation, by_crc32)
        worker = installation.worker()
        await worker.ready(PARTITIONS)
        async with installation.fleet():
            await elsewhere.slots()
            for first in (0, 40, 80):
                await elsewhere.tasks(first, 40)
                await worker.kill()
                worker = installation.worker()
            await worker.ready(PARTITIONS)
            forwards = await decided_once(installation)
        sent = sum(pool in misplaced for pool in [*POOLS, *(POOLS[number % len(POOLS)] for number in range(120))])
        assert len(forwards) == sent, "each record that was misplaced is journaled as forwarded, once"
        marked = [
            record
            for topic in INPUT_TOPICS
            for record in await installation.records(installation.names.of(topic))
            if FORWARDED in dict(record.headers)
        ]
        assert len(marked) >= sent
        assert all(record.partition == installation.home(record.key) for record in marked)
        assert in_order(marked)


@pytest.mark.rule("amend.50")
async def test_a_confluent_kafka_producer_needs_no_settings(
    broker: ApacheKafka | EmbeddedBroker, tmp_path: Path
) -> None:
    """`Producer({"bootstrap.servers": ...})` and `produce(topic, value, key)`, and no more."""
    async with Installation(broker.address, tmp_path, partitions=PARTITIONS) as installation:
        worker = installation.worker()

        def produce() -> None:
            producer = confluent_kafka.Producer({"bootstrap.servers": broker.address})
            for pool in POOLS:
                slot = {"slot_id": "haiku-1", "pool": pool, "at": from_millis(START_MS), "model": "haiku"}
                producer.produce(installation.names.of(SLOT_FREED), json.dumps(slot), pool)
            for number in range(40):
                pool, task_id = POOLS[number % len(POOLS)], f"t-{number:03}"
                task = {"task_id": task_id, "pool": pool, "at": from_millis(START_MS + number)}
                producer.produce(installation.names.of(TASK_PENDING), json.dumps(task), pool)
                installation.sent.setdefault(pool, []).append(task_id)
            assert producer.flush(30) == 0

        await asyncio.to_thread(produce)
        await worker.ready(PARTITIONS)
        async with installation.fleet():
            assert await decided_once(installation) != []
