"""`slotwise sink --to FILE`: every step is a line once, over a kill, half a line and restarts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer

from schemas.steps import encode_step
from streams.local.own_parts import environment
from streams.local.process import plain_environment
from streams.settings import Settings
from streams.sinks.records import KafkaRecords
from streams.topics import create_topics
from tests.functional.commands import DEADLINE_S, until
from tests.support.builders import decision, step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

PARTITIONS = 2


class Scene:
    """A journal's topic on a broker, and the sink as a process."""

    def __init__(self, address: str, folder: Path) -> None:
        self.settings = Settings(
            broker=address,
            topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
            group=f"g{uuid.uuid4().hex[:8]}",
            partitions=PARTITIONS,
            rebalance_timeout_s=1.0,
            sink_rows_max=20,
            data_dir=str(folder),
        )
        create_topics(self.settings)
        self.file = folder / "journal.jsonl"
        self._next = 0

    def append(self, steps: int) -> None:
        """Append so many steps to each partition."""
        asyncio.run(self._append(steps))

    async def _append(self, steps: int) -> None:
        topic = f"{self.settings.topic_prefix}decision.audit"
        async with AIOKafkaProducer(bootstrap_servers=self.settings.broker, acks="all") as producer:
            for seq in range(self._next, self._next + steps):
                for partition in range(PARTITIONS):
                    one = step(seq, decision(of=seq, task_id=f"t-{partition}-{seq}"), partition=partition)
                    await producer.send_and_wait(topic, encode_step(one), partition=partition)
        self._next += steps

    @contextmanager
    def sink(self, to: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run the command; it is killed on the way out, if it still runs."""
        with subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "sink", "--to", to or str(self.file)],
            env=plain_environment() | environment(self.settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def lines(self) -> list[dict[str, Any]]:
        """Read the whole lines of the file."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_bytes().split(b"\n")[:-1]]

    def assert_whole(self) -> None:
        """Each step of each partition is there once and in order, and every hash holds."""
        raw = self.file.read_bytes()
        assert raw.endswith(b"}\n")
        for partition in range(PARTITIONS):
            chain, seqs = bytes(32), []
            for line in raw.splitlines():
                read = json.loads(line)
                if read["step"]["partition"] == partition:
                    value = line.partition(b',"step":')[2][:-1]
                    sha256 = hashlib.sha256(value).digest()
                    chain = hashlib.sha256(chain + sha256).digest()
                    assert (read["sha256"], read["chain"]) == (sha256.hex(), chain.hex())
                    seqs.append(read["step"]["seq"])
            assert seqs == list(range(self._next))


def test_every_step_is_a_line_once_over_a_kill_and_restarts(
    broker: EmbeddedBroker | ApacheKafka, tmp_path: Path
) -> None:
    """Killed in its work, with half a line left behind, and started again: nothing is missing and nothing twice."""
    scene = Scene(broker.address, tmp_path)
    scene.append(60)
    with scene.sink() as sink:
        until(lambda: len(scene.lines()) >= PARTITIONS * 30, "the first lines")
        sink.send_signal(signal.SIGKILL)
        sink.wait()
    content = scene.file.read_bytes()
    scene.file.write_bytes(content[:-30])
    scene.append(40)
    with scene.sink() as sink:
        until(lambda: len(scene.lines()) == PARTITIONS * 100, "all lines")
        sink.terminate()
        assert sink.wait(DEADLINE_S) == 0, sink.stderr and sink.stderr.read()
    scene.assert_whole()
    with scene.sink() as sink:
        scene.append(1)
        until(lambda: len(scene.lines()) == PARTITIONS * 101, "the lines after a restart in good order")
    scene.assert_whole()


async def test_a_journal_ends_behind_its_last_batch(broker: EmbeddedBroker | ApacheKafka, tmp_path: Path) -> None:
    """Else the place of a sink behind a batch would be beyond the end, and the journal taken for another one."""
    scene = Scene(broker.address, tmp_path)
    topic = f"{scene.settings.topic_prefix}decision.audit"
    async with AIOKafkaProducer(bootstrap_servers=scene.settings.broker, acks="all") as producer:
        batch = producer.create_batch()
        for seq in range(3):
            batch.append(key=None, value=encode_step(step(seq, partition=1)), timestamp=None)
        await (await producer.send_batch(batch, topic, partition=1))
    records = KafkaRecords(scene.settings, topic=topic, group=f"{scene.settings.group}-sink-lines-test")
    try:
        assert [await records.bounds(partition) for partition in range(PARTITIONS)] == [(0, 0), (0, 3)]
    finally:
        await records.close()


def test_a_second_sink_of_a_file_is_refused(tansu: str, tmp_path: Path) -> None:
    """Two writers would mix their lines; two files are two sinks, and each gets every partition."""
    scene = Scene(tansu, tmp_path)
    scene.append(3)
    with scene.sink():
        until(lambda: len(scene.lines()) == PARTITIONS * 3, "the lines")
        with scene.sink() as second:
            assert second.wait(DEADLINE_S) == 2
            assert second.stderr is not None
            assert b"Another sink writes to" in second.stderr.read()
        other = tmp_path / "other.jsonl"
        with scene.sink(str(other)):
            until(lambda: other.exists() and other.read_bytes().count(b"\n") == PARTITIONS * 3, "the other's lines")


def test_standard_output_begins_with_the_journal(tansu: str, tmp_path: Path) -> None:
    """Each run gives every step from the first on; when its reader has read enough, the sink ends."""
    scene = Scene(tansu, tmp_path)
    scene.append(2)
    for _ in range(2):
        with scene.sink("-") as sink:
            assert sink.stdout is not None
            read = [json.loads(sink.stdout.readline())["step"] for _ in range(PARTITIONS * 2)]
            assert sorted((one["partition"], one["seq"]) for one in read[:4]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with scene.sink("-") as sink:
        assert sink.stdout is not None
        sink.stdout.readline()
        sink.stdout.close()
        scene.append(1)
        assert sink.wait(DEADLINE_S) == 0, sink.stderr and sink.stderr.read().decode()
