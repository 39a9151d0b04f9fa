"""The wire of clients over Kafka. The broker is asked how many partitions it has: a client needs its address only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Final

from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError

from schemas.record import Record
from schemas.vocabulary import Millis
from streams.access.granted import AccessDenied
from streams.access.refusal import refusal, require_welcome
from streams.access.security import PLAIN
from streams.client.wire import PAUSE, NotSent, Place, Places
from streams.clock import SystemClock
from streams.kafka.client import Broker
from streams.settings import Settings
from streams.together import all_of
from streams.topics import BrokerUnreachable, TopicsError, home_of, names

_log = logging.getLogger(__name__)

#: A record that is not acknowledged in this time counts as not sent.
CONFIRM_S_MAX: Final = 15.0


class KafkaWire:
    """One installation on a broker: a `Wire`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._broker = Broker(settings)
        self._names = names(settings)
        self._clock = SystemClock()

    async def start(self) -> None:
        """Connect.

        Raises:
            SettingsError, BrokerRefused, BrokerUnreachable: one sentence with what to do.
        """
        try:
            await self._broker.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self._broker.stop()
            if self._settings.kafka_security == PLAIN:
                # It may be there, and want more.
                await asyncio.to_thread(require_welcome, self._settings)
            raise BrokerUnreachable(
                f"No broker answers at {self._settings.broker}: start it, or name where it listens ({error})."
            ) from error

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await self._broker.stop()

    def now_ms(self) -> Millis:
        """Return the time of this machine."""
        return self._clock.now_ms()

    async def sleep_until(self, at_ms: int) -> None:
        """Wait; a clock that is set meanwhile is looked at again by who called."""
        await asyncio.sleep(max(0, at_ms - self.now_ms()) / 1000)

    async def ends(self, topics: Collection[str]) -> Places:
        """Ask the broker for the ends.

        Raises:
            TopicsError: it has no such topic, or shows none to this process.
        """
        places = [Place(topic, number) for topic in topics for number in range(await self._partitions(topic))]
        bounds = await all_of(self._broker.bounds(self._names.of(one.topic), one.partition) for one in places)
        return {place: end for place, (_, end) in zip(places, bounds, strict=True)}

    async def past(self, topic: str, pool: str) -> AsyncGenerator[bytes | None, None]:
        """Read the pool's partition over a connection of its own."""
        name, partition = self._names.of(topic), home_of(await self._partitions(topic))(pool.encode())
        first, end = await self._broker.bounds(name, partition)
        async with aclosing(self._broker.read(name, partition, first, end)) as runs:
            async for records in runs:
                for record in records:
                    yield record.value

    async def read(self, places: Places) -> AsyncGenerator[tuple[str, bytes | None], None]:
        """Read over connections of its own.

        Raises:
            AccessDenied, BrokerRefused: the broker does not let this process read there, or takes it no more.
        """
        starts = {(self._names.of(one.topic), one.partition): offset for one, offset in places.items()}
        bare = {self._names.of(one.topic): one.topic for one in places}
        #: Where there is no such offset any more: retention has taken it, or the topic has started over.
        lost: set[tuple[str, int]] = set()
        failures = 0
        while True:
            try:
                for where in sorted(lost):
                    starts[where], _ = await self._broker.bounds(*where)
                    lost.discard(where)
                async with aclosing(self._broker.tails(starts)) as runs:
                    async for (topic, partition), records in runs:
                        failures = 0
                        for record in records:
                            yield bare[topic], record.value
                            starts[topic, partition] = record.offset + 1
            except TopicAuthorizationFailedError as error:
                raise self._denied("read", ", ".join(sorted(bare))) from error
            except OffsetOutOfRangeError as error:
                lost.update(error.args[0])
            except (KafkaError, OSError, TimeoutError) as error:
                await self._require_welcome(error)
                _log.warning(
                    "Reading from the broker at %s failed, and begins again: %r.", self._settings.broker, error
                )
                await asyncio.sleep(PAUSE.pause_s(failures))
                failures += 1

    async def send(self, topic: str, record: Record) -> None:
        """Write with acks of all replicas; the partition is that of Kafka's default partitioner.

        Raises:
            NotSent: the broker did not acknowledge it.
            AccessDenied, BrokerRefused: it does not let this process write there, or takes it no more.
        """
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                sent = await self._broker.send(
                    self._names.of(topic), None, record.value, key=record.key, headers=record.headers
                )
                await sent
        except TopicAuthorizationFailedError as error:
            raise self._denied("write to", self._names.of(topic)) from error
        except (KafkaError, OSError, TimeoutError) as error:
            await self._require_welcome(error)
            raise NotSent(
                f"The broker at {self._settings.broker} did not acknowledge a record "
                f"({error or type(error).__name__}): send it again; what comes twice is recognised by its id."
            ) from error

    async def _partitions(self, topic: str) -> int:
        name = self._names.of(topic)
        found = (await self._broker.partitions([name]))[name]
        if not found:
            raise TopicsError(
                f"The broker at {self._settings.broker} shows no topic {name}: create it (`slotwise topics create`), "
                "name the prefix that this installation has (SLOTWISE_TOPIC_PREFIX), or have the right to read it "
                "granted (`slotwise topics acls`)."
            )
        return found

    async def _require_welcome(self, error: Exception) -> None:
        """Raise the broker's refusal, where it takes this process no more."""
        if self._settings.kafka_security != PLAIN and (refused := await refusal(self._settings)) is not None:
            raise refused from error

    def _denied(self, what: str, topics: str) -> AccessDenied:
        return AccessDenied(
            f"The broker at {self._settings.broker} does not let this process {what} {topics}: have the right granted; "
            "`slotwise topics acls` prints what each part needs."
        )
