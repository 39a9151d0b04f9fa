"""A partition's state comes from the newest checkpoint that the journal reaches, and from the steps after it."""

from __future__ import annotations

import asyncio

import pytest

from schemas.steps import encode_step
from streams.partition.ports import JournalError, JournalPosition, PartitionError, StateMachine
from streams.partition.recovery import Recovered, read_tail, recover
from tests.support.builders import step
from tests.support.partition_world import World, until


async def recovered(world: World) -> Recovered[StateMachine]:
    """Recover the partition of a world, as operators do."""
    return await recover(0, world.journal, world.checkpoints(), world.make)


async def checkpointed() -> World:
    """A world with ten steps and checkpoints among them."""
    world = World(step_inputs_max=10, checkpoint_changes_min=50)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 100)
        await until(lambda: any(key.endswith("head") for key, _ in world.compacted.records))
    return world


async def test_an_empty_journal_gives_an_empty_state() -> None:
    """At its beginning."""
    found = await recovered(World())
    assert (found.machine.seq, found.base, found.end) == (0, JournalPosition(0, 0), 0)
    assert (found.saved_ms, found.decided_by) == (None, None)


async def test_recovery_writes_nothing_and_names_the_rules_of_the_last_step() -> None:
    """An operator's command may recover while a worker works."""
    world = World(step_inputs_max=3)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 10)
        await until(lambda: bool(world.compacted.records))
        records, kept = list(world.journal.log.records), list(world.compacted.records)
        found = await recovered(world)
        assert (found.machine.seq, found.machine.position(0)) == (worker.machine.seq, 9)
        assert found.decided_by == (world.rulebook.policy_hash, world.rulebook.catalog_hash)
        assert world.journal.log.records == records
        assert world.compacted.records == kept


async def test_a_checkpoint_saves_reading_the_journal() -> None:
    """What is before it may even be gone."""
    world = await checkpointed()
    checkpoint_offset = max(step.seq for step in world.steps) - 4
    world.journal.log.cut(checkpoint_offset)
    async with world.worker() as again:
        assert again.position(0) == 99
        assert again.machine.rows == 100
        world.task("t-100")
        world.deliver(again, "task.pending", 100)
        await world.handled(again, "task.pending", 100)


async def test_a_journal_that_begins_late_without_a_checkpoint_stops_the_start() -> None:
    """Routing from an empty state would lease what is leased."""
    world = World(step_inputs_max=1)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 5)
    world.journal.log.cut(2)
    with pytest.raises(JournalError, match="no checkpoint reaches it"):
        await world.new_worker().recover()


async def test_a_checkpoint_that_cannot_be_used_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Of another version, say: the whole journal gives the same state."""
    world = await checkpointed()
    make, refused = world.make, []

    def refusing(chunks: object) -> object:
        if chunks is not None:
            refused.append(chunks)
            raise ValueError("of another version")
        return make(None)

    world.make = refusing  # type: ignore[assignment]
    found = await recovered(world)
    assert refused
    assert found.base == JournalPosition(0, 0)
    assert found.machine.position(0) == 99
    assert "cannot be used" in caplog.text


async def test_a_checkpoint_beyond_the_journals_end_stops_the_recovery() -> None:
    """The journal was deleted: a new one would begin with numbers that are taken."""
    world = await checkpointed()
    del world.journal.log.records[1:]
    world.journal.log._end = 1
    with pytest.raises(JournalError, match="but a checkpoint was taken at"):
        await recovered(world)


async def test_a_step_that_cannot_be_applied_ends_the_recovery() -> None:
    """The sentence names the step and its offset."""
    world = World()
    world.journal.log.append(encode_step(step(0, partition=0)).replace(b'"inputs":[[0', b'"inputs":[[9'))
    with pytest.raises(PartitionError, match=r"Step 0 of partition 0 \(journal offset 0\) cannot be applied"):
        await recovered(world)


async def test_the_tail_is_read_to_an_end_that_the_broker_may_not_know_yet() -> None:
    """The worker knows that its record stands there."""
    world, taken = World(), list[int]()
    for seq in range(3):
        world.journal.log.append(encode_step(step(seq)))

    async def take(offset: int, _: object) -> None:
        await asyncio.sleep(0)
        taken.append(offset)

    async def bounds() -> tuple[int, int]:
        return 0, 1

    world.journal.bounds = bounds  # type: ignore[method-assign]
    assert await read_tail(0, world.journal, JournalPosition(0, 0), take, at_least=3) == 3
    assert taken == [0, 1, 2]


async def test_the_tail_is_read_to_a_place_before_the_end() -> None:
    """A shadow takes the steps again that come before the one that it was at."""
    world, taken = World(), list[int]()
    for seq in range(4):
        world.journal.log.append(encode_step(step(seq)))

    async def take(offset: int, _: object) -> None:
        taken.append(offset)

    assert await read_tail(0, world.journal, JournalPosition(1, 1), take, before=3) == 3
    assert taken == [1, 2]
