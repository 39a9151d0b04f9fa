"""What a worker refuses: bad records, to the dead letters, and starts that could not be right, with a sentence."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from kafka import KafkaProducer
from msgspec.structs import replace

from streams.host import free_port
from streams.settings import Settings
from tests.support.installation import Installation, Worker, until

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker


async def test_poison_goes_to_the_dead_letters_and_the_next_task_is_routed(
    broker: ApacheKafka | EmbeddedBroker, tmp_path: Path
) -> None:
    """Raw bytes, reason and position; the neighbours are handled."""
    poison = [b"", b"\x00\xff", b'{"task_id":1}', b"[" * 5000, b'{"task_id":"a","pool":"other","at":"never"}', b"1e999"]
    async with Installation(broker.address, tmp_path) as installation:
        worker = installation.worker()
        await installation.slot("haiku-1", "main")
        for value in poison:
            await installation.send("task.pending", value, b"main")
        await asyncio.to_thread(send_nameless_header, installation)
        home = installation.home(b"main")
        await installation.task("t-1", "main")
        await worker.ready(2)
        found = await installation.sound()
        await installation.outputs_agree(found)
        assert [one["task_id"] for one in found[home].decisions if one["outcome"] == "routed"] == ["t-1"]
        letters = await installation.records(installation.names.dead("task.pending"))
    assert [letter.value for letter in letters] == [*poison, b"nameless"]
    for offset, letter in enumerate(letters):
        headers = dict(letter.headers)
        assert headers["__streams.errors.topic"] == b"task.pending"
        assert headers["__streams.errors.offset"] == b"%d" % offset
        assert headers["__streams.errors.message"].decode() == found[home].rejected["task.pending", offset]


class Nameless(str):
    """A header name that is no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """Bytes that no encoding gives."""
        return b"\xff\xfe"


def send_nameless_header(installation: Installation) -> None:
    """Only some clients let one send it; every broker takes it."""
    with contextlib.closing(KafkaProducer(bootstrap_servers=installation.settings.broker)) as producer:
        topic = installation.names.of("task.pending")
        producer.send(
            topic, b"nameless", b"main", headers=[(Nameless("x"), b"v")], partition=installation.home(b"main")
        ).get(10)


async def refused(settings: Settings, folder: Path, *, want_code: int = 2) -> str:
    """Start a worker that must refuse; return what it says."""
    worker = Worker(settings, folder / "worker.log")
    worker.start()

    async def ended() -> bool:
        return worker.process.poll() is not None

    await until("the worker has ended", ended)
    assert worker.process.returncode == want_code
    (sentence,) = worker.log_file.read_text().splitlines()
    return sentence


async def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """One sentence and an exit code."""
    port = free_port()
    said = await refused(Settings(broker=f"127.0.0.1:{port}", web_port=free_port()), tmp_path, want_code=3)
    assert said.startswith(f"No broker answers at 127.0.0.1:{port}: start it")


async def test_missing_topics_and_other_partition_counts_stop_the_start(tansu: str, tmp_path: Path) -> None:
    """Another count would split the history of a pool."""
    async with Installation(tansu, tmp_path) as installation:
        port = free_port()
        said = await refused(replace(installation.settings, topic_prefix="nothing.", web_port=port), tmp_path)
        assert "has no topic nothing.task.pending" in said
        (tmp_path / "worker.log").unlink()
        said = await refused(replace(installation.settings, partitions=3, web_port=port), tmp_path)
        assert "has 2 partitions and slotwise is set to 3" in said


async def test_a_name_that_another_worker_has_stops_the_start(tansu: str, tmp_path: Path) -> None:
    """One sentence, before it takes anything away from the first."""
    async with Installation(tansu, tmp_path, instance_id="one") as installation:
        await installation.worker().ready(2)
        said = await refused(replace(installation.settings, web_port=free_port()), tmp_path)
        assert said.startswith("A worker named one in the group")
