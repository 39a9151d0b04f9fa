"""A worker that stops, dies, moves or is paused loses no input, handles none twice, and forgets nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import TopicPartition as KafkaTopicPartition
from kafka.admin import KafkaAdminClient

from streams.kafka.outputs import ProgressGroup
from streams.local.own_parts import environment as settings_in_environment
from streams.settings import NAMELESS
from streams.topics import TopicsError, create_topics
from tests.functional.commands import slotwise
from tests.support.installation import Installation, until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker


@pytest.fixture
async def installation(broker: ApacheKafka | EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Installation]:
    """New topics on each kind of broker; Tansu never gives away the place of a dead member that had a name."""
    async with Installation(broker.address, tmp_path, instance_id="" if broker.durable else NAMELESS) as made:
        yield made


async def test_tasks_are_routed_in_order_and_published_in_order(installation: Installation) -> None:
    """Through Kafka, Faust and back: every decision is published once and where it belongs."""
    worker = installation.worker()
    await installation.slots(2, pools=3)
    await installation.tasks(60, pools=3)
    await installation.tasks(30, pools=3)  # the same ids again: duplicates
    await worker.ready(2)
    async with installation.fleet():
        found = await installation.worked_off()
        await installation.outputs_agree(await installation.sound())
    assert sum(len(one.routed()) for one in found) == 60
    assert await worker.stop() == 0, worker.log()


async def test_a_worker_goes_on_after_a_clean_stop_and_after_a_kill(installation: Installation) -> None:
    """Same state, same positions; what came meanwhile is handled."""
    worker = installation.worker(instance_id="one")
    await installation.slots(1, pools=2)
    await installation.tasks(20, pools=2)
    await worker.ready(2)
    await installation.sound()
    assert await worker.stop() == 0, worker.log()
    await installation.tasks(20, pools=2, first=20)
    worker = installation.worker(instance_id="one")
    async with installation.fleet():
        await worker.ready(2)
        for start in (40, 60):
            await installation.tasks(20, pools=2, first=start)
            await worker.kill()
            worker = installation.worker(instance_id="one")
            await installation.tasks(20, pools=2, first=start + 100)
        found = await installation.worked_off()
        await installation.outputs_agree(await installation.sound())
    assert sum(len(one.finished) for one in found) == 120


async def test_offsets_committed_ahead_of_the_journal_lose_nothing(installation: Installation) -> None:
    """The inputs before them are fetched, although no later one reveals that they are missing."""
    await installation.tasks(40, pools=4)
    await commit(installation, ahead=True)
    worker = installation.worker()
    await worker.ready(2)
    found = await installation.sound()
    assert sum(len(one.tasks) for one in found) == 40


async def test_offsets_committed_behind_the_journal_double_nothing(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    """Tansu lets only a member commit for a group that has been used."""
    async with Installation(apache_kafka.address, tmp_path) as installation:
        worker = installation.worker()
        await installation.tasks(20, pools=4)
        await worker.ready(2)
        await installation.sound()
        assert await worker.stop() == 0, worker.log()
        await commit(installation, ahead=False)
        worker = installation.worker()
        await worker.ready(2)
        await installation.tasks(4, pools=4, first=20)
        found = await installation.sound()
        assert sum(len(one.tasks) for one in found) == 24


async def commit(installation: Installation, *, ahead: bool) -> None:
    """Move the group's committed offsets of all inputs to the end or to the beginning."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=installation.settings.broker, group_id=installation.settings.group, enable_auto_commit=False
    )
    await consumer.start()
    wanted = {}
    for topic in installation.names.inputs:
        for partition in range(installation.settings.partitions):
            _, end = await installation._broker.bounds(topic, partition)
            wanted[TopicPartition(topic, partition)] = end if ahead else 0
    consumer.assign(list(wanted))
    try:
        await consumer.commit(wanted)
    finally:
        await consumer.stop()


async def test_a_second_worker_joins_and_leaves(installation: Installation) -> None:
    """Partitions move both ways while tasks come."""
    first = installation.worker()
    await installation.slots(1, pools=4)
    await installation.tasks(20, pools=4)
    await first.ready(2)
    async with installation.fleet():
        second = installation.worker()
        await installation.tasks(40, pools=4, first=20)
        await second.ready(1)
        await first.ready(1)
        await installation.tasks(40, pools=4, first=60)
        assert await second.stop() == 0, second.log()
        await installation.tasks(40, pools=4, first=100)
        await first.ready(2)
        found = await installation.worked_off()
        await installation.outputs_agree(await installation.sound())
    assert sum(len(one.finished) for one in found) == 140


async def test_a_paused_worker_that_comes_back_does_no_harm(installation: Installation) -> None:
    """Its partitions have gone to another one; what it still writes is fenced off."""
    zombie = installation.worker()
    await installation.slots(1, pools=4)
    await zombie.ready(2)
    async with installation.fleet():
        await installation.tasks(40, pools=4)
        zombie.signal(signal.SIGSTOP)
        other = installation.worker()
        await installation.tasks(40, pools=4, first=40)
        await other.ready(2)
        await installation.tasks(40, pools=4, first=80)
        zombie.signal(signal.SIGCONT)
        await installation.tasks(40, pools=4, first=120)
        found = await installation.worked_off()
        await installation.outputs_agree(await installation.sound())
        await zombie.ready(1)
        await other.ready(1)
        await installation.tasks(40, pools=4, first=160)
        found = await installation.worked_off()
    assert sum(len(one.finished) for one in found) == 200


async def test_a_second_worker_of_one_name_ends_and_the_first_goes_on(
    apache_kafka: ApacheKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, where no lock of this machine refuses it; else each would take the other's place again and again."""
    async with Installation(apache_kafka.address, tmp_path, instance_id="one") as installation:
        first = installation.worker()
        await installation.slots(1, pools=2)
        await first.ready(2)
        async with installation.fleet():
            await installation.tasks(20, pools=2)
            await installation.worked_off()
            monkeypatch.setenv("TMPDIR", str(tmp_path))
            second = installation.worker()
            assert await asyncio.to_thread(second.process.wait, 60) == 1
            assert second.log().splitlines()[-1].startswith("A worker named one works in the group")
            await installation.tasks(20, pools=2, first=20)
            await first.ready(2)
            await installation.worked_off()
        assert await first.stop() == 0, first.log()


async def test_the_tables_say_the_same_after_a_crash(installation: Installation) -> None:
    """Rows come back from the changelog and go on from the journal, without counting anything twice."""
    worker = installation.worker(instance_id="one")
    await installation.slots(2, pools=2)
    await worker.ready(2)
    async with installation.fleet():
        for n in range(40):
            await installation.task(f"t-{n}", f"pool-{n % 2}", ev=float(n))
        await installation.worked_off()

        def rows() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = worker.get("/tables/ev_percentiles")["rows"]
            return found

        async def counted(samples: int) -> bool:
            return bool(sum(row["samples_1h"] for row in rows()) == samples)

        async def restored() -> bool:  # row by row: what is asked for in between has some of them
            return rows() == before

        await until("the tables have caught up", functools.partial(counted, 40))
        before = rows()
        await worker.kill()
        worker = installation.worker(instance_id="one")
        await worker.ready(2)
        await until("the tables say the same", restored)
        await installation.task("t-40", "pool-0", ev=40.0)
        await until("the next value is counted too", functools.partial(counted, 41))
    busy = worker.get("/tables/utilisation")["rows"]
    assert {row["slot_id"] for row in busy} == {f"haiku-{pool}-{n}" for pool in range(2) for n in range(2)}
    assert worker.get("/tables/nonsense")["error"].startswith("There is no table")


async def test_a_worker_outlives_its_broker(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    """The broker is killed and started again: the same process goes on, with nothing lost or doubled."""
    async with Installation(apache_kafka.address, tmp_path) as installation:
        worker = installation.worker()
        await installation.slots(1, pools=2)
        await worker.ready(2)
        async with installation.fleet():
            await installation.tasks(40, pools=2)
            await asyncio.to_thread(apache_kafka.kill)
            await asyncio.to_thread(apache_kafka.start)
            await installation.tasks(40, pools=2, first=40)
            found = await installation.worked_off()
            await installation.outputs_agree(await installation.sound())
        assert sum(len(one.finished) for one in found) == 80
        assert await worker.stop() == 0, worker.log()


async def test_a_checkpoint_carries_over_what_the_journal_has_forgotten(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """And without one, a worker refuses to route from an empty state."""
    changes = {"checkpoint_changes_min": 50, "step_inputs_max": 10}
    async with Installation(apache_kafka.address, tmp_path, partitions=1, **changes) as installation:
        worker = installation.worker()
        await installation.tasks(200, pools=1)
        await worker.ready(1)
        await installation.sound()

        async def checkpointed() -> list[int]:
            records = await installation.records(installation.names.checkpoint)
            return [json.loads(record.value)["offset"] for record in records if record.key.endswith(b"head")]

        reached = max(await until("there is a checkpoint", checkpointed))
        assert await worker.stop() == 0, worker.log()
        cut(installation, installation.names.journal, reached)
        worker = installation.worker()
        await worker.ready(1)
        await installation.tasks(10, pools=1, first=200)
        positions = [
            offset
            for record in await installation.records(installation.names.journal)
            for _, offset, _ in json.loads(record.value)["inputs"]
        ]

        async def goes_on() -> bool:
            journal = await installation.records(installation.names.journal)
            # Where the checkpoint reached the end, nothing is left of the journal until the next step.
            taken = [one for record in journal for one in json.loads(record.value)["inputs"]]
            return any((topic, offset) == (0, 209) for topic, offset, _ in taken)

        await until("the last task is handled", goes_on)
        assert len(positions) == len(set(positions))
        assert await worker.stop() == 0, worker.log()
        for slot in (b"A", b"B"):
            await (await installation._broker.send(installation.names.checkpoint, 0, b"torn", key=b"0/%b/head" % slot))
        worker = installation.worker()
        assert await asyncio.to_thread(worker.process.wait, 60) == 1
        assert "no checkpoint reaches it" in worker.log_file.read_text().splitlines()[-1]


def cut(installation: Installation, topic: str, offset: int) -> None:
    """Delete the records of partition 0 before an offset, as retention does."""
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=installation.settings.broker)) as admin:
        admin.delete_records({KafkaTopicPartition(topic, 0): offset})


async def test_a_journal_that_was_deleted_is_not_begun_again_without_a_word(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """Stopped or running, with the checkpoints or without: the worker ends and says what helps, and that does."""
    async with Installation(apache_kafka.address, tmp_path) as installation:
        names, settings = installation.names, installation.settings
        worker = installation.worker()
        await installation.tasks(20, pools=2)
        await worker.ready(2)
        await installation.sound()

        async def kept() -> bool:
            known = [ProgressGroup(installation._broker, names, f"{settings.group}-publisher", 2)]
            await known[0].start()
            try:
                return all([await known[0].of(partition).journal_id() for partition in range(2)])
            finally:
                await known[0].stop()

        await until("the journal's id is committed", kept)
        assert await worker.stop() == 0, worker.log()
        for doomed in ([names.journal], [names.journal, names.checkpoint]):
            await asyncio.to_thread(create_again, installation, doomed)
            worker = installation.worker()
            assert await asyncio.to_thread(worker.process.wait, 60) == 1
            said = worker.log_file.read_text().splitlines()[-1]
            assert "it was deleted and created again" in said
            assert "`slotwise topics renew`" in said
            assert not await installation.records(names.journal)
        refused = await asyncio.to_thread(renew, installation, "another")
        assert (refused.returncode, "confirm with the group's name" in refused.stderr) == (2, True), refused.stderr
        await until("no worker is in the group", functools.partial(renewed, installation))
        installation.sent.clear()
        worker = installation.worker()
        await worker.ready(2)
        await installation.tasks(4, pools=2, first=100)
        await installation.sound()
        await asyncio.to_thread(create_again, installation, [names.journal])
        await installation.tasks(4, pools=2, first=200)
        assert await asyncio.to_thread(worker.process.wait, 60) == 1
        said = worker.log_file.read_text().splitlines()[-1]
        assert "deleted" in said
        assert "`slotwise topics renew`" in said


def create_again(installation: Installation, doomed: list[str]) -> None:
    """Delete topics and create them again."""
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=installation.settings.broker)) as admin:
        admin.delete_topics(doomed)
    while True:
        with contextlib.suppress(TopicsError):
            if set(create_topics(installation.settings)) >= set(doomed):
                return


def renew(installation: Installation, group: str) -> subprocess.CompletedProcess[str]:
    """Give the command that the sentences name."""
    return slotwise("topics", "renew", "--confirm", group, env=settings_in_environment(installation.settings))


async def renewed(installation: Installation) -> bool:
    """Whether all topics could be created again; else a worker is still in the group."""
    done = await asyncio.to_thread(renew, installation, installation.settings.group)
    assert done.returncode == 0 or "workers are in the group" in done.stderr, done.stderr
    return done.returncode == 0
