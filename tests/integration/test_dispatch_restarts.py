"""`slotwise dispatch` through a restart of a durable broker: what runs goes on, and everything is done once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from msgspec import Struct

from schemas.vocabulary import TASK_FINISHED
from streams.local.kafka import ApacheKafka
from tests.functional.commands import until as until_true
from tests.functional.dispatching import Dispatching
from tests.support.installation import Installation, until

#: A task ends when there is a file of its name, or one for all of them.
WAITS = "echo $TASK_ID >> begun; while [ ! -e $TASK_ID ] && [ ! -e all ]; do sleep 0.05; done"
TASKS = [f"t-{number}" for number in range(5)]


class Place(Struct):
    """Where the dispatcher has its files."""

    directory: Path


async def test_what_runs_goes_on_while_the_broker_is_away_and_no_task_runs_twice(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """One command ends meanwhile, one behind it; the first is reported then, and the tasks that waited are done."""
    async with Installation(apache_kafka.address, tmp_path) as there:
        worker = there.worker()
        await worker.ready()
        prefix, group = there.settings.topic_prefix, there.settings.group
        at = ("--broker", apache_kafka.address, "--topic-prefix", prefix, "--group", group, "--partitions", "2")
        slots = ("--slot", "h-1=haiku", "--slot", "h-2=haiku", "--ttl", "60", "--exec", WAITS)
        with Dispatching(Place(tmp_path / "data"), tmp_path, *at, "--pool", "pool", *slots) as dispatcher:
            await asyncio.to_thread(dispatcher.wait_for, "announced", count=2)
            for task_id in TASKS:
                await there.task(task_id, "pool")
            await asyncio.to_thread(dispatcher.wait_for, "begun", count=2)
            first, second = (one["task_id"] for one in dispatcher.events("begun"))
            await asyncio.to_thread(apache_kafka.kill)
            (tmp_path / first).touch()
            await asyncio.to_thread(dispatcher.wait_for, "ended", first)
            assert not dispatcher.events("reported")
            await asyncio.to_thread(apache_kafka.start)
            await asyncio.to_thread(dispatcher.wait_for, "begun", count=3)
            assert not dispatcher.events("ended", second)
            (tmp_path / "all").touch()

            async def all_over() -> list[dict[str, object]]:
                ends = [json.loads(record.value) for record in await there.records(there.names.of(TASK_FINISHED))]
                return ends if {one["task_id"] for one in ends} == set(TASKS) else []

            ends = await until("all tasks are over", all_over)
            assert {(one["task_id"], one["status"], one["attempts"]) for one in ends} == {
                (task_id, "success", 1) for task_id in TASKS
            }
            await asyncio.to_thread(until_true, lambda: len(dispatcher.events("reported")) == len(TASKS), "reports")
            assert sorted((tmp_path / "begun").read_text().split()) == TASKS
            assert not dispatcher.events("stopping")
        await there.worked_off()
