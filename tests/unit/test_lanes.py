"""Lanes follow the group: one for each partition that is ours, none that works between two generations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.partition.assignment import NO_GENERATION, Lanes
from streams.partition.ports import JournalError
from streams.partition.worker import Lane, LaneError
from tests.support.lanes import World, until


class House:
    """Lanes over one world a partition."""

    def __init__(self, recovery_s_max: float = 10.0) -> None:
        self.worlds: dict[int, World] = {}
        self.failures: list[BaseException] = []
        self.lanes = Lanes(self.open, self.failures.append, recovery_s_max)

    def open(self, partition: int) -> Lane:
        """Make a lane; its world stays."""
        return self.worlds.setdefault(partition, World()).lane()

    def give(self, generation: int, partition: int, *tasks: str) -> list[int]:
        """Deliver tasks; what comes back counts the acks."""
        world = self.worlds[partition]
        acked: list[int] = []
        first = len(world.inputs.logs[0].records)
        for task_id in tasks:
            world.task(task_id)
        self.lanes.take(generation, partition, 0, world.inputs.logs[0].records[first:], lambda: acked.append(1))
        return acked


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Lanes that are halted in the end."""
    made = House()
    yield made
    await made.lanes.halt()


async def test_partitions_come_and_go(house: House) -> None:
    """A lane is kept while its partition stays."""
    await house.lanes.settle(1, {0, 1})
    kept = house.lanes.all[1]
    await house.lanes.settle(2, {1, 2})
    assert sorted(house.lanes.all) == [1, 2]
    assert house.lanes.all[1] is kept
    assert all(lane.working for lane in house.lanes.all.values())
    assert house.lanes.generation == 2


async def test_settling_twice_at_once_makes_one_lane_a_partition(house: House) -> None:
    """Faust may seek twice at the same time."""
    await asyncio.gather(*(house.lanes.settle(1, {0, 1}) for _ in range(3)))
    one = dict(house.lanes.all)
    await house.lanes.settle(1, {0, 1})
    assert dict(house.lanes.all) == one


async def test_a_delivery_of_another_generation_is_dropped(house: House) -> None:
    """It comes again; acking it moves no position."""
    await house.lanes.settle(5, {0})
    assert house.give(4, 0, "t-0") == [1]
    assert house.lanes.all[0].position(0) == -1
    world = house.worlds[0]
    house.lanes.take(5, 0, 0, world.inputs.logs[0].records, lambda: None)
    await until(lambda: house.lanes.all[0].position(0) == 0)


async def test_nothing_is_decided_between_two_generations(house: House) -> None:
    """From the revocation to the next settling."""
    await house.lanes.settle(1, {0})
    await house.lanes.halt()
    assert house.lanes.generation == NO_GENERATION
    assert house.give(1, 0, "t-0") == [1]
    assert house.worlds[0].journal.log.records == []


async def test_a_caller_that_gives_up_does_not_stop_the_recovery(house: House) -> None:
    """Faust gives up waiting after a while; the lanes are needed all the same."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await house.lanes.settle(1, {0})
    await until(lambda: house.lanes.generation == 1)
    assert house.lanes.all[0].working


async def test_a_partition_that_cannot_be_recovered_ends_the_worker(house: House) -> None:
    """With the sentence of the journal."""
    house.open(0)
    house.worlds[0].journal.log.skip(3)
    house.worlds[0].journal.log.cut(3)
    with pytest.raises(JournalError):
        await house.lanes.settle(1, {0})
    assert [type(failure) for failure in house.failures] == [JournalError]
    assert house.lanes.generation == NO_GENERATION


async def test_a_lane_that_fails_at_work_ends_the_worker(house: House) -> None:
    """Nobody else watches it."""
    await house.lanes.settle(1, {0})
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
    with pytest.raises(LaneError, match="not recovered within"):
        await house.lanes.settle(1, {0})
    assert len(house.failures) == 1
    never.set()
