"""The heart: inputs in, a step out. Pure: no clock, no randomness, no I/O; the same history gives the same bytes.

`handle` computes a step from the state and leaves the state as it is; `apply` makes a step part of it. What lies
between the two (that the journal has taken the step) is the lane's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from typing import Any, Final, get_args

from msgspec.structs import replace

from schemas.decision import (
    Accepted,
    Activated,
    ControlTaken,
    Decision,
    DrainMark,
    ExhaustedMark,
    HistoryEntry,
    Percentiles,
    QuotaRow,
    Rejected,
    SlotRow,
    Step,
    TaskChanged,
    TaskRow,
    TaskStatus,
)
from schemas.events import (
    BudgetCredited,
    FleetControl,
    LaneRestarted,
    ModelDrained,
    ModelExhausted,
    ModelRestored,
    PolicyActivated,
    QuotaUpdated,
    SlotFreed,
    SlotRetired,
    TaskCancelled,
    TaskPending,
    Tick,
)
from schemas.input import Input, Unreadable
from schemas.vocabulary import INPUT_TOPICS, MicroUsd, Millis, Mode, ReasonCode
from streams.core.index.groups import Group, Scores, Shape
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.ev import QUANTILE_GRID, CachedScorer, EvScorer, ingredients, percentile_of
from streams.core.policy.rulebook import Rulebook, expected_output
from streams.core.state.invariants import check
from streams.core.state.partition import Partition
from streams.core.state.utilisation import SHORT_MS
from streams.core.step import activation, controls, lifecycle, money
from streams.core.step import sentences as words
from streams.core.step.draft import Ending, PoolDraft, StepDraft
from streams.core.step.round import Round
from streams.core.step.swaps import Pair

#: UUIDv5 namespace of decision ids: uuid5(NAMESPACE_URL, "slotwise:decision").
_NAMESPACE: Final = hashlib.sha1(bytes.fromhex("97124e7c66b456fe92c958bfcfba1e4e"), usedforsecurity=False)
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_POSITION_EXACT_MAX: Final = 32
_NOT_FIRST: Final = "policy.activated must be the first input of its step: the lane that reads it cuts there."
_KINDS: Final[dict[type, str]] = {kind: str(kind.__struct_config__.tag) for kind in get_args(FleetControl)}
#: Where nothing else comes, those left over are told this much later.
_ANNOUNCE_AGAIN_MS: Final = 1_000


def accept_time(record_ms: int, previous_now_ms: Millis, clock_ms: int, ahead_ms_max: int) -> Millis:
    """The `now` of a record: its timestamp, never before the previous `now`, never far ahead of the clock."""
    return Millis(max(previous_now_ms, min(record_ms, clock_ms + ahead_ms_max)))


def decision_id(pool: str, seq: int, task_id: str) -> str:
    """UUIDv5 of pool, seq and task."""
    digest = _NAMESPACE.copy()
    digest.update(f"{pool}/{seq}/{task_id}".encode())
    text = digest.hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


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
        #: Row changes applied so far; the checkpoint's cadence.
        self.changes = 0
        self._scorer = CachedScorer(scorer, round(policy.ev.score_cache_s * 1000))
        self._indexes: dict[str, PoolIndex] = {}
        #: The step computed last; one that is not ours may have told other headlines.
        self._latest: Step | None = None
        #: The `now` at which the indexes were last looked at.
        self._looked_ms = Millis(0)

    # One door in.

    def handle(self, inputs: Sequence[Input]) -> Step:
        """The step that these inputs bring about. The state stays as it is until `apply`.

        An activation of a policy decides about everything in its step, so it is the first input of one.
        """
        before = self.rulebook
        try:
            refusal = self._prepare_activation(inputs)
            self._latest = self._decide(inputs, refusal)
        except Exception:
            self._indexes.clear()
            raise
        finally:
            if self.rulebook is not before:
                self._use(before)
            if not self._indexes:
                # Whatever the indexes hid or moved is of no use to anybody; they are made again from the rows.
                self._index()
        return self._latest

    def apply(self, step: Step) -> None:
        """Make a step part of the state.

        Raises:
            StepOutOfOrder: its `seq` is not the next one.
        """
        state = self.state
        state.apply(step)
        if step.activated is not None:
            self._use(activation.rulebook_of(step.activated))
            self._index()
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
            self._index_of(pool).sync_slot(slot_id)
        for index in self._indexes.values():
            index.applied(state.now_ms)
            if step is not self._latest:
                index.announced_mask = None
        self.changes += len(tasks) + len(slots)

    # What a lane and an operator ask.

    @property
    def indexes(self) -> Mapping[str, PoolIndex]:
        """Who waits for what, by pool; to be looked at only."""
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
        """Offset of the last input handled of that input topic; -1: none yet."""
        return self.state.positions[topic]

    def due_ms(self) -> Millis | None:
        """When the next thing falls due without any input."""
        due = [due_ms for index in self._indexes.values() if (due_ms := index.next_due_ms()) is not None]
        if self.state.unannounced:
            due.append(Millis(self.state.now_ms + _ANNOUNCE_AGAIN_MS))
        return min(due, default=None)

    def history(self, task_id: str) -> tuple[HistoryEntry, ...]:
        """What happened so far to a task that is not finished, in any pool of this partition."""
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
        """The state as chunks; a picture of this moment."""
        return self.state.snapshot()

    @classmethod
    def restore(cls, partition: int, rulebook: Rulebook, chunks: Iterable[bytes], *, mode: Mode = "live") -> Router:
        """A router whose state is what `snapshot` gave."""
        router = cls(partition, rulebook, mode=mode)
        router.state.load(chunks)
        if router.state.activated is not None:
            router._use(activation.rulebook_of(router.state.activated))
        for name in router.state.pools:
            router._index_of(name)
        return router

    # The steps of `handle`.

    def _decide(self, inputs: Sequence[Input], activated: Activated | str | None) -> Step:
        now_ms = inputs[-1].now_ms if inputs else self.state.now_ms
        if now_ms < self._looked_ms:
            # A step computed for later was thrown away; what the indexes learned then does not hold now.
            self._indexes.clear()
            self._index()
        self._looked_ms = now_ms
        draft = StepDraft(self.state.seq, min((index.due_from_ms() for index in self._indexes.values()), default=inf))
        if isinstance(activated, Activated):
            draft.activated = activated
            for name in self._inhabited():
                self._pool(draft, name)
        for i, item in enumerate(inputs):
            # 1. Let time pass: what fell due before this input happens before it.
            if item.now_ms >= draft.due_ms:
                self._fall_due(draft, item.now_ms)
            # 2. Remember the event.
            refusal = self._remember(draft, item)
            if i == 0 and isinstance(activated, str):
                refusal = activated
            if refusal is not None:
                draft.rejected.append(Rejected(topic=item.topic, offset=item.offset, reason=refusal))
        for name in self.state.unannounced:
            self._pool(draft, name)
        recomputed: list[Percentiles] = []
        decisions: list[Decision] = []
        last = (inputs[-1].topic, inputs[-1].offset) if inputs else (0, -1)
        for pool in draft.pools.values():
            # 3. Look at what is usual: the EV percentiles, when they are due.
            percentiles = self._percentiles(pool, now_ms)
            if percentiles is not pool.pool.percentiles and percentiles is not None:
                recomputed.append(percentiles)
            pool.index.align(pool.fleet(), percentiles, pool.marks, pool.ledgers, pool.slots_max, now_ms)
            # 4. Decide: a round over everything that waits and everything that is free.
            decisions.extend(_Deciding(self, pool, now_ms, last).decisions())
            pool.index.release()
        # 5. Write down what happened and what it leaves behind.
        return self._step(inputs, now_ms, draft, decisions, recomputed)

    def _inhabited(self) -> list[str]:
        """The pools in which there is something; one router may know names of more than another."""
        return sorted(name for name, pool in self.state.pools.items() if not pool.is_empty())

    def _index(self) -> None:
        for name in self.state.pools:
            self._index_of(name)

    def _index_of(self, pool: str) -> PoolIndex:
        index = self._indexes.get(pool)
        if index is None:
            index = self._indexes[pool] = PoolIndex(self.state.pool(pool), self.rulebook, self.state.now_ms)
        return index

    def _pool(self, draft: StepDraft, name: str) -> PoolDraft:
        pool = draft.pools.get(name)
        if pool is None:
            pool = draft.pools[name] = PoolDraft(self.state.pool(name), self._index_of(name), draft)
        return pool

    def _fall_due(self, draft: StepDraft, now_ms: Millis) -> None:
        # In an order, and by a test, that do not depend on how the indexes came to be.
        for name in sorted(name for name, index in self._indexes.items() if index.is_due(now_ms)):
            self._pool(draft, name)
        for pool in draft.pools.values():
            while (due := pool.pop_due(now_ms)) is not None:
                lifecycle.fall_due(pool, due, self.rulebook)
        pending = (pool.next_due_ms() for pool in draft.pools.values())
        draft.due_ms = min(chain(pending, (index.due_from_ms() for index in self._indexes.values())), default=inf)

    def _remember(self, draft: StepDraft, item: Input) -> str | None:
        """Write the event to the draft; return why, when it is refused."""
        event = item.event
        match event:
            case TaskPending():
                return lifecycle.pend(self._pool(draft, event.pool), event, item, self.rulebook, self._scorer)
            case SlotFreed():
                return lifecycle.free(self._pool(draft, event.pool), event, item.now_ms, self.rulebook)
            case Unreadable():
                return event.reason
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
        """Do what an operator's event says; return why, when it is refused."""
        match event:
            case TaskCancelled():
                lifecycle.cancel(self._pool(draft, event.pool), event, now_ms, self.rulebook)
            case SlotRetired():
                lifecycle.retire(self._pool(draft, event.pool), event.slot_id, now_ms)
            case BudgetCredited():
                money.credit(self._pool(draft, event.pool), event, now_ms)
            case ModelExhausted() | ModelRestored() | ModelDrained() | QuotaUpdated():
                # Whoever it concerns is looked at; a pool that comes up later in the step sees the mark as well.
                for name in (event.pool,) if event.pool is not None else self._inhabited():
                    self._pool(draft, name)
                return controls.mark(draft, event, now_ms, self.rulebook)
            case PolicyActivated():
                return None if draft.activated is not None else _NOT_FIRST
            case LaneRestarted() | Tick():
                pass
        return None

    def _prepare_activation(self, inputs: Sequence[Input]) -> Activated | str | None:
        """What the first input activates, already in use for this step; or why it is refused; or None: nothing."""
        event = inputs[0].event if inputs else None
        if not isinstance(event, PolicyActivated) or event.control_id in self.state.controls:
            return None
        found = activation.activate(event, self.rulebook, self.state)
        if isinstance(found, str):
            return found
        activated, rulebook = found
        self._use(rulebook)
        self._index()
        return activated

    def _use(self, rulebook: Rulebook) -> None:
        """Decide by this rulebook from here on; the indexes are to be made again."""
        self.rulebook = rulebook
        self._scorer.keep_ms = round(rulebook.policy.ev.score_cache_s * 1000)
        self._indexes.clear()

    def _percentiles(self, draft: PoolDraft, now_ms: Millis) -> Percentiles | None:
        """The percentiles that this step decides by: those known, or new ones when they are due."""
        known = draft.pool.percentiles
        if known is None or known.p50 is None:
            if not draft.evs:
                return known
        elif now_ms - known.at_ms < self.rulebook.recompute_ms:
            return known
        policy = self.rulebook.policy
        digest = draft.pool.evs.merged(now_ms, ((sample.at_ms, sample.ev) for sample in draft.evs))
        samples = digest.n_values
        if samples < policy.ev.samples_min:
            # "None yet" is not kept: the next sample asks again.
            none = Percentiles(pool=draft.pool.name, at_ms=now_ms, samples=samples)
            return known if known is None or known.p50 is None else none
        return Percentiles(
            pool=draft.pool.name,
            at_ms=now_ms,
            samples=samples,
            p50=digest.quantile(policy.premium.ev_percentile),
            p90=digest.quantile(policy.lift.ev_percentile),
            quantiles=tuple(digest.quantile_vec(QUANTILE_GRID)),
        )

    def _step(
        self,
        inputs: Sequence[Input],
        now_ms: Millis,
        draft: StepDraft,
        decisions: list[Decision],
        percentiles: list[Percentiles],
    ) -> Step:
        tasks: list[TaskRow] = []
        changed: list[TaskChanged] = []
        marks = [mark for mark, _ in draft.marks]
        pools = draft.pools.values()
        for pool in pools:
            known = pool.pool.tasks
            for task_id, row in pool.tasks.items():
                if task_id in known:
                    changed.append(TaskChanged(pool=pool.pool.name, task_id=task_id, status=row.status))
                else:
                    tasks.append(row)
        return Step(
            partition=self.state.number,
            seq=draft.seq,
            now_ms=now_ms,
            mode=self.mode,
            policy=self.rulebook.policy_hash,
            catalog=self.rulebook.catalog_hash,
            inputs=tuple([Accepted(item.topic, item.offset, item.now_ms) for item in inputs]),
            rejected=tuple(draft.rejected),
            decisions=tuple(decisions),
            tasks=tuple(tasks),
            tasks_changed=tuple(changed),
            finished=tuple([row for pool in pools for row in pool.finished.values()]),
            dead=tuple([row for pool in pools for row in pool.dead]),
            slots=tuple([row for pool in pools for row in pool.slots.values()]),
            slots_gone=tuple([gone for pool in pools for gone in pool.slots_gone.values()]),
            evs=tuple([sample for pool in pools for sample in pool.evs]),
            percentiles=tuple(percentiles),
            work=tuple([row for pool in pools for row in pool.work]),
            controls=tuple(draft.controls.values()),
            exhausted=tuple([mark for mark in marks if isinstance(mark, ExhaustedMark)]),
            drains=tuple([mark for mark in marks if isinstance(mark, DrainMark)]),
            quotas=tuple([mark for mark in marks if isinstance(mark, QuotaRow)]),
            ledgers=tuple([row for pool in pools for row in pool.ledgers.values()]),
            money=tuple([row for pool in pools for row in pool.money]),
            activated=draft.activated,
            advice=tuple([(i, item.advice) for i, item in enumerate(inputs) if item.advice is not None]),
            cancels=tuple([(pool.pool.name, task_id, at) for pool in pools for task_id, at in pool.cancels.items()]),
            unannounced=tuple([pool.pool.name for pool in pools if pool.unannounced]),
            announced=tuple([(pool.pool.name, pool.announced_ms) for pool in pools if pool.announced_ms is not None]),
            counts=draft.counts,
        )


class _Deciding:
    """The decisions of one pool in one step."""

    def __init__(self, router: Router, draft: PoolDraft, now_ms: Millis, last: tuple[int, int]) -> None:
        self.draft = draft
        self.index = draft.index
        self.rulebook = router.rulebook
        self.now_ms = now_ms
        self.last = last

    def decisions(self) -> Iterator[Decision]:
        """Routed ones in the order of service, then ends, then waits."""
        draft, index = self.draft, self.index
        for task_id in draft.left:
            index.hide(index.entries[task_id])
        unindexed = self._settled(draft.unindexed)
        free_mask = index.free_mask()
        if draft.slots or draft.slots_gone or (free_mask and index.may_serve(free_mask)):
            turn = Round(draft, unindexed.values(), self.now_ms)
            for pair in turn.pairs():
                unindexed.pop(pair.entry.task_id, None)
                yield self._routed(pair, turn.free_before)
            free_mask = turn.free_mask
            if index.look_at_credit() or turn.moved:
                unindexed = self._settled({task_id: entry.row for task_id, entry in unindexed.items()})
        for ending in draft.endings:
            yield self._ended(ending)
        yield from self._waiting(unindexed, free_mask)

    def _settled(self, rows: Mapping[str, TaskRow]) -> dict[str, Entry]:
        """Entries of these tasks, in groups that hold: what one of them costs may put the others into other groups."""
        while True:
            entries = self._classify(rows)
            for ending in self.draft.endings:
                # Its verdicts are looked up later; its cost counts from here on.
                self.index.classify(ending.row)
            if not self.index.look_at_credit():
                return entries

    def _classify(self, rows: Mapping[str, TaskRow]) -> dict[str, Entry]:
        entries = {task_id: self.index.classify(row) for task_id, row in rows.items()}
        self.index.prepared.update(entries)
        return entries

    def _routed(self, pair: Pair, free_mask: int) -> Decision:
        draft, index, rulebook, now_ms = self.draft, self.index, self.rulebook, self.now_ms
        entry = pair.entry
        row: TaskRow = entry.row
        task, status = row.task, row.status
        group: Group = entry.group
        shape: Shape = entry.shape
        model = rulebook.models[index.fleet.cells[pair.bit].model]
        slot = draft.slot(pair.slot_id)
        assert slot is not None  # noqa: S101 -- the round takes slots that are there
        lease = slot.lease + 1
        expires_at_ms = Millis(now_ms + rulebook.lease_ms(shape.complexity))
        max_tokens = min(rulebook.max_tokens(shape.complexity, task.output_tokens), model.output_tokens_max)
        tokens = expected_output(task, max_tokens)
        has_budget = entry.tenant in index.balances.left
        cost = model.cost_uusd(task.input_tokens, tokens)
        id_ = decision_id(task.pool, draft.seq, task.task_id)
        draft.put_slot(
            SlotRow(
                slot_id=slot.slot_id,
                pool=slot.pool,
                model=slot.model,
                account=slot.account,
                state="leased",
                lease=lease,
                since_ms=now_ms,
                task_id=task.task_id,
                lease_expires_at_ms=expires_at_ms,
            )
        )
        draft.put_task(
            TaskRow(
                task=task,
                at_ms=row.at_ms,
                ev=row.ev,
                status=TaskStatus(
                    state="running",
                    attempt=status.attempt,
                    failures=status.failures,
                    since_ms=status.since_ms,
                    accepted_ms=status.accepted_ms,
                    tier_min=status.tier_min,
                    slot_id=slot.slot_id,
                    lease=lease,
                    decision_id=id_,
                    reserved_uusd=cost if has_budget else None,
                    history=(*status.history, HistoryEntry(now_ms, draft.seq, "routed", slot.slot_id)),
                ),
                traceparent=row.traceparent,
                tracestate=row.tracestate,
                advice=row.advice,
            )
        )
        if has_budget and cost is not None:
            money.reserve(draft, task, cost, id_, now_ms)
        if pair.code == "router_error":
            draft.count("router_error")
        next_free = rulebook.models[pair.next_free_model] if pair.next_free_model is not None else None
        return Decision(
            **self._common(row, entry),
            decision_id=id_,
            outcome="routed",
            reason_code=pair.code,
            reason=words.routed(pair, index),
            alternatives=group.alternatives(
                index.fleet, pair.gates, free_mask, pair.bit, self._scores(entry, pair.mask)
            ),
            chosen_slot_id=slot.slot_id,
            chosen_model=model.id,
            tier=model.tier,
            utilisation=round(pair.busy_ms / SHORT_MS, 6),
            estimated_cost_uusd=cost,
            saved_vs_premium_uusd=_saved(cost, rulebook.premium, task.input_tokens, tokens),
            saved_vs_next_free_uusd=_saved(cost, next_free, task.input_tokens, tokens),
            propensity=1.0,
            lease=lease,
            lease_expires_at_ms=expires_at_ms,
            max_tokens=max_tokens,
            fallback=pair.fallback,
            flags=(*self._flags(row), "unknown_price") if cost is None else self._flags(row),
            priced_at=model.priced_at.isoformat() if model.priced_at is not None and cost is not None else None,
        )

    def _scores(self, entry: Entry, mask: int) -> Scores | None:
        try:
            return self.index.scores(entry, mask)
        except Exception:  # noqa: BLE001 -- a score that cannot be told is left out of the record
            return None

    def _ended(self, ending: Ending) -> Decision:
        row = ending.row
        # A task that ran and was given up left no entry; its verdicts are those of this moment.
        entry = self.index.classify(row)
        outcome = ending.outcome
        reason: ReasonCode = outcome  # type: ignore[assignment]  # an ending's outcome is a reason code as well
        return Decision(
            **self._common(row, entry),
            decision_id=decision_id(row.task.pool, self.draft.seq, row.task.task_id),
            outcome=outcome,
            reason_code=reason,
            reason=words.ended(outcome, ending.detail),
            alternatives=entry.group.alternatives(self.index.fleet, entry.group.gates, 0, -1, None),
            flags=self._flags(row),
        )

    def _waiting(self, unindexed: dict[str, Entry], free_mask: int) -> Iterator[Decision]:
        """First waits, and waits whose headline changed; of the latter a bounded number a step."""
        draft, index = self.draft, self.index
        for entry in unindexed.values():
            yield self._waits(entry, free_mask, len(unindexed))
        # Of what is free, headlines depend on premium slots only.
        announcing_mask = free_mask & index.fleet.tier_masks.get(PREMIUM_TIER, 0)
        if index.announced_mask == announcing_mask:
            return
        service = self.rulebook.policy.service
        each_ms = self.rulebook.announcement_ms
        # The allowance is a bucket that fills with time; `told_ms` is the moment at which it was empty.
        empty_ms = max(draft.pool.announced_ms, self.now_ms - service.announcements_max * each_ms)
        left = (self.now_ms - empty_ms) // each_ms
        behind = [
            (group, headline)
            for group in index.groups.values()
            if len(group.announced) > ((headline := group.headline(free_mask)) in group.announced)
        ]
        if not behind:
            index.announced_mask = announcing_mask
            return
        index.announced_mask = None
        if left < self.rulebook.announcements_min:
            draft.unannounced = True
            return
        # One more than may be told, to know whether some are left over.
        stale = sorted(found for group, headline in behind for found in group.stale(headline, left + 1))
        for _, _, entry in stale[:left]:
            yield self._waits(entry, free_mask, len(unindexed))
        if stale:
            draft.announced_ms = Millis(empty_ms + min(left, len(stale)) * each_ms)
        draft.unannounced = len(stale) > left

    def _waits(self, entry: Entry, free_mask: int, unindexed: int) -> Decision:
        draft, index = self.draft, self.index
        row: TaskRow = entry.row
        headline = entry.group.headline(free_mask)
        status = row.status
        history = status.history
        if status.headline is None:
            history = (*history, HistoryEntry(self.now_ms, draft.seq, "waits", headline))
        fresh = replace(row, status=replace(status, headline=headline, history=history))
        draft.tasks[row.task.task_id] = fresh
        prepared = index.prepared.get(row.task.task_id)
        if prepared is not None:
            prepared.row = fresh
        return Decision(
            **self._common(row, entry),
            decision_id=decision_id(row.task.pool, draft.seq, row.task.task_id),
            outcome="waiting",
            reason_code=headline,
            reason=words.waits(entry, headline, index, free_mask),
            alternatives=entry.group.alternatives(
                index.fleet, entry.group.gates, free_mask, -1, self._scores(entry, entry.group.mask)
            ),
            position=self._position(entry, unindexed),
            flags=self._flags(row),
        )

    def _position(self, entry: Entry, unindexed: int) -> int:
        """Place in service order: exact among few, else an upper bound by bands of aged priority."""
        index = self.index
        if len(index.entries) + unindexed > _POSITION_EXACT_MAX:
            known = entry.task_id in index.entries
            return index.ahead(entry) + (0 if known else unindexed)
        mine = self._service_key(entry)
        others = {**index.entries, **index.prepared}
        return 1 + sum(
            self._service_key(other) < mine
            for task_id, other in others.items()
            if not other.taken and task_id not in self.draft.finished and self._still_waits(task_id)
        )

    def _still_waits(self, task_id: str) -> bool:
        row = self.draft.task(task_id)
        return row is not None and row.status.state == "waiting"

    def _service_key(self, entry: Entry) -> tuple[int, int, float, int, str]:
        points = (self.now_ms - entry.birth_ms) // self.rulebook.ageing_ms
        first = entry.group.lifted or points >= self.rulebook.patience_points
        return (1 - first, -points, entry.ev_key, entry.since_ms, entry.task_id)

    def _common(self, row: TaskRow, entry: Entry) -> dict[str, Any]:
        """What every decision says, whatever it decides."""
        task, status = row.task, row.status
        percentiles = self.index.percentiles
        shape: Shape = entry.shape
        topic, offset = self.draft.origins.get(task.task_id, self.last)
        return {
            "task_id": task.task_id,
            "pool": task.pool,
            "decided_at_ms": self.now_ms,
            "at_ms": row.at_ms,
            "attempt": status.attempt,
            "priority": task.priority,
            "strategy": shape.strategy,
            "waiting_since_ms": status.accepted_ms,
            "input_topic": INPUT_TOPICS[topic],
            "input_offset": offset,
            "layer": task.layer,
            "lane": task.lane,
            "agent_role": task.agent_role,
            "task_type": task.task_type,
            "tenant_id": task.tenant_id,
            "complexity": shape.complexity,
            "objective": self.rulebook.policy.objective_of(task, shape.complexity),
            "ev": row.ev,
            "ev_percentile": percentile_of(row.ev, percentiles),
            "p50": percentiles.p50 if percentiles is not None else None,
            "p90": percentiles.p90 if percentiles is not None else None,
            "lifted": entry.group.lifted,
            "traceparent": row.traceparent,
            "tracestate": row.tracestate,
        }

    def _flags(self, row: TaskRow) -> tuple[str, ...]:
        advice = row.advice
        return (*self.index.flags, "plugin_failed") if advice is not None and advice.failed else self.index.flags


def _saved(cost: MicroUsd | None, other: Model | None, input_tokens: int, output_tokens: int) -> MicroUsd | None:
    """What was not spent by not using the other model; unknown where a price is."""
    theirs = other.cost_uusd(input_tokens, output_tokens) if other is not None else None
    return MicroUsd(theirs - cost) if cost is not None and theirs is not None else None
