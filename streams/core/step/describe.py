"""The decision about a task as the journal keeps it: what was chosen, why, and what was looked at. Changes nothing."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw

from schemas.decision import Decision, TaskRow
from schemas.vocabulary import INPUT_TOPICS, DecisionOutcome, MicroUsd, Millis, ReasonCode, Tier
from streams.core.index.groups import Scores
from streams.core.index.waiting import Entry
from streams.core.policy.catalog import Model
from streams.core.policy.ev import percentile_of
from streams.core.policy.rulebook import Rulebook
from streams.core.state.utilisation import SHORT_MS
from streams.core.step import sentences
from streams.core.step.assign import Assignment
from streams.core.step.decision_ids import decision_id
from streams.core.step.draft import Ending, PoolDraft
from streams.core.step.swaps import Pair


class _Outcome(NamedTuple):
    """What was decided, and why."""

    decision_id: str
    outcome: DecisionOutcome
    reason_code: ReasonCode
    reason: str
    alternatives: Raw
    flags: tuple[str, ...]
    position: int | None = None


class _Chosen(NamedTuple):
    """What a decision states about the chosen slot; all None: none was chosen."""

    slot_id: str | None = None
    model: str | None = None
    tier: Tier | None = None
    utilisation: float | None = None
    cost_uusd: MicroUsd | None = None
    saved_vs_premium_uusd: MicroUsd | None = None
    saved_vs_next_free_uusd: MicroUsd | None = None
    propensity: float | None = None
    lease: int | None = None
    lease_expires_at_ms: Millis | None = None
    max_tokens: int | None = None
    fallback: bool = False
    priced_at: str | None = None


_NONE = _Chosen()


class Describer:
    """Describes the decisions of one pool in one step."""

    def __init__(self, draft: PoolDraft, rulebook: Rulebook, now_ms: Millis, last: tuple[int, int]) -> None:
        """`last` is topic and offset of the step's last input: the cause of what no input of its own caused."""
        self._draft = draft
        self._index = draft.index
        self._rulebook = rulebook
        self._now_ms = now_ms
        self._last = last

    def routed(self, pair: Pair, given: Assignment, free_mask: int) -> Decision:
        """The task got a slot; `free_mask` are the cells with a free slot when the round began."""
        index, rulebook, entry, model = self._index, self._rulebook, pair.entry, given.model
        row: TaskRow = entry.row
        task, cost_uusd = row.task, given.cost_uusd
        next_free = rulebook.models[pair.next_free_model] if pair.next_free_model is not None else None
        scores = self._scores(entry, pair.mask)
        flags = self._flags(row)
        outcome = _Outcome(
            decision_id=given.decision_id,
            outcome="routed",
            reason_code=pair.code,
            reason=sentences.routed(pair, index),
            alternatives=entry.group.alternatives(index.fleet, pair.gates, free_mask, pair.bit, scores),
            flags=(*flags, "unknown_price") if cost_uusd is None else flags,
        )
        chosen = _Chosen(
            slot_id=given.slot_id,
            model=model.id,
            tier=model.tier,
            utilisation=round(pair.busy_ms / SHORT_MS, 6),
            cost_uusd=cost_uusd,
            saved_vs_premium_uusd=_saved(cost_uusd, rulebook.premium, task.input_tokens, given.output_tokens),
            saved_vs_next_free_uusd=_saved(cost_uusd, next_free, task.input_tokens, given.output_tokens),
            propensity=1.0,
            lease=given.lease,
            lease_expires_at_ms=given.lease_expires_at_ms,
            max_tokens=given.max_tokens,
            fallback=pair.fallback,
            priced_at=model.priced_at.isoformat() if model.priced_at is not None and cost_uusd is not None else None,
        )
        return self._decision(row, entry, outcome, chosen)

    def ended(self, ending: Ending) -> Decision:
        """The task ended without a slot."""
        row, index = ending.row, self._index
        # A task that ran and was given up left no entry; its verdicts are those of this moment.
        entry = index.classify(row)
        reason: ReasonCode = ending.outcome  # type: ignore[assignment]  # an ending's outcome is a reason code as well
        outcome = _Outcome(
            decision_id=decision_id(row.task.pool, self._draft.seq, row.task.task_id),
            outcome=ending.outcome,
            reason_code=reason,
            reason=sentences.ended(ending.outcome, ending.detail),
            alternatives=entry.group.alternatives(index.fleet, entry.group.gates, 0, -1, None),
            flags=self._flags(row),
        )
        return self._decision(row, entry, outcome, _NONE)

    def waits(self, entry: Entry, headline: ReasonCode, free_mask: int, position: int) -> Decision:
        """The task waits; `free_mask` are the cells with a free slot after the round."""
        row: TaskRow = entry.row
        group, index = entry.group, self._index
        scores = self._scores(entry, group.mask)
        outcome = _Outcome(
            decision_id=decision_id(row.task.pool, self._draft.seq, row.task.task_id),
            outcome="waiting",
            reason_code=headline,
            reason=sentences.waits(entry, headline, index, free_mask),
            alternatives=group.alternatives(index.fleet, group.gates, free_mask, -1, scores),
            flags=self._flags(row),
            position=position,
        )
        return self._decision(row, entry, outcome, _NONE)

    def _decision(self, row: TaskRow, entry: Entry, outcome: _Outcome, chosen: _Chosen) -> Decision:
        task, status, shape = row.task, row.status, entry.shape
        percentiles = self._index.percentiles
        topic, offset = self._draft.origins.get(task.task_id, self._last)
        return Decision(
            decision_id=outcome.decision_id,
            task_id=task.task_id,
            pool=task.pool,
            outcome=outcome.outcome,
            reason_code=outcome.reason_code,
            reason=outcome.reason,
            alternatives=outcome.alternatives,
            decided_at_ms=self._now_ms,
            at_ms=row.at_ms,
            attempt=status.attempt,
            priority=task.priority,
            strategy=shape.strategy,
            waiting_since_ms=status.accepted_ms,
            input_topic=INPUT_TOPICS[topic],
            input_offset=offset,
            chosen_slot_id=chosen.slot_id,
            chosen_model=chosen.model,
            tier=chosen.tier,
            layer=task.layer,
            lane=task.lane,
            agent_role=task.agent_role,
            task_type=task.task_type,
            tenant_id=task.tenant_id,
            complexity=shape.complexity,
            objective=self._rulebook.policy.objective_of(task, shape.complexity),
            ev=row.ev,
            ev_percentile=percentile_of(row.ev, percentiles),
            p50=percentiles.p50 if percentiles is not None else None,
            p90=percentiles.p90 if percentiles is not None else None,
            lifted=entry.group.lifted,
            utilisation=chosen.utilisation,
            estimated_cost_uusd=chosen.cost_uusd,
            saved_vs_premium_uusd=chosen.saved_vs_premium_uusd,
            saved_vs_next_free_uusd=chosen.saved_vs_next_free_uusd,
            propensity=chosen.propensity,
            lease=chosen.lease,
            lease_expires_at_ms=chosen.lease_expires_at_ms,
            max_tokens=chosen.max_tokens,
            position=outcome.position,
            fallback=chosen.fallback,
            flags=outcome.flags,
            priced_at=chosen.priced_at,
            traceparent=row.traceparent,
            tracestate=row.tracestate,
        )

    def _scores(self, entry: Entry, mask: int) -> Scores | None:
        try:
            return self._index.scores(entry, mask)
        except Exception:  # noqa: BLE001 -- a score that cannot be computed is left out of the record
            return None

    def _flags(self, row: TaskRow) -> tuple[str, ...]:
        advice = row.advice
        return (*self._index.flags, "plugin_failed") if advice is not None and advice.failed else self._index.flags


def _saved(cost: MicroUsd | None, other: Model | None, input_tokens: int, output_tokens: int) -> MicroUsd | None:
    """What was not spent by not using the other model; unknown where a price is."""
    theirs = other.cost_uusd(input_tokens, output_tokens) if other is not None else None
    return MicroUsd(theirs - cost) if cost is not None and theirs is not None else None
