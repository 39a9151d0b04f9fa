"""Counts over the journal's steps: the numbers of the board and of the result.

Pure: the caller feeds it the records. Only steps that `JournalReader` accepts count; after a gap or a damaged record no
more of that partition is counted, and `stopped` has the reason, until an operator passes over the record.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from msgspec import Struct

from schemas.decision import Decision, SlotRow, Step, TaskStatus
from schemas.steps import decode_step
from schemas.vocabulary import INPUT_TOPICS, DecisionOutcome, ReasonCode
from streams.estimate.nearest_rank import nearest_rank
from streams.partition.reader import HoldingReader, JournalReader, ReadingError

#: Waits are kept of so many routed tasks.
WAITS_MAX: Final = 20_000
#: Decisions kept for showing.
LATEST_MAX: Final = 8


class Routed(Struct, frozen=True):
    """A decision as the board shows it."""

    task_id: str
    title: str
    slot_id: str
    tier: int
    wait_ms: int
    reason: str


class JournalStats:
    """Counts so far, and the present tasks and slots."""

    def __init__(self) -> None:
        self.steps = 0
        self.inputs: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.dead = 0
        #: What steps announce: work that is to stop, and ends of tasks.
        self.work_stopped = 0
        self.tasks_ended = 0
        self.decisions: Counter[DecisionOutcome] = Counter()
        #: Routed decisions by tier, model and reason.
        self.tiers: Counter[int] = Counter()
        self.models: Counter[str] = Counter()
        self.reasons: Counter[ReasonCode] = Counter()
        self.counts: Counter[str] = Counter()
        self.work: Counter[str] = Counter()
        self.estimated_uusd = 0
        self.saved_vs_premium_uusd = 0
        self.saved_vs_next_free_uusd = 0
        self.spent_usd = 0.0
        self.p50: float | None = None
        self.p90: float | None = None
        self.waits_ms: deque[int] = deque(maxlen=WAITS_MAX)
        self.latest: deque[Routed] = deque(maxlen=LATEST_MAX)
        self.slots: dict[tuple[str, str], SlotRow] = {}
        #: First `seq` counted, by partition.
        self.first_seq: dict[int, int] = {}
        #: Why nothing more of a partition is counted.
        self.stopped: dict[int, ReadingError] = {}
        self._readers: dict[int, HoldingReader[Step]] = {}
        #: Offset of the last input handled, by topic and partition.
        self.positions: dict[tuple[str, int], int] = {}
        self._tasks: dict[tuple[str, str], TaskStatus] = {}
        self._titles: dict[tuple[str, str], str] = {}
        self._status: Counter[str] = Counter()
        self._headlines: Counter[str] = Counter()

    @property
    def decisions_total(self) -> int:
        """All decisions, waits announced again included."""
        return self.decisions.total()

    @property
    def dead_letters(self) -> int:
        """Records that the dead-letter topics must hold."""
        return self.rejected.total() + self.dead

    @property
    def live_tasks(self) -> int:
        """Tasks that are not finished."""
        return len(self._tasks)

    @property
    def status(self) -> Counter[str]:
        """Count live tasks by state."""
        return +self._status

    @property
    def headlines(self) -> Counter[str]:
        """Count waiting tasks by the reason last announced."""
        return +self._headlines

    @property
    def steps_fenced(self) -> int:
        """Steps that were ignored because their number was taken."""
        return sum(one.reader.fenced for one in self._readers.values())

    def join(self, partition: int, offset: int) -> None:
        """Count the steps of a partition from `offset` on; feed `LOOKBACK_RECORDS` records before it, too."""
        self._readers[partition] = HoldingReader(JournalReader.joining(partition, decode_step, offset=offset))

    def read(self, partition: int, offset: int, value: bytes) -> None:
        """Count the step of a journal record, or those that a note lets count. The partition was joined before."""
        reader = self._readers[partition]
        for step in reader.take(offset, value):
            self.add(step)
        if reader.stopped is not None:
            self.stopped[partition] = reader.stopped
        else:
            self.stopped.pop(partition, None)

    def add(self, step: Step) -> None:
        """Count an accepted step."""
        self.first_seq.setdefault(step.partition, step.seq)
        self.steps += 1
        self._count_inputs(step)
        # Ends first: a task that ended in this step may have begun a new life in it.
        for gone in step.finished:
            self._stand(gone.pool, gone.task_id, None)
            self._titles.pop((gone.pool, gone.task_id), None)
        for row in step.tasks:
            self._titles[row.task.pool, row.task.task_id] = row.task.title
            self._stand(row.task.pool, row.task.task_id, row.status)
        for changed in step.tasks_changed:
            self._stand(changed.pool, changed.task_id, changed.status)
        for decision in step.decisions:
            self._count_decision(decision)
        self._count_slots(step)
        for done in step.work:
            self.work[done.outcome.status] += 1
            self.spent_usd += done.outcome.cost_usd or 0.0
        for percentiles in step.percentiles:
            self.p50, self.p90 = percentiles.p50, percentiles.p90
        self.dead += len(step.dead)
        self.work_stopped += len(step.stopped)
        self.tasks_ended += len(step.ended)
        self.counts.update(step.counts)

    def busy_by_model(self) -> dict[str, tuple[int, int]]:
        """Busy and all slots of each model, in the order in which the models first appeared."""
        shares: dict[str, tuple[int, int]] = {}
        for slot in self.slots.values():
            busy, total = shares.get(slot.model, (0, 0))
            shares[slot.model] = (busy + (slot.state == "leased"), total + 1)
        return shares

    def wait_ms(self, percent: int) -> int | None:
        """Wait that so many of 100 routed tasks did not exceed; None before the first."""
        ordered = sorted(self.waits_ms)
        return nearest_rank(ordered, percent) if ordered else None

    def _count_inputs(self, step: Step) -> None:
        for accepted in step.inputs:
            topic = INPUT_TOPICS[accepted.topic]
            self.inputs[topic] += 1
            self.positions[topic, step.partition] = accepted.offset
        for rejected in step.rejected:
            self.rejected[INPUT_TOPICS[rejected.topic]] += 1

    def _count_decision(self, decision: Decision) -> None:
        self.decisions[decision.outcome] += 1
        self.reasons[decision.reason_code] += 1
        if decision.outcome != "routed" or decision.tier is None:
            return
        self.tiers[decision.tier] += 1
        self.models[decision.chosen_model or "?"] += 1
        wait_ms = max(0, decision.decided_at_ms - decision.waiting_since_ms)
        self.waits_ms.append(wait_ms)
        self.estimated_uusd += decision.estimated_cost_uusd or 0
        self.saved_vs_premium_uusd += decision.saved_vs_premium_uusd or 0
        self.saved_vs_next_free_uusd += decision.saved_vs_next_free_uusd or 0
        self.latest.append(
            Routed(
                task_id=decision.task_id,
                title=self._titles.get((decision.pool, decision.task_id), ""),
                slot_id=decision.chosen_slot_id or "?",
                tier=decision.tier,
                wait_ms=wait_ms,
                reason=decision.reason,
            )
        )

    def _count_slots(self, step: Step) -> None:
        for slot in step.slots:
            self.slots[slot.pool, slot.slot_id] = slot
        for gone in step.slots_gone:
            self.slots.pop((gone.pool, gone.slot_id), None)

    def _stand(self, pool: str, task_id: str, status: TaskStatus | None) -> None:
        """Set the task's status; None: it is finished."""
        before = self._tasks.pop((pool, task_id), None)
        for known, change in ((before, -1), (status, +1)):
            if known is not None:
                self._status[known.state] += change
                if known.state == "waiting" and known.headline is not None:
                    self._headlines[known.headline] += change
        if status is not None:
            self._tasks[pool, task_id] = status
