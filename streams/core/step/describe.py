"""The decision about a task as the journal keeps it: what was chosen, why, and what was looked at. Changes nothing."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from msgspec import Raw

from schemas.decision import TITLE_CHARS_MAX, Decision, TaskRow
from schemas.events import TaskPending
from schemas.vocabulary import INPUT_TOPICS, DecisionOutcome, Decisive, MicroUsd, Millis, ReasonCode
from streams.core.index.fleet import Cell, Scores
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

_SWAPPED: Final[Decisive] = "swap"


class Describer:
    """Describes the decisions of one pool in one step."""

    def __init__(self, draft: PoolDraft, rulebook: Rulebook, now_ms: Millis, last: tuple[int, int]) -> None:
        """`last` is topic and offset of the step's last input: the cause of what no input of its own caused."""
        self._draft = draft
        self._index = draft.index
        self._rulebook = rulebook
        self._now_ms = now_ms
        self._last = last

    # `routed` and `_unrouted` name every field themselves: a base to be replaced would be built twice.

    def routed(self, pair: Pair, given: Assignment, free_mask: int) -> Decision:
        """The task got a slot; `free_mask` are the cells with a free slot when the round began."""
        index, rulebook, entry, model = self._index, self._rulebook, pair.entry, given.model
        row = entry.row
        task, status, complexity, cost_uusd = row.task, row.status, entry.shape.complexity, given.cost_uusd
        percentiles, flags = index.percentiles, self._flags(row)
        topic, offset = self._draft.origins.get(task.task_id, self._last)
        next_free = rulebook.models[pair.next_free_model] if pair.next_free_model is not None else None
        scores = self._scores(entry, pair.mask)
        behind = (_SWAPPED,) * len(index.fleet.models) if pair.is_swapped else pair.found.behind
        return Decision(
            decision_id=given.decision_id,
            task_id=task.task_id,
            pool=task.pool,
            outcome="routed",
            reason_code=pair.code,
            reason=sentences.routed(pair, index),
            alternatives=entry.group.alternatives(index.fleet, pair.gates, free_mask, pair.bit, scores, behind),
            decided_at_ms=self._now_ms,
            at_ms=row.at_ms,
            attempt=status.attempt,
            priority=task.priority,
            strategy=entry.shape.strategy,
            waiting_since_ms=status.accepted_ms,
            input_topic=INPUT_TOPICS[topic],
            input_offset=offset,
            chosen_slot_id=given.slot_id,
            chosen_model=model.id,
            chosen_account=given.account,
            chosen_provider=model.provider,
            tier=model.tier,
            layer=task.layer,
            lane=task.lane,
            agent_role=task.agent_role,
            task_type=task.task_type,
            tenant_id=task.tenant_id,
            complexity=complexity,
            objective=rulebook.policy.objective_of(task, complexity),
            ev=row.ev,
            ev_percentile=percentile_of(row.ev, percentiles),
            p50=percentiles.p50 if percentiles is not None else None,
            p90=percentiles.p90 if percentiles is not None else None,
            lifted=entry.group.lifted,
            utilisation=round(pair.busy_ms / SHORT_MS, 6),
            estimated_cost_uusd=cost_uusd,
            saved_vs_premium_uusd=self._saved(given, rulebook.premium, task),
            saved_vs_next_free_uusd=self._saved(given, next_free, task),
            propensity=1.0,
            lease=given.lease,
            lease_expires_at_ms=given.lease_expires_at_ms,
            lease_renewals_max=given.renewals_max,
            max_tokens=given.max_tokens,
            fallback=pair.fallback,
            flags=(*flags, "unknown_price") if cost_uusd is None else flags,
            priced_at=model.priced_at.isoformat() if model.priced_at is not None and cost_uusd is not None else None,
            traceparent=row.traceparent,
            tracestate=row.tracestate,
            accepted_seq=row.accepted_seq,
            title=_cut(task.title),
        )

    def ended(self, ending: Ending) -> Decision:
        """The task ended without a slot."""
        # A task that ran and was given up left no entry; its verdicts are those of this moment.
        entry = self._index.classify(ending.row)
        reason: ReasonCode = ending.outcome  # type: ignore[assignment]  # an ending's outcome is a reason code as well
        sentence = sentences.ended(ending.outcome, ending.detail)
        alternatives = entry.group.alternatives(self._index.fleet, entry.group.gates, 0, -1, None)
        origin = ending.origin or self._last
        return self._unrouted(entry, ending.outcome, reason, sentence, alternatives, origin, ending.life)

    def waits(self, entry: Entry, headline: ReasonCode, free_mask: int, position: int) -> Decision:
        """The task waits; `free_mask` are the cells with a free slot after the round."""
        group, index = entry.group, self._index
        sentence = sentences.waits(entry, headline, index, free_mask, self._lost)
        scores = self._scores(entry, group.mask)
        alternatives = group.alternatives(index.fleet, group.gates, free_mask, -1, scores)
        task_id = entry.task_id
        origin, life = self._draft.origins.get(task_id, self._last), self._draft.life(task_id)
        return self._unrouted(entry, "waiting", headline, sentence, alternatives, origin, life, position)

    @cached_property
    def _lost(self) -> dict[str, Cell]:
        return self._draft.lost()

    def _unrouted(
        self,
        entry: Entry,
        outcome: DecisionOutcome,
        code: ReasonCode,
        sentence: str,
        alternatives: Raw,
        origin: tuple[int, int],
        life: int,
        position: int | None = None,
    ) -> Decision:
        row = entry.row
        task, status, complexity = row.task, row.status, entry.shape.complexity
        percentiles = self._index.percentiles
        topic, offset = origin
        return Decision(
            decision_id=decision_id(task.pool, self._draft.seq, task.task_id, life),
            task_id=task.task_id,
            pool=task.pool,
            outcome=outcome,
            reason_code=code,
            reason=sentence,
            alternatives=alternatives,
            decided_at_ms=self._now_ms,
            at_ms=row.at_ms,
            attempt=status.attempt,
            priority=task.priority,
            strategy=entry.shape.strategy,
            waiting_since_ms=status.accepted_ms,
            input_topic=INPUT_TOPICS[topic],
            input_offset=offset,
            layer=task.layer,
            lane=task.lane,
            agent_role=task.agent_role,
            task_type=task.task_type,
            tenant_id=task.tenant_id,
            complexity=complexity,
            objective=self._rulebook.policy.objective_of(task, complexity),
            ev=row.ev,
            ev_percentile=percentile_of(row.ev, percentiles),
            p50=percentiles.p50 if percentiles is not None else None,
            p90=percentiles.p90 if percentiles is not None else None,
            lifted=entry.group.lifted,
            position=position,
            flags=self._flags(row),
            traceparent=row.traceparent,
            tracestate=row.tracestate,
            title=_cut(task.title),
        )

    def _scores(self, entry: Entry, mask: int) -> Scores | None:
        try:
            return self._index.scores(entry, mask)
        except Exception:  # noqa: BLE001 -- a score that cannot be computed is left out of the record
            return None

    def _flags(self, row: TaskRow) -> tuple[str, ...]:
        flags = self._index.conditions.flags
        if self._rulebook.patient_ms(row) <= self._now_ms:
            flags = (*flags, "patient")
        if self._index.breaker.warns(row.task.tenant_id, row.task.lane):
            flags = (*flags, "spending")
        return (*flags, "plugin_failed") if row.advice is not None and row.advice.failed else flags

    def _saved(self, given: Assignment, other: Model | None, task: TaskPending) -> MicroUsd | None:
        """What was not spent by not using the other model for the same tokens; unknown where a price is."""
        if other is None or given.cost_uusd is None:
            return None
        theirs = other.tariff.estimate_uusd(task.input_tokens, given.output_tokens, self._now_ms)
        return MicroUsd(theirs - given.cost_uusd) if theirs is not None else None


def _cut(title: str) -> str | None:
    """Return a title for the record: whole, or cut between two characters, with an ellipsis."""
    if len(title) > TITLE_CHARS_MAX:
        return title[: TITLE_CHARS_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return title or None
