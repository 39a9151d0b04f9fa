"""Workers follow the group: one for each partition that is ours, none that works between two generations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.partition.assignment import NO_GENERATION, Assignment
from streams.partition.ports import JournalError, PartitionError
from streams.partition.worker import PartitionWorker
from tests.support.partition_world import World, until


class House:
    """Workers over one world a partition."""

    def __init__(self, recovery_s_max: float = 10.0) -> None:
        self.worlds: dict[int, World] = {}
        self.failures: list[BaseException] = []
        self.assignment = Assignment(self.open, self.failures.append, recovery_s_max)

    def open(self, partition: int) -> PartitionWorker:
        """Make a worker; its world stays."""
        return self.worlds.setdefault(partition, World()).new_worker()

    def give(self, generation: int, partition: int, *tasks: str) -> list[int]:
        """Deliver tasks; what comes back counts the acks."""
        world = self.worlds[partition]
        acked: list[int] = []
        first = len(world.inputs.logs[0].records)
        for task_id in tasks:
            world.task(task_id)
        self.assignment.take(generation, partition, 0, world.inputs.logs[0].records[first:], lambda: acked.append(1))
        return acked


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Workers that are halted in the end."""
    made = House()
    yield made
    await made.assignment.halt()


async def test_partitions_come_and_go(house: House) -> None:
    """A worker is kept while its partition stays."""
    await house.assignment.assign(1, {0, 1})
    kept = house.assignment.workers[1]
    await house.assignment.assign(2, {1, 2})
    assert sorted(house.assignment.workers) == [1, 2]
    assert house.assignment.workers[1] is kept
    assert all(worker.working for worker in house.assignment.workers.values())
    assert house.assignment.generation == 2


async def test_settling_twice_at_once_makes_one_worker_a_partition(house: House) -> None:
    """Faust may seek twice at the same time."""
    await asyncio.gather(*(house.assignment.assign(1, {0, 1}) for _ in range(3)))
    one = dict(house.assignment.workers)
    await house.assignment.assign(1, {0, 1})
    assert dict(house.assignment.workers) == one


async def test_a_delivery_of_another_generation_is_dropped(house: House) -> None:
    """It comes again; acking it moves no position."""
    await house.assignment.assign(5, {0})
    assert house.give(4, 0, "t-0") == [1]
    assert house.assignment.workers[0].position(0) == -1
    world = house.worlds[0]
    house.assignment.take(5, 0, 0, world.inputs.logs[0].records, lambda: None)
    await until(lambda: house.assignment.workers[0].position(0) == 0)


async def test_nothing_is_decided_between_two_generations(house: House) -> None:
    """From the revocation to the next settling."""
    await house.assignment.assign(1, {0})
    await house.assignment.halt()
    assert house.assignment.generation == NO_GENERATION
    assert house.give(1, 0, "t-0") == [1]
    assert house.worlds[0].journal.log.records == []


async def test_a_caller_that_gives_up_does_not_stop_the_recovery(house: House) -> None:
    """Faust gives up waiting after a while; the workers are needed all the same."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await house.assignment.assign(1, {0})
    await until(lambda: house.assignment.generation == 1)
    assert house.assignment.workers[0].working


async def test_a_partition_that_cannot_be_recovered_ends_the_worker(house: House) -> None:
    """With the sentence of the journal."""
    house.open(0)
    house.worlds[0].journal.log.skip(3)
    house.worlds[0].journal.log.cut(3)
    with pytest.raises(JournalError):
        await house.assignment.assign(1, {0})
    assert [type(failure) for failure in house.failures] == [JournalError]
    assert house.assignment.generation == NO_GENERATION


async def test_a_worker_that_fails_at_work_ends_the_worker(house: House) -> None:
    """The assignment is the only one that watches it."""
    await house.assignment.assign(1, {0})
    house.worlds[0].journal.log.append(b'{"v":99}')
    house.give(1, 0, "t-0")
    await until(lambda: bool(house.failures))
    assert "cannot be read" in str(house.failures[0])


async def test_a_recovery_without_end_ends_the_worker() -> None:
    """Another worker may do better."""
    house = House(recovery_s_max=0.05)
    house.open(0)
    never = asyncio.Event()

    async def bounds() -> tuple[int, int]:
        await never.wait()
        return 0, 0

    house.worlds[0].journal.bounds = bounds  # type: ignore[method-assign]
    with pytest.raises(PartitionError, match="not recovered within"):
        await house.assignment.assign(1, {0})
    assert len(house.failures) == 1
    never.set()
