"""What clients need of a broker: read some topics from a place on, write events, and a clock. Kafka, or memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from schemas.record import Record
from schemas.vocabulary import Millis
from streams.backoff import Backoff
from streams.errors import UNREACHABLE, SlotwiseError

#: Between two tries of what a broker that is away will do once it is back.
PAUSE: Final = Backoff(0.2, 5.0)


class Place(NamedTuple):
    """A partition of a topic; topics by their bare names, without the prefix of an installation."""

    topic: str
    partition: int


#: The offset of the next record, by place.
Places: TypeAlias = Mapping[Place, int]


class NotSent(SlotwiseError):
    """The broker did not acknowledge a record; the message says why, and that it may be sent again."""

    exit_code = UNREACHABLE


class Wire(Protocol):
    """A connection to one installation. It is used within one event loop, and reconnects by itself."""

    async def start(self) -> None:
        """Connect.

        Raises:
            SlotwiseError: no broker answers, it refuses, or it has no topics of slotwise; one sentence with what to do.
        """

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""

    def now_ms(self) -> Millis:
        """Return the time."""

    async def sleep_until(self, at_ms: int) -> None:
        """Return when it is that late."""

    async def ends(self, topics: Collection[str]) -> Places:
        """Return the end of every partition of some topics: a record that is sent from now on is not before it."""

    def past(self, topic: str, pool: str) -> AsyncGenerator[bytes | None, None]:
        """Yield the values of a pool's partition, from its beginning to its present end."""

    def read(self, places: Places) -> AsyncGenerator[tuple[str, bytes | None], None]:
        """Yield topic and value of the records from these places on, as they come; it ends with its reader.

        What a broker has forgotten is passed over. Topics that have started over are read from their beginning.

        Raises:
            SlotwiseError: the broker does not let this process read, or takes it no more.
        """

    async def send(self, topic: str, record: Record) -> None:
        """Write a record to the partition of its key, and return when it is acknowledged.

        Raises:
            NotSent: it was not, or that is not known.
        """
