"""Where recorded steps and inputs of a partition come from, as small protocols: topics, files or memory behind them.

Everything is read forwards, once, in runs of a size that the keeper chooses; nothing here writes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec import Struct

from streams.partition.ports import Checkpoint, Entry, Raw


class RecordedSteps(Protocol):
    """One partition's records of the journal; `ports.Journal` is one."""

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset that is kept, and the one after the last."""

    def read(self, start: int, end: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Yield the records from offset `start` up to, not including, `end`."""


class RecordedInputs(Protocol):
    """One partition's records of the input topics, which are named by their index in `INPUT_TOPICS`."""

    async def first(self, topic: int) -> int:
        """Return the first offset that is kept: what was before it is gone."""

    def read(self, topic: int, start: int) -> AsyncGenerator[Sequence[Raw], None]:
        """Yield the records from offset `start` on, to the end that the topic has when reading begins."""


class Snapshots(Protocol):
    """Snapshots of one partition's state."""

    async def load(self) -> Sequence[Checkpoint]:
        """Return the complete ones, newest first."""


class Source(Struct, frozen=True, kw_only=True):
    """Everything that is recorded of one partition."""

    partition: int
    steps: RecordedSteps
    inputs: RecordedInputs
    snapshots: Snapshots


class NoSnapshots:
    """For who keeps none."""

    async def load(self) -> Sequence[Checkpoint]:
        """Return none."""
        return ()
