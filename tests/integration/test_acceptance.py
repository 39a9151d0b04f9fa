"""The acceptance scenario through a real worker, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.events import Outcome
from schemas.vocabulary import TASK_ROUTED
from tests.support.acceptance import POOL, SLOTS, TASKS, check
from tests.support.installation import Installation

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker


@pytest.mark.rule("round.acceptance")
async def test_the_two_highest_evs_get_opus_and_sonnet(broker: ApacheKafka | EmbeddedBroker, tmp_path: Path) -> None:
    """Ten tasks of mixed EV and priority and a fleet of four; the rest run on haiku as haiku slots free."""
    # A round that collects for a while holds what was sent together, however the broker delivers it.
    async with Installation(broker.address, tmp_path, partitions=1, round_ms_min=1500) as installation:
        for task_id, ev, priority in TASKS:
            await installation.task(task_id, POOL, ev=ev, priority=priority)
        await installation.worker().ready(1)
        await installation.sound()
        await asyncio.gather(*(installation.slot(slot_id, POOL, model=model) for slot_id, model in SLOTS))
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(installation.names.of(TASK_ROUTED), 0)])
            told: set[str] = set()
            while len(told) < len(TASKS):
                routed = json.loads((await asyncio.wait_for(consumer.getone(), 60)).value)
                if routed["decision_id"] in told:
                    continue
                told.add(routed["decision_id"])
                if routed["model"] == "haiku":
                    await installation.slot(
                        routed["slot_id"],
                        POOL,
                        lease=routed["lease"],
                        outcome=Outcome(task_id=routed["task_id"], status="success"),
                    )
        finally:
            await consumer.stop()
        (found,) = await installation.sound()
        check(found.decisions)
