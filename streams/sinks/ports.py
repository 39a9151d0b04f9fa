"""Values and ports of a follower of the journal: records, steps, positions, and the ports `Records` and `Store`.

Knows nothing of Kafka, Postgres or files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from streams.errors import SlotwiseError
from streams.sinks.audit_step import AuditStep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence


class JournalRecord(Struct, frozen=True):
    """One record of the journal's topic, as it was delivered."""

    partition: int
    offset: int
    #: Its timestamp.
    at_ms: int
    value: bytes | None


class SinkPosition(Struct, frozen=True):
    """The last step of a partition that a store holds."""

    seq: int
    offset: int
    sha256: bytes
    chain: bytes
    #: Id of the journal that the step is of; None: of one without.
    journal_id: str | None = None


#: Before the first step. The first hash of every chain is linked to zeros.
BEFORE_FIRST: Final = SinkPosition(seq=-1, offset=-1, sha256=b"", chain=bytes(32))


class JournaledStep(Struct, frozen=True):
    """A step that counts, with the record it came in and its link in the chain of hashes."""

    step: AuditStep
    offset: int
    at_ms: int
    raw: bytes
    sha256: bytes
    chain: bytes

    @property
    def position(self) -> SinkPosition:
        """Return the position of a store whose last step this is."""
        return SinkPosition(
            seq=self.step.seq,
            offset=self.offset,
            sha256=self.sha256,
            chain=self.chain,
            journal_id=self.step.journal,
        )


class RetryableError(Exception):
    """A temporary failure of broker or store: the steps are read again later. The message says what fails."""


class ConflictError(RetryableError):
    """Another sink has written these steps first; none of these were written."""


class JournalMismatch(SlotwiseError):
    """The journal and the store contradict each other, and going on would lose steps; a person has to choose."""


class Records(Protocol):
    """The journal's topic, read as a member of a group that shares its partitions. All may raise `RetryableError`."""

    #: For messages.
    topic: str

    async def assignment(self) -> frozenset[int]:
        """Return the assigned partitions; joins the group first if needed."""

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset of the log, and the one that the next record will have."""

    def seek(self, partition: int, offset: int) -> None:
        """Continue from this offset. Does nothing when the partition is no longer assigned."""

    async def fetch(self, wait_s: float) -> Sequence[JournalRecord]:
        """Return records, after a short wait for the first one; in order of offset within a partition."""

    def read(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[JournalRecord], None]:
        """Yield the records from `start` up to, not including, `end`, beside what is fetched."""

    def end(self, partition: int) -> int | None:
        """Return the end of a partition as of the last fetch, without a request."""

    async def idle(self, wait_s: float) -> None:
        """Stay in the group for a while without fetching."""

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets for dashboards. Never fails: nothing depends on them."""

    async def close(self) -> None:
        """Leave the group."""


class Store(Protocol):
    """The store of steps. All may raise `RetryableError`, after which nothing of the call is stored, or all of it."""

    #: For messages.
    name: str
    #: What to do when the topic holds another journal than the store.
    remedy: str

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Return the last stored step, by partition."""

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Store these steps, all or none. Raises `ConflictError` when one of them is there already."""

    async def close(self) -> None:
        """Close connections and files."""
