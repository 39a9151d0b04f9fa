"""What tests want to know of a partition's journal, and what the auditor (`streams/audit`) finds wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams.audit.journal import TOPICS, JournalAudit, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The shipped policy's.
MEMORY_MS = 24 * 3_600_000


@dataclass
class Audit:
    """What one partition's journal says."""

    steps: int = 0
    #: Records ignored because their number was taken.
    fenced: int = 0
    problems: list[str] = field(default_factory=list)
    #: Offsets handled, by topic.
    handled: dict[str, list[int]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})
    rejected: dict[tuple[str, int], str] = field(default_factory=dict)
    #: Where each living task stands.
    tasks: Mapping[Task, Mapping[str, Any]] = field(default_factory=dict)
    finished: set[Task] = field(default_factory=set)
    #: Decisions in the order of the journal.
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def routed(self, pool: str | None = None) -> list[str]:
        """Ids of the routing decisions, of one pool or all."""
        return [
            one["decision_id"] for one in self.decisions if one["outcome"] == "routed" and pool in (None, one["pool"])
        ]


def audit(partition: int, records: Iterable[bytes], expected: Mapping[str, Iterable[int]]) -> Audit:
    """Audit the journal of a partition; `expected` are the offsets that its input topics hold."""
    auditor, found = JournalAudit(partition, memory_ms=MEMORY_MS), Audit()
    for raw in records:
        step = auditor.add(raw)
        if step is None:
            continue
        for topic, offset, _ in step.get("inputs", ()):
            found.handled[TOPICS[topic]].append(offset)
        for one in step.get("rejected", ()):
            found.rejected[TOPICS[one["topic"]], one["offset"]] = one["reason"]
        found.finished.update((row["pool"], row["task_id"]) for row in step.get("finished", ()))
        found.decisions += step.get("decisions", ())
    auditor.expect(expected)
    found.steps, found.fenced, found.tasks = auditor.steps, auditor.fenced, auditor.tasks
    found.problems = [problem.says for problem in auditor.problems]
    return found
