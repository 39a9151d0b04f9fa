"""A producer of events for programs that run long: each record counts as sent when the broker has acknowledged it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from streams.access.security import client_options
from streams.errors import UNREACHABLE, SlotwiseError
from streams.settings import Settings

#: A record that is not acknowledged in this time counts as not sent.
CONFIRM_S_MAX: Final = 10.0
#: Records that come within this time go to the broker together.
LINGER_MS: Final = 1


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

    async def send(self, records: Iterable[dict[str, Any]]) -> list[Place]:
        """Send records, and return their places when all of them are acknowledged.

        Raises:
            NotTaken: the broker does not answer, or refuses; what was sent twice is recognised by its id.
        """
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                producer = await self._started()
                sent = [await producer.send(**record) for record in records]
                return [Place(one.topic, one.partition, one.offset) for one in await asyncio.gather(*sent)]
        except (KafkaError, OSError, TimeoutError) as error:
            raise NotTaken(
                f"The broker at {self._settings.broker} did not acknowledge it ({error or type(error).__name__}): "
                "send it again; what comes twice is recognised by its id."
            ) from error

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    client_id=f"{self._settings.group}-http",
                    acks="all",
                    linger_ms=LINGER_MS,
                    request_timeout_ms=int(CONFIRM_S_MAX * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
