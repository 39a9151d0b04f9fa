"""`task.cancelled` and `task.finished` through a real worker, which is killed between."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from schemas.events import Outcome, TaskCancelled
from schemas.vocabulary import FLEET_CONTROL, TASK_CANCELLED, TASK_FINISHED, TASK_ROUTED, from_millis
from streams.settings import NAMELESS
from tests.support.builders import START_MS
from tests.support.installation import Installation, until

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

POOL = "main"


async def values(installation: Installation, topic: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many events of a topic, each where it came first; all of them are keyed by their pool."""

    async def enough() -> list[dict[str, Any]]:
        first: dict[bytes, Any] = {}
        for record in await installation.records(installation.names.of(topic)):
            assert record.key == POOL.encode()
            first.setdefault(dict(record.headers)["ce_id"], json.loads(record.value))
        return list(first.values()) if len(first) >= count else []

    found: list[dict[str, Any]] = await until(f"{topic} has {count} events", enough)
    assert len(found) == count
    return found


@pytest.mark.rule("wire.ended")
async def test_a_cancelled_task_stops_and_every_task_is_announced_as_over(
    broker: ApacheKafka | EmbeddedBroker, tmp_path: Path
) -> None:
    """Two are cancelled, one while it runs and one while it waits; one succeeds. The worker is killed between."""
    name = "one" if broker.durable else NAMELESS
    async with Installation(broker.address, tmp_path, partitions=1, instance_id=name) as installation:
        worker = installation.worker()
        await worker.ready(1)
        await installation.slot("haiku-1", POOL)
        await installation.task("runs", POOL)
        (routed,) = await values(installation, TASK_ROUTED, 1)
        await installation.task("waits", POOL)
        for task_id in ("runs", "waits"):
            order = TaskCancelled(
                control_id=f"c-{task_id}", by="ops", at=from_millis(START_MS), pool=POOL, task_id=task_id
            )
            await installation.event(FLEET_CONTROL, order)
        await worker.kill()
        await installation.worker().ready(1)
        (stop,) = await values(installation, TASK_CANCELLED, 1)
        same = ("decision_id", "task_id", "pool", "slot_id", "lease")
        assert {key: stop[key] for key in same} == {key: routed[key] for key in same}
        assert stop["reason_code"] == "cancelled"
        await installation.task("succeeds", POOL)
        for lease, task_id, status in ((1, "runs", "cancelled"), (2, "succeeds", "success")):
            await values(installation, TASK_ROUTED, lease)
            outcome = Outcome(task_id=task_id, status=status, cost_usd=0.5)  # type: ignore[arg-type]  # from the tuple
            await installation.slot("haiku-1", POOL, lease=lease, outcome=outcome)
        ends = await values(installation, TASK_FINISHED, 3)
        assert {one["task_id"]: (one["status"], one["attempts"], one.get("cost_usd")) for one in ends} == {
            "waits": ("cancelled", 0, None),
            "runs": ("cancelled", 1, 0.5),
            "succeeds": ("success", 1, 0.5),
        }
        assert [one["task_id"] for one in ends if one["task_id"] != "waits"] == ["runs", "succeeds"]
        await installation.sound()
