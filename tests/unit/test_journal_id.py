"""A journal that was deleted and created again is not taken for the one before, by its worker or by its sink."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from schemas.steps import decode_step, encode_step
from streams.partition.journal_id import OtherJournal
from streams.partition.memory import Log
from streams.partition.ports import JournalError, JournalPosition
from streams.partition.reader import JournalReader, RecordDamaged
from streams.partition.recovery import recover
from streams.sinks.cursor import Cursor
from streams.sinks.ports import BEFORE_FIRST, JournalMismatch, JournalRecord
from tests.support.builders import step
from tests.support.partition_world import World, until


def ids(world: World) -> set[str | None]:
    """Ids of the steps in a journal."""
    return {decode_step(record.value or b"").journal for record in world.journal.log.records}


async def worked() -> World:
    """A world with some steps, and the journal's id kept beside the checkpoints; no checkpoint was due."""
    world = World(step_inputs_max=2)
    async with world.worker() as worker:
        await world.handle_tasks(worker, 6)
        await until(lambda: bool(world.compacted.records))
    return world


async def test_every_step_has_the_journals_id_over_restarts() -> None:
    """The first worker makes it up, the others take it over."""
    world = await worked()
    async with world.worker() as worker:
        await world.handle_tasks(worker, 4)
    (only,) = ids(world)
    assert only is not None
    assert [value.decode() for key, value in world.compacted.records] == [only], "kept once"


async def test_a_journal_that_was_deleted_before_the_first_checkpoint_stops_the_start() -> None:
    """The worker does not begin from empty without a word."""
    world = await worked()
    world.journal.log = Log()
    with pytest.raises(OtherJournal, match=r"is empty, and its checkpoints belong to the journal .*topics renew"):
        await world.new_worker().recover()
    assert world.journal.log.records == []


async def test_a_journal_of_another_installation_stops_the_start() -> None:
    """Its steps have another id."""
    world, other = await worked(), await worked()
    world.journal.log = other.journal.log
    with pytest.raises(OtherJournal, match="is now the journal"):
        await world.new_worker().recover()


async def test_what_was_published_shows_that_journal_and_checkpoints_were_deleted() -> None:
    """The committed offsets know the journal's id when both topics are gone."""
    world = World()
    with pytest.raises(OtherJournal, match="is empty, and what was published and handled belong to the journal old"):
        await recover(0, world.journal, world.checkpoints(), world.make, "old")


async def test_a_journal_without_an_id_gets_one() -> None:
    """An older slotwise wrote it: it is taken over, and from the next step on it has an id."""
    world = await worked()
    for place, record in enumerate(world.journal.log.records):
        old = encode_step(replace(decode_step(record.value or b""), journal=None))
        world.journal.log.records[place] = replace(record, value=old)
    world.compacted.records.clear()
    async with world.worker() as worker:
        await world.handle_tasks(worker, 2)
    assert len(ids(world)) == 2
    assert None in ids(world)
    world.sound()


async def test_two_workers_of_an_empty_journal_agree_on_the_id() -> None:
    """That of the first step that counts."""
    world = World(step_inputs_max=7)
    async with world.worker() as one, world.worker() as other:
        for number in range(50):
            world.task(f"t-{number}")
        world.deliver(one, "task.pending")
        world.deliver(other, "task.pending")
        await world.handled(one, "task.pending", 49)
        await world.handled(other, "task.pending", 49)
    found = world.sound()
    reader = JournalReader(0, decode_step, start=JournalPosition(0, 0))
    taken = [reader.take(record.offset, record.value or b"") for record in world.journal.log.records]
    assert len({one.journal for one in taken if one is not None}) == 1
    assert reader.fenced == found.fenced
    async with world.worker():
        await asyncio.sleep(0)


async def test_a_step_of_another_journal_stops_the_reader() -> None:
    """As a mirrored record would be: it is no step of this one, though its number is next."""
    world = await worked()
    last = decode_step(world.journal.log.records[-1].value or b"")
    world.journal.log.append(encode_step(step(last.seq + 1, journal="foreign")))
    with pytest.raises(RecordDamaged, match="It is a step of journal foreign"):
        await world.new_worker().recover()


async def test_a_journal_that_was_deleted_while_we_ran_names_what_helps() -> None:
    """The worker ends, with the command."""
    world = World()
    async with world.worker() as worker:
        await world.handle_tasks(worker, 3)
        world.journal.log = Log()
        world.task("t-9")
        world.deliver(worker, "task.pending")
        await until(lambda: not worker.working)
        with pytest.raises(JournalError, match=r"deleted or cut while we ran.*topics renew"):
            await worker.failed()


def test_a_running_sink_notices_a_journal_that_begins_again() -> None:
    """Its client goes back to the beginning; the new steps are not dropped as known ones."""
    cursor = Cursor(0, BEFORE_FIRST)
    for seq in range(5):
        assert cursor.take(JournalRecord(0, seq, 0, encode_step(step(seq, journal="one")))) is not None
    assert cursor.take(JournalRecord(0, 2, 0, encode_step(step(2, journal="one")))) is None, "only delivered again"
    with pytest.raises(JournalMismatch, match="has a step of the journal two at offset 0, and this was one"):
        cursor.take(JournalRecord(0, 0, 0, encode_step(step(0, journal="two"))))


def test_a_sink_that_starts_knows_the_journal_by_its_id() -> None:
    """Also where retention has taken the record that it wrote last."""
    before = Cursor(0, BEFORE_FIRST)
    before.take(JournalRecord(0, 0, 0, encode_step(step(0, journal="one"))))
    cursor = Cursor(0, before.position)
    assert cursor.position.journal_id == "one"
    with pytest.raises(RecordDamaged, match="journal two, and this one is one"):
        cursor.take(JournalRecord(0, 9, 0, encode_step(step(1, journal="two"))))
