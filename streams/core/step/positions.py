"""A waiting task's position in service order, from 1: exact for few tasks, an upper bound for many."""

from __future__ import annotations

from typing import Final

from schemas.vocabulary import Millis
from streams.core.index.waiting import Entry
from streams.core.policy.rulebook import Rulebook
from streams.core.step.draft import PoolDraft

_EXACT_MAX: Final = 32


class Positions:
    """Positions in one pool after the round of a step."""

    def __init__(self, draft: PoolDraft, unindexed: int, rulebook: Rulebook, now_ms: Millis) -> None:
        """So many tasks wait beside those of the index."""
        self._draft = draft
        self._index = draft.index
        self._unindexed = unindexed
        self._rulebook = rulebook
        self._now_ms = now_ms

    def of(self, entry: Entry) -> int:
        """Return the position; for many tasks an upper bound by bands of aged priority."""
        index = self._index
        if len(index.entries) + self._unindexed > _EXACT_MAX:
            known = entry.task_id in index.entries
            return index.ahead(entry) + (0 if known else self._unindexed)
        mine = service_key(entry, self._rulebook, self._now_ms)
        others = {**index.entries, **index.prepared}
        return 1 + sum(
            service_key(other, self._rulebook, self._now_ms) < mine
            for task_id, other in others.items()
            if not other.taken and self._still_waits(task_id)
        )

    def _still_waits(self, task_id: str) -> bool:
        row = self._draft.task(task_id)
        return row is not None and row.status.state == "waiting"


def service_key(entry: Entry, rulebook: Rulebook, now_ms: Millis) -> tuple[int, int, float, int, str]:
    """Return what the waiting tasks of a pool are served by, the smallest first."""
    points = (now_ms - entry.birth_ms) // rulebook.ageing_ms
    first = entry.group.lifted or points >= rulebook.patience_points
    return (1 - first, -points, entry.ev_key, entry.since_ms, entry.task_id)
