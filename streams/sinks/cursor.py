"""The position in one partition of the journal, and whether the next record counts. Pure.

Which record counts is the rule of every reader of the journal (`partition/reader.py`).
"""

from __future__ import annotations

import hashlib
import logging

from schemas.steps import StepError
from streams.partition.ports import JournalPosition
from streams.partition.reader import JournalReader, RecordDamaged, StepsMissing
from streams.partition.skips import Skips
from streams.sinks.audit_step import AuditStep, read_audit_step
from streams.sinks.ports import JournaledStep, JournalMismatch, JournalRecord, SinkPosition

_log = logging.getLogger(__name__)


class Cursor:
    """The position in one partition; `take` moves it."""

    def __init__(
        self, partition: int, position: SinkPosition, *, accept_loss: bool = False, skips: Skips | None = None
    ) -> None:
        """`skips` are the notes about records to pass over, as far as they were read."""
        self.partition = partition
        self.position = position
        #: Offset of the last record that was read.
        self.seen = position.offset
        self.unreadable = 0
        self._accept_loss = accept_loss
        self._skips = Skips(partition) if skips is None else skips
        self._reader = self._reader_at(position.offset + 1, position.seq + 1)

    @property
    def duplicates(self) -> int:
        """Records that were ignored because their number was taken."""
        return self._reader.fenced

    def take(self, record: JournalRecord) -> JournaledStep | None:
        """Return the step of a record if it is the next one, and move there; None: it does not count.

        Raises:
            JournalMismatch: the record at the offset of the position is another one than was written.
            ReadingError: a step is missing or damaged, and the loss is not accepted.
        """
        position = self.position
        raw = record.value or b""
        if record.offset <= position.offset:
            if record.offset == position.offset and hashlib.sha256(raw).digest() != position.sha256:
                raise JournalMismatch(f"has another record at offset {record.offset}")
            self._check_again(record.offset, raw)
            return None
        self.seen = record.offset
        step = (
            self._take_accepting_loss(record.offset, raw)
            if self._accept_loss
            else self._reader.take(record.offset, raw)
        )
        if step is None:
            return None
        sha256 = hashlib.sha256(raw).digest()
        chain = hashlib.sha256(position.chain + sha256).digest()
        taken = JournaledStep(step, record.offset, record.at_ms, raw, sha256, chain)
        self.position = taken.position
        return taken

    def _check_again(self, offset: int, raw: bytes) -> None:
        """Look at a record from before the position: a journal that is created again begins again there."""
        known = self._reader.journal
        if known is None:
            return
        try:
            found = read_audit_step(raw).journal
        except StepError:
            return
        if found not in (None, known):
            raise JournalMismatch(f"has a step of the journal {found} at offset {offset}, and this was {known}")

    def _take_accepting_loss(self, offset: int, raw: bytes) -> AuditStep | None:
        """Take a record like the reader, but pass over a damaged one and continue behind a gap."""
        try:
            return self._reader.take(offset, raw)
        except RecordDamaged as damaged:
            _log.warning("%s The loss is accepted.", damaged)
            self.unreadable += 1
            return None
        except StepsMissing as gap:
            _log.warning("partition %s: steps %s to %s are lost, as accepted", self.partition, gap.wanted, gap.got - 1)
            fenced, self._reader = self._reader.fenced, self._reader_at(offset, gap.got)
            self._reader.fenced = fenced
            return self._reader.take(offset, raw)

    def _reader_at(self, offset: int, seq: int) -> JournalReader[AuditStep]:
        return JournalReader(
            self.partition,
            read_audit_step,
            start=JournalPosition(offset, seq),
            journal=self.position.journal_id,
            skips=self._skips,
        )
