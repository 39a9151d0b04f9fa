"""The wire of clients on a broker that goes away and comes back, with or without what it had."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.codec import write_event
from schemas.events import TaskPending
from schemas.record import Record
from schemas.vocabulary import TASK_PENDING
from streams.client.kafka_wire import KafkaWire
from streams.kafka import client
from streams.local.tansu import EmbeddedBroker
from streams.settings import Settings
from streams.topics import create_topics


def record(task_id: str) -> Record:
    """A task of one pool."""
    task = TaskPending(task_id=task_id, pool="main", at="2026-11-21T10:00:00.000Z")
    return write_event(TASK_PENDING, task, ce_id=task_id, source="test", time_ms=0)


async def test_topics_that_have_started_over_are_read_from_their_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker had its topics in memory, and the new ones are shorter than what was read of the old ones."""
    monkeypatch.setattr(client, "BEHIND_S_MAX", 0.0)
    with EmbeddedBroker(log_file=tmp_path / "tansu.log") as broker:
        settings = replace(Settings(), broker=broker.address, partitions=2)
        create_topics(settings)
        wire = KafkaWire(settings)
        await wire.start()
        try:
            async with aclosing(wire.read(await wire.ends((TASK_PENDING,)))) as records, asyncio.timeout(60):
                for number in range(9):
                    await wire.send(TASK_PENDING, record(f"before-{number}"))
                before = [(await anext(records))[1] for _ in range(9)]
                broker.kill()
                broker.start()
                create_topics(settings)
                for number in range(2):
                    await wire.send(TASK_PENDING, record(f"after-{number}"))
                after = [(await anext(records))[1] for _ in range(2)]
        finally:
            await wire.stop()
    assert before == [record(f"before-{number}").value for number in range(9)]
    assert after == [record(f"after-{number}").value for number in range(2)]
