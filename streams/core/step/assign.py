"""Assigns a slot to a task in the draft: the slot is leased, the task runs, its estimate is reserved."""

from __future__ import annotations

from msgspec import Struct

from schemas.decision import HistoryEntry, SlotRow, TaskRow, TaskStatus
from schemas.vocabulary import MicroUsd, Millis
from streams.core.policy.catalog import Model
from streams.core.policy.rulebook import Rulebook, expected_output
from streams.core.step import money
from streams.core.step.decision_ids import decision_id
from streams.core.step.draft import PoolDraft
from streams.core.step.swaps import Pair


class Assignment(Struct, frozen=True, kw_only=True, gc=False):
    """A slot leased for a task."""

    decision_id: str
    slot_id: str
    account: str | None
    model: Model
    lease: int
    lease_expires_at_ms: Millis
    renewals_max: int
    #: The most output tokens that the task may use, and the expected number.
    max_tokens: int
    output_tokens: int
    #: Estimate; None: the price is unknown.
    cost_uusd: MicroUsd | None


def assign(draft: PoolDraft, pair: Pair, now_ms: Millis, rulebook: Rulebook) -> Assignment:
    """Lease the pair's slot to its task."""
    index, entry = draft.index, pair.entry
    row = entry.row
    task, status = row.task, row.status
    complexity = entry.shape.complexity
    model = rulebook.models[index.fleet.cells[pair.bit].model]
    slot = draft.slot(pair.slot_id)
    assert slot is not None  # noqa: S101 -- the round takes slots that are there
    max_tokens = rulebook.answer_tokens(task, complexity, model)
    output_tokens = expected_output(task, max_tokens)
    given = Assignment(
        decision_id=decision_id(task.pool, draft.seq, task.task_id, draft.life(task.task_id)),
        slot_id=slot.slot_id,
        account=slot.account,
        model=model,
        lease=slot.lease + 1,
        lease_expires_at_ms=Millis(now_ms + rulebook.lease_ms(complexity, task.lease_s)),
        renewals_max=rulebook.renewals_max(complexity),
        max_tokens=max_tokens,
        output_tokens=output_tokens,
        cost_uusd=model.tariff.estimate_uusd(task.input_tokens, output_tokens, now_ms),
    )
    has_budget = entry.tenant in index.balances.left
    draft.put_slot(
        SlotRow(
            slot_id=slot.slot_id,
            pool=slot.pool,
            model=slot.model,
            account=slot.account,
            state="leased",
            lease=given.lease,
            since_ms=now_ms,
            task_id=task.task_id,
            lease_expires_at_ms=given.lease_expires_at_ms,
            renewals_left=given.renewals_max,
            last_report=slot.last_report,
            ttl_ms=slot.ttl_ms,
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
                lease=given.lease,
                decision_id=given.decision_id,
                reserved_uusd=given.cost_uusd if has_budget else None,
                history=(*status.history, HistoryEntry(now_ms, draft.seq, "routed", slot.slot_id)),
            ),
            traceparent=row.traceparent,
            tracestate=row.tracestate,
            advice=row.advice,
            accepted_seq=row.accepted_seq,
        )
    )
    if has_budget and given.cost_uusd is not None:
        money.reserve(draft, task, given.cost_uusd, given.decision_id, now_ms)
    if pair.code == "router_error":
        draft.count("router_error")
    return given
