"""`slotwise replay --verify` and `journal export` on a real broker: every step is the same, and nothing is written."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from schemas.vocabulary import INPUT_TOPICS
from streams.kafka.client import Broker
from streams.settings import Settings
from streams.topics import create_topics, names, open_admin
from streams.topics import topics as all_topics
from tests.functional.commands import slotwise
from tests.integration.test_audit import House
from tests.support.recorded import Recorded
from tests.unit.test_recordings import POOLS, history

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess


@pytest.fixture
async def settings(tansu: str) -> Settings:
    """Give topics with the histories of two partitions."""
    name = f"t{uuid.uuid4().hex[:8]}"
    settings = Settings(broker=tansu, topic_prefix=f"{name}.", group=name, partitions=2)
    create_topics(settings)
    known, broker = names(settings), Broker(settings)
    async with broker:
        for partition, pool in enumerate(POOLS):
            recorded = Recorded(history(pool), partition)
            for topic, log in zip(INPUT_TOPICS, recorded.inputs, strict=True):
                for record in log.records:
                    sent = broker.send(known.of(topic), partition, record.value, key=record.key)
                    await (await sent)
            for record in recorded.journal.log.records:
                await broker.append(known.journal, partition, record.value or b"")
    return settings


async def ends(settings: Settings) -> dict[tuple[str, int], tuple[int, int]]:
    """Where every partition of every topic begins and ends."""
    async with Broker(settings) as broker:
        return {
            (topic.name, partition): await broker.bounds(topic.name, partition)
            for topic in all_topics(settings)
            for partition in range(topic.partitions)
        }


def command(settings: Settings, *words: str) -> CompletedProcess[str]:
    """Run a command on these topics."""
    topics = ("--topic-prefix", settings.topic_prefix, "--group", settings.group, "--partitions", "2")
    return slotwise(*words, "--broker", settings.broker, *topics, "--json")


async def test_topics_and_their_recording_are_verified_and_nothing_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    """Side by side, one partition alone, a recording without the broker, and where a run ended."""
    before = await ends(settings)
    with open_admin(settings) as admin:
        groups = {one["group_id"] for one in admin.list_groups()}
    # 1. Both partitions, by processes of their own.
    both = command(settings, "replay", "--verify", "--jobs", "2", "--resume", str(tmp_path / "state"))
    assert both.returncode == 0, both.stderr
    report = json.loads(both.stdout)
    assert [(one["partition"], one["steps"]) for one in report["partitions"]] == [(0, 5), (1, 5)]
    # 2. The same again has nothing to do.
    again = command(settings, "replay", "--verify", "--jobs", "1", "--resume", str(tmp_path / "state"))
    (first, _) = json.loads(again.stdout)["partitions"]
    assert (first["steps"], first["earlier_decisions"]) == (5, first["decisions"])
    # 3. From files, without the broker.
    exported = command(settings, "journal", "export", str(tmp_path / "r"))
    assert exported.returncode == 0, exported.stderr
    recording = ("replay", "--verify", "--recording", str(tmp_path / "r"), "--jobs", "1", "--from", "2", "--json")
    alone = slotwise(*recording, "--broker", "127.0.0.1:1")
    assert alone.returncode == 0, alone.stderr
    assert [(one["first_seq"], one["steps"]) for one in json.loads(alone.stdout)["partitions"]] == [(2, 3), (2, 3)]
    # 4. Nothing was written, and no group was made.
    assert await ends(settings) == before
    with open_admin(settings) as admin:
        assert {one["group_id"] for one in admin.list_groups()} == groups


async def test_a_step_that_was_changed_is_named(settings: Settings, tmp_path: Path) -> None:
    """In a file of the sink's form, whose inputs are on the topics."""
    lines = [
        b'{"offset":%d,"sha256":"","chain":"","step":%s}\n' % (record.offset, record.value or b"")
        for partition, pool in enumerate(POOLS)
        for record in Recorded(history(pool), partition).journal.log.records
    ]
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b"".join(lines))
    same = command(settings, "replay", "--verify", "--recording", str(file), "--jobs", "1")
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["steps"] == 10
    file.write_bytes(b"".join(lines).replace(b'"chosen_slot_id":"haiku-1"', b'"chosen_slot_id":"haiku-2"', 1))
    changed = command(settings, "replay", "--verify", "--recording", str(file), "--jobs", "1")
    assert changed.returncode == 1
    (difference, _) = (one["difference"] for one in json.loads(changed.stdout)["partitions"])
    assert (difference["path"], difference["journaled"]) == ("decisions[0].chosen_slot_id", "haiku-2")


async def test_verified_steps_are_compared_with_their_rows(tansu: str, database: str) -> None:
    """`slotwise replay --verify --stored`: hash, place and decisions of each step; another hash is named."""
    house = House(tansu, database)
    await house.fill()
    await house.keep(5)

    def replayed() -> tuple[int, Any]:
        where = ("--broker", house.settings.broker, "--database", house.settings.database.reveal())
        topics = ("--topic-prefix", house.settings.topic_prefix, "--group", house.settings.group, "--partitions", "1")
        ran = slotwise("replay", "--verify", "--stored", "--json", *where, *topics)
        assert ran.stdout, ran.stderr
        return ran.returncode, json.loads(ran.stdout)

    code, report = replayed()
    assert (code, report["stored"]) == (0, {"compared": 5, "absent": 0, "differing": 0, "says": []})
    house.ask("UPDATE journal_steps SET record_sha256 = sha256('other') WHERE seq = 2")
    house.ask("DELETE FROM journal_steps WHERE seq = 4")
    code, report = replayed()
    assert (code, report["same"], report["steps"]) == (1, False, 5)
    assert (report["stored"]["compared"], report["stored"]["absent"], report["stored"]["differing"]) == (4, 1, 1)
    assert report["stored"]["says"][0].startswith("Partition 0, step 2: the record at offset 2 is another than")
