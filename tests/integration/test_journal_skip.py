"""A foreign record in the journal stops worker and sink with a sentence; the command that it names lets them go on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas.skips import Skip, encode_skip
from streams.audit.installation import audit_installation
from streams.audit.report import Report
from streams.database.migrations import migrate
from streams.local.own_parts import environment as settings_in_environment
from streams.operate.parts import journal_ends
from streams.operate.verifying import deriving
from streams.partition.skips import hash_of
from streams.secret import Dsn
from streams.settings import NAMELESS, Settings
from streams.shipped import file_rulebook
from tests.functional.commands import environment, slotwise
from tests.support.installation import Installation, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

FOREIGN = b'{"order": 17, "customer": "acme"}'


@pytest.fixture
async def installation(
    broker: ApacheKafka | EmbeddedBroker, database: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    """One partition on each kind of broker, with an audit database."""
    instance_id = "" if broker.durable else NAMELESS
    await asyncio.to_thread(migrate, database)
    async with Installation(broker.address, tmp_path, 1, instance_id=instance_id, database=Dsn(database)) as made:
        yield made


async def append(installation: Installation, value: bytes) -> int:
    """Write to the journal's topic as a misdirected producer does; return the offset."""
    async with AIOKafkaProducer(bootstrap_servers=installation.settings.broker) as producer:
        return int((await producer.send_and_wait(installation.names.journal, value, partition=0)).offset)


def command(installation: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `slotwise journal` as a person would."""
    return slotwise("journal", *words, env=settings_in_environment(installation.settings))


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process to end by itself."""
    return await asyncio.to_thread(process.wait, 60)


def sink(installation: Installation) -> subprocess.Popen[bytes]:
    """Start the Postgres sink; its sentences go to a file."""
    with (installation.folder / "sink.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "sink"],
            env=environment(settings_in_environment(installation.settings)),
            stdout=log,
            stderr=log,
        )


async def audited(settings: Settings) -> Report:
    """What the audit says, with every step derived again."""
    rules = file_rulebook(settings)
    async with deriving(settings, rules) as derive:
        return await audit_installation(settings, rules, wait_s=0.5, derive=derive)


async def test_a_foreign_record_is_skipped_by_the_command_and_all_go_on(installation: Installation) -> None:
    """The sentence, refusals, a note of another hash, the command; worker and sink go on, and the audit says it."""
    settings = installation.settings
    worker = installation.worker()
    await installation.slots(1, pools=1)
    await installation.tasks(4, pools=1)
    await worker.ready(1)
    await installation.sound()

    # 1. Nothing foreign: a step is refused.
    refused = command(installation, "skip", "0", "0", "--reason", "no", "--yes")
    assert (refused.returncode, "is step 0 of this partition" in refused.stderr) == (2, True), refused.stderr

    # 2. The foreign record stops the worker and the sink, with the command.
    offset = await append(installation, FOREIGN)
    await installation.tasks(2, pools=1, first=10)
    assert await ended(worker.process) != 0
    sentence = f"slotwise journal skip 0 {offset} --reason TEXT"
    assert sentence in worker.log()
    assert await ended(sink(installation)) != 0
    assert sentence in (installation.folder / "sink.log").read_text()

    # 3. A note with another hash changes nothing.
    wrong = Skip(skip=offset, partition=0, sha256=hash_of(b"another"), reason="guess", by="ops", at="now")
    await append(installation, encode_skip(wrong))
    worker = installation.worker()
    assert await ended(worker.process) != 0
    assert sentence in worker.log()

    # 4. The command, as the sentence says.
    asked = command(installation, "skip", "0", str(offset), "--reason", "a test producer")
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True), asked.stderr
    done = command(
        installation, "skip", "0", str(offset), "--reason", "a test producer", "--by", "ops", "--yes", "--json"
    )
    assert done.returncode == 0, done.stderr
    (note,) = json.loads(done.stdout)["skipped"]
    assert (note["skip"], note["sha256"], note["by"]) == (offset, hash_of(FOREIGN), "ops")
    shown = json.loads(command(installation, "show", "0", str(offset), "--json").stdout)
    assert (shown["skipped"]["reason"], shown["bytes"]) == ("a test producer", len(FOREIGN))
    again = command(installation, "skip", "0", str(offset), "--reason", "twice", "--yes", "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"skipped": []})

    # 5. All go on.
    worker = installation.worker()
    await worker.ready(1)
    await installation.tasks(2, pools=1, first=20)
    writing = sink(installation)
    try:

        async def told() -> Any:
            report = await audited(settings)
            handled = sum(sum(one.inputs.values()) for one in report.partitions)
            return report if report.sound and handled >= 9 else None

        report = await until("the audit is whole", told)
    finally:
        writing.terminate()
        await ended(writing)
    (partition,) = report.partitions
    assert (partition.skipped, partition.journal_id, partition.derived) == (1, note["journal"], partition.steps)
    # A note is no step, also where it is the last record.
    await append(installation, encode_skip(wrong))
    assert await journal_ends(settings, [0]) == {0: partition.steps}
    assert any(f"offset {offset}" in said and "a test producer (ops" in said for said in report.notes)
    assert await worker.stop() == 0, worker.log()
