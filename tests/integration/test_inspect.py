"""What is read from outside is what the worker has: from its checkpoints and its journal, while it works."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from schemas.events import ModelDrained
from schemas.steps import decode_step
from schemas.vocabulary import DECISION_AUDIT, from_millis
from streams.clock import SystemClock
from streams.core.router import Router
from streams.operate.orders import check, submit
from streams.operate.read_partitions import PartitionReadError, read_partitions
from streams.partition.ports import JournalError
from streams.shipped import file_rulebook, shipped
from tests.support.installation import Installation
from tests.support.router_rig import picture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker


@pytest.fixture
async def installation(broker: ApacheKafka | EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Installation]:
    """New topics on each kind of broker, and checkpoints after every few changes."""
    async with Installation(broker.address, tmp_path, checkpoint_changes_min=20) as made:
        yield made


async def test_the_state_that_is_read_is_that_of_the_journal(installation: Installation) -> None:
    """Byte by byte, although it began at a checkpoint; and again while the worker goes on."""
    worker = installation.worker()
    await installation.slots(2, pools=3)
    await worker.ready(2)
    async with installation.fleet():
        await installation.tasks(60, pools=3)
        while_working = await read_partitions(installation.settings, range(2))
        await installation.worked_off()
    found = await read_partitions(installation.settings, range(2))
    rulebook = file_rulebook(installation.settings)
    journal = await installation.records(installation.names.journal)
    for partition, look in found.items():
        expected = Router(partition, rulebook)
        for record in journal:
            if record.partition == partition and expected.seq < look.router.seq:
                step = decode_step(record.value)
                if step.seq == expected.seq:
                    expected.apply(step)
        assert picture(look.router) == picture(expected)
        assert look.known
        assert while_working[partition].router.seq <= look.router.seq
    assert await installation.records(installation.names.checkpoint), "no checkpoint was written: raise the work"
    assert await worker.stop() == 0, worker.log()


async def test_an_order_is_in_force_when_it_is_said_to_be(installation: Installation) -> None:
    """Given before any worker is there, it stays open; with one, every partition takes it, and the state has it."""
    settings = installation.settings
    event = ModelDrained(control_id="c-1", at=from_millis(SystemClock().now_ms()), by="ops", model="haiku")
    await check(settings, event)
    early = await asyncio.to_thread(submit, settings, event, wait_s=0.2)
    assert [one.status for one in early.positions] == ["sent", "sent"]
    worker = installation.worker()
    await worker.ready(2)
    again = await asyncio.to_thread(submit, settings, event, wait_s=30.0)
    assert [(one.status, one.offset) for one in again.positions] == [("known", 1), ("known", 1)]
    found = await read_partitions(settings, range(2))
    assert all("haiku" in look.router.state.marks.drained for look in found.values())


async def test_a_journal_with_another_record_in_it_is_refused(installation: Installation) -> None:
    """Reading it says what the worker's start would say."""
    await installation.send(DECISION_AUDIT, b"rubbish", None, partition=0)
    with pytest.raises(JournalError, match="cannot be read"):
        await read_partitions(installation.settings, range(2))


async def test_rules_that_are_not_the_workers_are_reported(installation: Installation) -> None:
    """A model that the files here do not have is no bug and no broken journal; the sentence names the options."""
    catalog, policy = installation.folder / "catalog.toml", installation.folder / "policy.toml"
    catalog.write_text(shipped("catalog.toml").replace('id = "haiku"', 'id = "haiku-next"'))
    policy.write_text("")
    named = {"catalog": str(catalog), "policy": str(policy)}
    worker = installation.worker(**named)
    await installation.slot("next-1", "pool-0", model="haiku-next")
    await worker.ready(2)
    await installation.sound()
    with pytest.raises(PartitionReadError, match="name those of its workers with --policy and --catalog"):
        await read_partitions(installation.settings, range(2))
    found = await read_partitions(replace(installation.settings, **named), range(2))
    assert {slot for look in found.values() for pool in look.router.state.pools.values() for slot in pool.slots} == {
        "next-1"
    }
