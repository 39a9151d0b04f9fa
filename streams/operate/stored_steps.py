"""Compares verified steps with their rows in Postgres, a stretch at a time: place, hash and decisions of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from streams.audit.stored import Journaled, StoredAudit
from streams.database.connection import Timeouts
from streams.operate.verifying import Same
from streams.replay.report import StoredSteps
from streams.settings import Settings
from streams.topics import name_in_audit

#: Sentences that are given.
SAYS_MAX = 20


class StoredComparison:
    """One comparison; `found` is what came of it so far."""

    def __init__(self, stored: StoredAudit) -> None:
        self._stored = stored
        self.found = StoredSteps()

    def take(self, partition: int, steps: Sequence[Same]) -> None:
        """Compare steps that follow each other.

        Raises:
            DatabaseError: the database does not answer, or has no audit.
        """
        journaled = [
            Journaled(seq=one.seq, offset=one.offset, sha256=one.sha256, decisions=frozenset(one.decision_ids))
            for one in steps
        ]
        problems, absent = self._stored.compare(partition, journaled)
        found = self.found
        found.compared += len(steps) - len(absent)
        found.absent += len(absent)
        found.differing += len(problems)
        says = [f"Partition {partition}, step {one.seq}: {one.says}." for one in problems]
        found.says = (*found.says, *says)[:SAYS_MAX]


@contextmanager
def comparing(settings: Settings) -> Iterator[StoredComparison]:
    """Give a comparison with the audit of the settings, while inside.

    Raises:
        DatabaseError: Postgres cannot be reached.
    """
    with StoredAudit(settings.database, name_in_audit(settings), Timeouts.of(settings)) as stored:
        yield StoredComparison(stored)
