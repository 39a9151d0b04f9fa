"""What a run of `slotwise up` leaves undone at its end: steps that the audit lacks, and inputs that no step handled.

`audit_lacks` is pure. `undecided_inputs` reads the input topics once, from the last input that a step handled on; a
tick is no input of anyone and is left out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from msgspec import Struct

from schemas.codec import read_event
from schemas.events import SlotFreed, TaskPending, Tick
from schemas.input import Unreadable
from schemas.vocabulary import INPUT_TOPICS
from streams.audit import agreement
from streams.audit.agreement import JournalCounts
from streams.kafka.blocking import open_consumer
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.local.watch import Counts
    from streams.views.journal_stats import JournalStats

#: Names of inputs that are printed, at most.
NAMED_MAX: Final = 5
#: Longest reading of the inputs; what was not read by then is not counted.
READ_S_MAX: Final = 5.0
POLL_MS: Final = 500


class Remains(Struct, frozen=True, kw_only=True):
    """What is undone when everything has ended."""

    #: One sentence for each number of the audit that is not the journal's, or the reason why they were not compared.
    audit_lacks: tuple[str, ...] = ()
    #: Inputs that no step handled, by topic; a topic without any is absent.
    undecided: Mapping[str, int] = {}
    #: The first of them: ids of tasks, slots and orders.
    named: tuple[str, ...] = ()
    #: Whether the broker keeps its topics: what is undone is done at the next start.
    durable: bool = False

    @property
    def lost(self) -> bool:
        """Whether something will never come."""
        return bool(self.audit_lacks) or (bool(self.undecided) and not self.durable)

    def sentences(self) -> Iterator[str]:
        """Say what is undone, and whether it will still be done."""
        yield from self.audit_lacks
        if self.audit_lacks:
            yield "The sink goes on there at the next start." if self.durable else "The broker kept it in memory only."
        if self.undecided:
            count = sum(self.undecided.values())
            topics = ", ".join(f"{number} of {topic}" for topic, number in self.undecided.items())
            more = ", ..." if count > len(self.named) else ""
            then = "they are decided at the next start" if self.durable else "send them again"
            yield f"{count} sent inputs were never decided ({topics}): {', '.join(self.named)}{more}; {then}."


def audit_lacks(stats: JournalStats, counts: Counts) -> Iterator[str]:
    """Return a sentence for each number of the audit that differs from the journal's."""
    yield from map(str, stats.stopped.values())
    if counts.journal_unread:
        yield f"{counts.journal_unread} journal records were not read yet."
    yield from agreement.stored(journal_counts(stats), steps=counts.audit_steps, decisions=counts.audit_decisions)


def journal_counts(stats: JournalStats) -> JournalCounts:
    """Return the journal's numbers that audit and topics are compared with."""
    return JournalCounts(
        steps=stats.steps,
        decisions={str(outcome): count for outcome, count in stats.decisions.items()},
        dead_letters=stats.dead_letters,
        stopped=stats.work_stopped,
        ended=stats.tasks_ended,
    )


def undecided_inputs(
    settings: Settings, after: Mapping[tuple[str, int], int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Read the inputs behind `after`, the last handled offset by topic and partition; count and name them.

    Blocks for at most `READ_S_MAX` and the timeouts of the client.
    """
    counted: Counter[str] = Counter()
    named: list[str] = []
    consumer: Any = open_consumer(settings)
    try:
        starts = {
            TopicPartition(settings.topic_prefix + topic, partition): offset + 1
            for (topic, partition), offset in after.items()
        }
        consumer.assign(list(starts))
        for where, offset in starts.items():
            consumer.seek(where, offset)
        deadline_s = time.monotonic() + READ_S_MAX
        while time.monotonic() < deadline_s and (polled := consumer.poll(timeout_ms=POLL_MS)):
            for where, records in polled.items():
                topic = where.topic.removeprefix(settings.topic_prefix)
                for record in records:
                    name = _name(topic, record)
                    if name is not None:
                        counted[topic] += 1
                        named += [name] if len(named) < NAMED_MAX else []
    finally:
        consumer.close()
    return {topic: counted[topic] for topic in INPUT_TOPICS if counted[topic]}, tuple(named)


def _name(topic: str, record: Any) -> str | None:
    """Return the id of what an input is about; None for a tick."""
    event = read_event(topic, record.key, record.value, record.headers or ())
    match event:
        case Tick():
            return None
        case TaskPending():
            return event.task_id
        case SlotFreed():
            return event.slot_id
        case Unreadable():
            return f"a record at offset {record.offset} that cannot be read"
        case _:
            return str(event.control_id)
