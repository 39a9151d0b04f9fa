"""The router: inputs in, a step out. Pure: no clock, no randomness, no I/O; the same history gives the same bytes.

`handle` computes a step and leaves the state as it is; `apply` makes a step part of the state. Between the two the
partition's worker appends the step to the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from typing import Final, Self, get_args

from schemas.decision import Activated, ControlTaken, Forwarded, HistoryEntry, Rejected, Step, TaskRow
from schemas.events import (
    BudgetCredited,
    FleetControl,
    LaneRestarted,
    PolicyActivated,
    PolicyProposed,
    SlotFreed,
    SlotRetired,
    TaskCancelled,
    TaskPending,
    TaskRetried,
    Tick,
)
from schemas.input import Input, Misplaced, Unreadable
from schemas.vocabulary import Millis, Mode
from streams.core.index.pool_index import PoolIndex
from streams.core.policy.ev import CachedScorer, EvScorer, due_percentiles, ingredients
from streams.core.policy.rulebook import Rulebook
from streams.core.state.invariants import check
from streams.core.state.partition import Partition
from streams.core.step import activation, controls, lifecycle, money, slot_reports
from streams.core.step.collect import step_of
from streams.core.step.decide import decide
from streams.core.step.draft import PoolDraft, StepDraft
from streams.core.step.retry import retry

_NOT_FIRST: Final = "policy.activated must be the first input of its step: the lane that reads it cuts there."
_KINDS: Final[dict[type, str]] = {kind: str(kind.__struct_config__.tag) for kind in get_args(FleetControl)}
#: Without other inputs, waits that are left over are announced this much later.
_ANNOUNCE_AGAIN_MS: Final = 1_000


def accept_time(record_ms: int, previous_now_ms: Millis, clock_ms: int, ahead_ms_max: int) -> Millis:
    """Return the `now` of a record: its timestamp, never before the previous `now`, never far ahead of the clock."""
    return Millis(max(previous_now_ms, min(record_ms, clock_ms + ahead_ms_max)))


class Router:
    """One partition's decisions."""

    def __init__(
        self, partition: int, rulebook: Rulebook, *, mode: Mode = "live", scorer: EvScorer = ingredients
    ) -> None:
        self.rulebook = rulebook
        self.mode: Mode = mode
        policy = rulebook.policy
        self.state = Partition(
            partition,
            ev_window_ms=rulebook.ev_window_ms,
            finished_memory_ms=rulebook.memory_ms,
        )
        #: Number of row changes applied, from which the worker decides when to write a checkpoint.
        self.changes = 0
        self._scorer = CachedScorer(scorer, round(policy.ev.score_cache_s * 1000))
        self._indexes: dict[str, PoolIndex] = {}

    # Only these two change anything.

    def handle(self, inputs: Sequence[Input]) -> Step:
        """Return the step for these inputs. The state stays as it is until `apply`.

        The indexes change only as caches: what a step hides or spends in them is undone, so that a step does not
        depend on steps that were computed before and discarded. An activated policy decides about all inputs of its
        step, so the activation is the first of them.
        """
        rulebook, indexes = self.rulebook, self._indexes
        try:
            activated = self._prepare_activation(inputs)
            return self._decide(inputs, activated)
        except Exception:
            # Half a decision may be left in the indexes: they are made again from the rows.
            indexes = {}
            raise
        finally:
            if self._indexes is not indexes:
                self._use(rulebook, indexes)

    def apply(self, step: Step) -> None:
        """Make a step part of the state.

        Raises:
            StepOutOfOrder: its `seq` is not the next one.
        """
        state = self.state
        state.apply(step)
        if step.activated is not None:
            self._use(activation.rulebook_of(step.activated), {})
        tasks: dict[tuple[str, str], None] = {}
        for row in step.tasks:
            tasks[row.task.pool, row.task.task_id] = None
        for changed in step.tasks_changed:
            tasks[changed.pool, changed.task_id] = None
        for finished in step.finished:
            tasks[finished.pool, finished.task_id] = None
        slots = [(slot.pool, slot.slot_id) for slot in step.slots]
        slots += [(gone.pool, gone.slot_id) for gone in step.slots_gone]
        for ledger in step.ledgers:
            self._index_of(ledger.pool).sync_ledger(ledger.tenant_id)
        for pool, task_id in tasks:
            self._index_of(pool).sync_task(task_id)
        for pool, slot_id in slots:
            self._index_of(pool).slots.sync(slot_id)
        for index in self._indexes.values():
            index.applied(state.now_ms)
        self.changes += len(tasks) + len(slots)

    # Reads, for the partition's worker and for operators.

    @property
    def indexes(self) -> Mapping[str, PoolIndex]:
        """Indexes of waiting tasks by pool; read-only."""
        return self._indexes

    @property
    def seq(self) -> int:
        """Number of the next step."""
        return self.state.seq

    @property
    def now_ms(self) -> Millis:
        """Latest `now` so far."""
        return self.state.now_ms

    @property
    def rows(self) -> int:
        """Live rows: tasks and slots."""
        return sum(len(pool.tasks) + len(pool.slots) for pool in self.state.pools.values())

    def position(self, topic: int) -> int:
        """Return the offset of the last handled input of that topic; -1: none yet."""
        return self.state.positions[topic]

    def due_ms(self) -> Millis | None:
        """When the next thing falls due without any input."""
        due = [due_ms for index in self._indexes.values() if (due_ms := index.wakeups.next_ms()) is not None]
        if self.state.unannounced:
            due.append(Millis(self.state.now_ms + _ANNOUNCE_AGAIN_MS))
        return min(due, default=None)

    def task(self, pool: str, task_id: str) -> TaskRow | None:
        """Return an unfinished task."""
        found = self.state.pools.get(pool)
        return found.tasks.get(task_id) if found is not None else None

    def history(self, task_id: str) -> tuple[HistoryEntry, ...]:
        """Return the history of an unfinished task, in any pool of this partition."""
        return tuple(
            chain.from_iterable(
                pool.tasks[task_id].status.history for pool in self.state.pools.values() if task_id in pool.tasks
            )
        )

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            InvariantBroken: with the invariant and the rows that break it.
        """
        check(self.state)

    def snapshot(self) -> Iterator[bytes]:
        """Return the state as chunks, unchanged by later steps."""
        return self.state.snapshot()

    @classmethod
    def restore(cls, partition: int, rulebook: Rulebook, chunks: Iterable[bytes], *, mode: Mode = "live") -> Self:
        """Return a router with the state of a snapshot."""
        router = cls(partition, rulebook, mode=mode)
        router.state.load(chunks)
        activated = router.state.activated
        router._use(activation.rulebook_of(activated) if activated is not None else rulebook, {})
        return router

    # The steps of `handle`.

    def _decide(self, inputs: Sequence[Input], activated: Activated | str | None) -> Step:
        now_ms = inputs[-1].now_ms if inputs else self.state.now_ms
        draft = StepDraft(self.state.seq, self._due_from_ms())
        if isinstance(activated, Activated):
            draft.activated = activated
            for name in self._inhabited():
                self._pool(draft, name)
        for i, item in enumerate(inputs):
            # 1. Let time pass: what fell due before this input happens before it.
            if item.now_ms >= draft.due_ms:
                self._fall_due(draft, item.now_ms)
            # 2. Write the event to the draft.
            refusal = self._remember(draft, item)
            if i == 0 and isinstance(activated, str):
                refusal = activated
            if refusal is not None:
                draft.rejected.append(Rejected(topic=item.topic, offset=item.offset, reason=refusal))
        for name in self.state.unannounced:
            self._pool(draft, name)
        last = (inputs[-1].topic, inputs[-1].offset) if inputs else (0, -1)
        for pool in draft.pools.values():
            # 3. Recompute the EV percentiles where that is due.
            percentiles = due_percentiles(pool.pool, pool.evs, now_ms, self.rulebook)
            if percentiles is not pool.pool.percentiles and percentiles is not None:
                draft.percentiles.append(percentiles)
            pool.index.align(
                pool.fleet(),
                pool.in_service(),
                percentiles,
                pool.marks,
                pool.ledgers,
                pool.spending(now_ms),
                pool.slots_max,
                now_ms,
            )
            # 4. Decide: a round over all waiting tasks and all free slots.
            draft.decisions += decide(pool, self.rulebook, now_ms, last)
            pool.index.release()
        # 5. Collect the step: decisions and changed rows.
        return step_of(draft, inputs, now_ms, self.state.number, self.mode, self.rulebook)

    def _inhabited(self) -> list[str]:
        """Return pools with rows; routers may differ in empty pools that were only named."""
        return sorted(name for name, pool in self.state.pools.items() if not pool.is_empty())

    def _due_from_ms(self) -> float:
        """Nothing of the state falls due before this."""
        return min((index.wakeups.from_ms() for index in self._indexes.values()), default=inf)

    def _index_of(self, pool: str) -> PoolIndex:
        index = self._indexes.get(pool)
        if index is None:
            index = self._indexes[pool] = PoolIndex(self.state.pool(pool), self.rulebook, self.state.now_ms)
        return index

    def _pool(self, draft: StepDraft, name: str) -> PoolDraft:
        pool = draft.pools.get(name)
        if pool is None:
            index = self._index_of(name)
            index.begin()
            pool = draft.pools[name] = PoolDraft(self.state.pool(name), index, draft)
        return pool

    def _fall_due(self, draft: StepDraft, now_ms: Millis) -> None:
        # The order and the condition must not depend on how the indexes were made.
        for name in sorted(name for name, index in self._indexes.items() if index.wakeups.is_due(now_ms)):
            self._pool(draft, name)
        for pool in draft.pools.values():
            while (due := pool.pop_due(now_ms)) is not None:
                lifecycle.fall_due(pool, due, self.rulebook)
        pending = (pool.next_due_ms() for pool in draft.pools.values())
        draft.due_ms = min([*pending, self._due_from_ms()])

    def _remember(self, draft: StepDraft, item: Input) -> str | None:
        """Write the event to the draft; return the reason of a refusal."""
        event = item.event
        match event:
            case TaskPending():
                return lifecycle.pend(self._pool(draft, event.pool), event, item, self.rulebook, self._scorer)
            case SlotFreed():
                pool = self._pool(draft, event.pool)
                return slot_reports.report(pool, event, item.event_id, item.now_ms, self.rulebook)
            case Unreadable():
                return event.reason
            case Misplaced():
                draft.forwarded.append(Forwarded(topic=item.topic, offset=item.offset, to=event.home))
                return None
            case Tick():
                return None
            case _ if event.control_id in self.state.controls or event.control_id in draft.controls:
                draft.count("duplicate_control")
                return None
            case _:
                refusal = self._control(draft, event, item.now_ms)
                if refusal is None:
                    draft.controls[event.control_id] = ControlTaken(
                        control_id=event.control_id,
                        at_ms=item.now_ms,
                        kind=_KINDS[type(event)],
                        event=controls.written(event),
                    )
                return refusal

    def _control(self, draft: StepDraft, event: FleetControl, now_ms: Millis) -> str | None:
        """Handle an operator's event; return the reason of a refusal."""
        match event:
            case TaskCancelled():
                lifecycle.cancel(self._pool(draft, event.pool), event, now_ms, self.rulebook)
            case TaskRetried():
                return retry(self._pool(draft, event.pool), event)
            case SlotRetired():
                slot_reports.retire(self._pool(draft, event.pool), event.slot_id, now_ms)
            case BudgetCredited():
                money.credit(self._pool(draft, event.pool), event, now_ms)
            case PolicyActivated():
                return None if draft.activated is not None else _NOT_FIRST
            case LaneRestarted() | PolicyProposed() | Tick():
                pass
            case _:  # the events that mark the fleet; mypy names any other that has no case
                # All pools that it concerns take part; a pool that is named later in the step has the mark as well.
                for name in (event.pool,) if event.pool is not None else self._inhabited():
                    self._pool(draft, name)
                return controls.mark(draft, event, now_ms, self.rulebook)
        return None

    def _prepare_activation(self, inputs: Sequence[Input]) -> Activated | str | None:
        """Put the activation of the first input in use for this step; return it, the reason of a refusal, or None."""
        event = inputs[0].event if inputs else None
        if not isinstance(event, PolicyActivated) or event.control_id in self.state.controls:
            return None
        found = activation.activate(event, self.rulebook, self.state)
        if isinstance(found, str):
            return found
        activated, rulebook = found
        self._use(rulebook, {})
        return activated

    def _use(self, rulebook: Rulebook, indexes: dict[str, PoolIndex]) -> None:
        """Decide by this rulebook and these indexes of it; those of other pools are made from the rows."""
        self.rulebook, self._indexes = rulebook, indexes
        self._scorer.keep_ms = round(rulebook.policy.ev.score_cache_s * 1000)
        for name in self.state.pools:
            self._index_of(name)
