"""When a worker's state is saved: after many row changes, and before the journal no longer reaches the last snapshot.

One snapshot is written at a time, beside the work. A failure costs nothing but a longer recovery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from streams import metrics
from streams.clock import Clock
from streams.partition.ports import Checkpoints, JournalPosition, Limits, StateMachine

_log = logging.getLogger(__name__)

#: A checkpoint is never older than this part of the time for which the journal is kept.
CHECKPOINT_AGE_PART: Final = 8


class Checkpointing:
    """Saves the snapshots of one partition."""

    def __init__(self, partition: int, checkpoints: Checkpoints, clock: Clock, limits: Limits) -> None:
        self._partition = partition
        self._checkpoints = checkpoints
        self._clock = clock
        self._changes_min = limits.checkpoint_changes_min
        self._age_ms_max = limits.journal_retention_hours * 3_600_000 / CHECKPOINT_AGE_PART
        #: When the last snapshot was taken, or this process began.
        self.saved_ms = 0
        self._saving: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def save_if_due(self, machine: StateMachine, position: JournalPosition) -> None:
        """Begin to save the present state if enough has changed, or anything a long time ago."""
        if self._saving is not None and not self._saving.done():
            return
        old = self._clock.now_ms() - self.saved_ms > self._age_ms_max
        if machine.changes < (1 if old else max(self._changes_min, machine.rows // 2)):
            return
        chunks, changes = machine.snapshot(), machine.changes
        machine.changes = 0
        self._saving = asyncio.create_task(
            self._save(machine, position, chunks, changes), name=f"checkpoint {self._partition}"
        )

    def keep_id(self, journal_id: str) -> None:
        """Begin to keep the id of the journal, once a step has it and it is not kept; a failure is tried again."""
        if self._checkpoints.journal_id == journal_id or (self._keeping is not None and not self._keeping.done()):
            return
        self._keeping = asyncio.create_task(self._keep(journal_id), name=f"journal id {self._partition}")

    async def stop(self) -> None:
        """Give up a snapshot that is being written; it is incomplete and will be ignored."""
        for task in (self._saving, self._keeping):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _keep(self, journal_id: str) -> None:
        try:
            await self._checkpoints.keep(journal_id)
        except Exception as error:  # noqa: BLE001 - the next step tries again
            _log.warning("partition %d: the journal's id was not kept: %r", self._partition, error)

    async def _save(
        self, machine: StateMachine, position: JournalPosition, chunks: Iterable[bytes], changes: int
    ) -> None:
        try:
            await self._checkpoints.save(position, chunks)
        except Exception as error:  # noqa: BLE001 - the journal is the truth; a snapshot can wait
            metrics.CHECKPOINTS.labels("failed").inc()
            _log.warning(
                "partition %d: the checkpoint at step %d was not written: %r", self._partition, position.seq, error
            )
            machine.changes += changes
        else:
            metrics.CHECKPOINTS.labels("written").inc()
            self.saved_ms = self._clock.now_ms()
