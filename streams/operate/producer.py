"""A producer of events for programs that run long: each record counts as sent when the broker has acknowledged it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas.record import Record
from streams.access.security import client_options
from streams.errors import UNREACHABLE, SlotwiseError
from streams.kafka.client import send_batches
from streams.settings import Settings
from streams.topics import home_of

#: A record that is not acknowledged in this time counts as not sent.
CONFIRM_S_MAX: Final = 10.0
#: Records that come while a partition has a request under way go to the broker together; one that comes alone goes at
#: once.
BATCH_BYTES_MAX: Final = 262_144


class NotTaken(SlotwiseError):
    """The broker did not acknowledge a record; the message says that it may be sent again."""

    exit_code = UNREACHABLE


class Place(Struct, frozen=True):
    """The place of a record on the broker."""

    topic: str
    partition: int
    offset: int


class EventProducer:
    """Sends records of events, as `records_of` makes them, over one connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._home = home_of(settings.partitions)

    async def send(self, record: Mapping[str, Any]) -> Place:
        """Send a record, and return its place when it is acknowledged.

        Raises:
            NotTaken: the broker does not answer, or refuses; what was sent twice is recognised by its id.
        """
        with self._taken():
            async with asyncio.timeout(CONFIRM_S_MAX):
                one = await (await self._started()).send_and_wait(**record)
        return Place(one.topic, one.partition, one.offset)

    async def send_all(self, records: Iterable[Mapping[str, Any]]) -> dict[int, int]:
        """Send records with keys, in batches; return how many each partition has when all are acknowledged.

        Raises:
            NotTaken: as `send`; some may have been acknowledged.
        """
        by_place: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            place = (record["topic"], self._home(record["key"]))
            by_place.setdefault(place, []).append(Record(record["key"], record["value"], tuple(record["headers"])))
        with self._taken():
            async with asyncio.timeout(CONFIRM_S_MAX):
                producer = await self._started()
                sent = [one for place, some in by_place.items() for one in await send_batches(producer, *place, some)]
                await asyncio.gather(*sent)
        return {partition: len(some) for (_, partition), some in by_place.items()}

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    @contextmanager
    def _taken(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, OSError, TimeoutError) as error:
            raise NotTaken(
                f"The broker at {self._settings.broker} did not acknowledge it ({error or type(error).__name__}): "
                "send it again; what comes twice is recognised by its id."
            ) from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    client_id=f"{self._settings.group}-http",
                    acks="all",
                    max_batch_size=BATCH_BYTES_MAX,
                    request_timeout_ms=int(CONFIRM_S_MAX * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
