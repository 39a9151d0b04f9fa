"""What one partition's worker needs from outside, as small protocols.

The journal is one partition of `decision.audit`: one step a record, read by the rule "the first record that carries
the next `seq` wins". Nothing here decides; nothing here knows Kafka. `streams/kafka/` implements these protocols,
`memory.py` holds their in-memory twins, and one contract suite holds both to account.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from schemas.vocabulary import Millis
from streams.errors import SlotwiseError

if TYPE_CHECKING:
    from schemas.events import Tick

#: What we call ourselves in the `ce_source` of the events that we write.
SOURCE = "slotwise/router"


class JournalError(SlotwiseError):
    """The journal cannot be trusted to continue from; a person must look. The message says at what."""


class Raw(Protocol):
    """A record as a broker delivers it."""

    @property
    def offset(self) -> int:
        """Place in its partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; negative where the record has none."""

    @property
    def key(self) -> bytes | None:
        """As sent."""

    @property
    def value(self) -> bytes | None:
        """As sent."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """As sent."""


class Entry(Struct, frozen=True, gc=False):
    """One record of the journal."""

    offset: int
    value: bytes


class Letter(Struct, frozen=True, gc=False):
    """An input that was refused, on its way to the dead-letter topic."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    raw: Raw
    reason: str


class JournalPosition(Struct, frozen=True, gc=False):
    """A place in a journal: the next record is at `offset`, the next step is number `seq`."""

    offset: int
    seq: int


class Checkpoint(Struct, frozen=True, gc=False):
    """The state of a partition as it was before the step that `mark` names."""

    mark: JournalPosition
    at_ms: int
    chunks: tuple[bytes, ...]


class Journal(Protocol):
    """The steps of one partition."""

    async def append(self, value: bytes) -> int:
        """Write one record durably and return its offset. When this raises, the outcome is unknown."""

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset still kept and the offset that the next record will have."""

    def read(self, start: int, end: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Yield the records from `start` up to, not including, `end`, in runs."""


class Inputs(Protocol):
    """A second way to the input topics of one partition, for what the first did not deliver."""

    async def read(self, topic: int, start: int, end: int, limit: int) -> Sequence[Raw]:
        """Return the records that exist from `start` up to, not including, `end`; the first `limit` of them."""


class DeadLetters(Protocol):
    """Where refused inputs go."""

    async def write(self, letters: Sequence[Letter]) -> None:
        """Return when all of them are durable."""


class Ticks(Protocol):
    """The lane's own way to say that time passes."""

    async def send(self, tick: Tick, now_ms: Millis) -> None:
        """Put the tick into this partition of `fleet.control`."""


class Checkpoints(Protocol):
    """Pictures of a partition's state, for starting faster than from the journal's beginning."""

    async def load(self) -> Sequence[Checkpoint]:
        """Return the complete ones, newest first."""

    async def save(self, mark: JournalPosition, chunks: Iterable[bytes]) -> None:
        """Write a picture without holding up the event loop."""
