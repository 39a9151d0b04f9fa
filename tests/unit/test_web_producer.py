"""The producer of the HTTP API: what it calls sent has been acknowledged, and what was not is said."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import RecordMetadata, TopicPartition

from streams.operate.producer import EventProducer, NotTaken, Place
from streams.settings import Settings
from streams.topics import home_of
from tests.support.partition_world import until


class Batch:
    """Records of a producer's batch; it has room for two."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **_: Any) -> object | None:
        """Take a record, where there is room."""
        if len(self.values) == 2:
            return None
        self.values.append(value)
        return self

    def record_count(self) -> int:
        """How many there are."""
        return len(self.values)


class Client:
    """Stands for aiokafka's producer: it takes what is sent, and the test acknowledges."""

    made: ClassVar[list[Client]] = []

    def __init__(self, **options: Any) -> None:
        self.options = options
        #: Values, partition and what is to be resolved, of each request.
        self.sent: list[tuple[list[bytes], int | None, asyncio.Future[RecordMetadata]]] = []
        Client.made.append(self)

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def send(self, *, value: bytes, **_: Any) -> asyncio.Future[RecordMetadata]:
        """Take a record."""
        return self._taken([value], None)

    async def send_and_wait(self, **record: Any) -> RecordMetadata:
        """Take a record, and wait for its acknowledgement."""
        return await (await self.send(**record))

    def create_batch(self) -> Batch:
        """Begin a batch."""
        return Batch()

    async def send_batch(self, batch: Batch, _topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        """Take a batch."""
        return self._taken(batch.values, partition)

    def acknowledge(self, number: int, offset: int = 7) -> None:
        """Let the broker answer a request."""
        place = TopicPartition("t", 3)
        self.sent[number][2].set_result(RecordMetadata("t", 3, place, offset, None, 0, 0))

    def _taken(self, values: list[bytes], partition: int | None) -> asyncio.Future[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        self.sent.append((values, partition, future))
        return future


@pytest.fixture(name="producer")
def _producer(monkeypatch: pytest.MonkeyPatch) -> EventProducer:
    Client.made.clear()
    monkeypatch.setattr("streams.operate.producer.AIOKafkaProducer", Client)
    return EventProducer(Settings(partitions=4))


def record(pool: str, value: str) -> dict[str, Any]:
    """Make the arguments of a record."""
    return {"topic": "t", "key": pool.encode(), "value": value.encode(), "headers": []}


async def test_a_record_is_sent_when_the_broker_has_acknowledged_it(producer: EventProducer) -> None:
    """Not before; all replicas have to have it."""
    sending = asyncio.create_task(producer.send(record("a", "1")))
    await until(lambda: bool(Client.made and Client.made[0].sent))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not sending.done()
    (client,) = Client.made
    assert client.options["acks"] == "all"
    client.acknowledge(0)
    assert await sending == Place("t", 3, 7)


async def test_a_list_is_sent_when_every_batch_is_acknowledged(producer: EventProducer) -> None:
    """Each record goes to the partition of its key, in order; one batch that is open leaves the list open."""
    pools = ["a", "c", "a", "a", "c"]
    sending = asyncio.create_task(producer.send_all([record(pool, str(n)) for n, pool in enumerate(pools)]))
    await until(lambda: bool(Client.made) and len(Client.made[0].sent) == 3)
    (client,) = Client.made
    home = home_of(4)
    assert home(b"a") != home(b"c")
    assert [(values, partition) for values, partition, _ in client.sent] == [
        ([b"0", b"2"], home(b"a")),
        ([b"3"], home(b"a")),
        ([b"1", b"4"], home(b"c")),
    ]
    client.acknowledge(0)
    client.acknowledge(2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not sending.done()
    client.acknowledge(1)
    assert await sending == {home(b"a"): 3, home(b"c"): 2}


async def test_what_the_broker_refuses_is_not_sent(producer: EventProducer) -> None:
    """The sentence says that it may be sent again."""
    for records in ([record("a", "1")], [record("a", "1"), record("b", "2")]):
        sending = asyncio.create_task(producer.send_all(records) if len(records) > 1 else producer.send(records[0]))
        await until(lambda: bool(Client.made and Client.made[0].sent))
        for _, _, future in Client.made[0].sent:
            future.set_exception(KafkaConnectionError("gone"))
        with pytest.raises(NotTaken, match="send it again"):
            await sending
        Client.made[0].sent.clear()
