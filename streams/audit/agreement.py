"""Numbers that must be equal: what the journal holds, what the audit database holds, what was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from schemas.vocabulary import TASK_AWAIT_SLOT, TASK_CANCELLED, TASK_FINISHED, TASK_ROUTED

#: The dead-letter topics together, beside the names of the output topics.
DEAD_LETTERS = "the dead-letter topics together"


class JournalCounts(Struct, frozen=True, kw_only=True):
    """What accepted steps of the journal hold."""

    steps: int
    #: By outcome.
    decisions: Mapping[str, int]
    #: Inputs refused and tasks given up.
    dead_letters: int
    #: Work that was to stop, and ends of tasks, as far as steps announce them.
    stopped: int = 0
    ended: int = 0

    @property
    def decisions_total(self) -> int:
        """All decisions, repeated announcements included."""
        return sum(self.decisions.values())


def stored(journal: JournalCounts, *, steps: int, decisions: int) -> Iterator[str]:
    """One sentence for each number of the audit database that differs from the journal's."""
    if steps != journal.steps:
        yield f"The journal has {journal.steps} steps and the audit {steps}."
    if decisions != journal.decisions_total:
        yield f"The journal has {journal.decisions_total} decisions and the audit {decisions} rows."


def published(journal: JournalCounts, records: Mapping[str, int]) -> Iterator[str]:
    """One sentence for each output that holds too few records; `records` are counted by topic and `DEAD_LETTERS`.

    Delivery is at least once: more records are repetitions, fewer are a loss.
    """
    routed, dead = journal.decisions.get("routed", 0), journal.decisions.get("dead_lettered", 0)
    for topic, wanted in (
        (TASK_ROUTED, routed),
        (TASK_AWAIT_SLOT, journal.decisions_total - routed - dead),
        (TASK_CANCELLED, journal.stopped),
        (TASK_FINISHED, journal.ended),
        (DEAD_LETTERS, journal.dead_letters),
    ):
        if records[topic] < wanted:
            yield f"The journal has {wanted} records for {topic}, which hold {records[topic]}."
