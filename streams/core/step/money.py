"""Budgets of tenants: reserve at the decision, settle at the outcome, release where the work is lost.

available + reserved + consumed = credited, at every step. Amounts are whole micro-dollars. A tenant without a ledger
has no budget, and a task routed before its tenant had one is never charged.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from schemas.decision import LedgerRow, MoneyMovement, TaskRow, Unreported
from schemas.events import BudgetCredited, Outcome, TaskPending
from schemas.vocabulary import Complexity, MicroUsd, Millis
from streams.core.policy.catalog import Model
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.tariff import Usage
from streams.core.step.draft import PoolDraft


def micro(usd: float) -> MicroUsd:
    """Return whole micro-dollars, rounded half away from zero."""
    return MicroUsd(int(usd * 1e6 + (0.5 if usd >= 0 else -0.5)))


def actual(
    task: TaskPending,
    complexity: Complexity | None,
    model: Model | None,
    outcome: Outcome,
    rulebook: Rulebook,
    decided_ms: Millis,
) -> MicroUsd | None:
    """Return the cost of the work: as reported, else of the reported tokens; None where neither is known.

    The prices are those of the hour of the decision; a number of tokens that is not reported is as estimated.
    `model` None: it is no longer in the catalogue.
    """
    if outcome.cost_usd is not None:
        return micro(outcome.cost_usd)
    reported = (outcome.input_tokens, outcome.output_tokens, outcome.cached_input_tokens, outcome.reasoning_tokens)
    if model is None or all(count is None for count in reported):
        return None
    tokens_in, tokens_out, cached, reasoning = reported
    if tokens_in is None:
        tokens_in = task.input_tokens
    if tokens_out is None:
        tokens_out = rulebook.output_tokens(task, complexity, model)
    return model.tariff.cost_uusd(
        Usage(tokens_in, tokens_out, _part(cached, tokens_in), _part(reasoning, tokens_out)), decided_ms
    )


def is_contradictory(outcome: Outcome) -> bool:
    """Whether the outcome reports more cached or reasoning tokens than the tokens that they are part of."""
    parts = ((outcome.cached_input_tokens, outcome.input_tokens), (outcome.reasoning_tokens, outcome.output_tokens))
    return any(part is not None and whole is not None and part > whole for part, whole in parts)


def _part(part: int | None, whole: int) -> int:
    """Return the part of a whole. One that is larger says nothing of the whole, which then has the plain price."""
    return part if part is not None and part <= whole else 0


def credit(draft: PoolDraft, event: BudgetCredited, now_ms: Millis) -> None:
    """Credit a tenant's budget; the first credit creates it."""
    amount = micro(event.amount_usd)
    ledger = draft.ledger(event.tenant_id) or LedgerRow(
        draft.pool.name, event.tenant_id, MicroUsd(0), MicroUsd(0), MicroUsd(0), MicroUsd(0)
    )
    draft.ledgers[event.tenant_id] = replace(
        ledger,
        credited_uusd=ledger.credited_uusd + amount,
        available_uusd=ledger.available_uusd + amount,
    )
    draft.money.append(
        MoneyMovement(
            pool=draft.pool.name,
            tenant_id=event.tenant_id,
            kind="credit",
            amount_uusd=amount,
            at_ms=now_ms,
            control_id=event.control_id,
        )
    )


def reserve(draft: PoolDraft, task: TaskPending, amount: MicroUsd, decision_id: str, now_ms: Millis) -> None:
    """Reserve the estimate; only for a tenant with a ledger."""
    ledger = draft.ledger(task.tenant_id)
    assert ledger is not None  # noqa: S101 -- the caller has checked it
    draft.ledgers[ledger.tenant_id] = replace(
        ledger,
        available_uusd=ledger.available_uusd - amount,
        reserved_uusd=ledger.reserved_uusd + amount,
    )
    _move(draft, ledger, "reserve", amount, decision_id, now_ms)


def settle(draft: PoolDraft, row: TaskRow, spent: MicroUsd | None, now_ms: Millis) -> None:
    """Settle a reservation with the cost of the work; where that is unknown the reservation is consumed."""
    _close(draft, row, row.status.reserved_uusd if spent is None else spent, "settle", now_ms)


def settle_late(draft: PoolDraft, work: Unreported, spent: MicroUsd | None, now_ms: Millis) -> None:
    """Settle work whose reservation was released: it is consumed from what is available."""
    ledger = draft.ledger(work.task.tenant_id)
    if work.reserved_uusd is None or ledger is None:
        return
    if spent is None:
        spent = work.reserved_uusd
    draft.ledgers[ledger.tenant_id] = replace(
        ledger,
        available_uusd=ledger.available_uusd - spent,
        consumed_uusd=ledger.consumed_uusd + spent,
    )
    _move(draft, ledger, "settle", spent, work.decision_id, now_ms)


def release(draft: PoolDraft, row: TaskRow, now_ms: Millis) -> None:
    """Release a reservation: it is available again."""
    _close(draft, row, MicroUsd(0), "release", now_ms)


def _close(
    draft: PoolDraft, row: TaskRow, spent: MicroUsd | None, kind: Literal["settle", "release"], now_ms: Millis
) -> None:
    reserved = row.status.reserved_uusd
    ledger = draft.ledger(row.task.tenant_id)
    if reserved is None or spent is None or ledger is None:
        return
    draft.ledgers[ledger.tenant_id] = replace(
        ledger,
        available_uusd=ledger.available_uusd + reserved - spent,
        reserved_uusd=ledger.reserved_uusd - reserved,
        consumed_uusd=ledger.consumed_uusd + spent,
    )
    _move(draft, ledger, kind, reserved if kind == "release" else spent, row.status.decision_id, now_ms)


def _move(
    draft: PoolDraft,
    ledger: LedgerRow,
    kind: Literal["reserve", "settle", "release"],
    amount: MicroUsd,
    decision_id: str | None,
    now_ms: Millis,
) -> None:
    draft.money.append(
        MoneyMovement(
            pool=ledger.pool,
            tenant_id=ledger.tenant_id,
            kind=kind,
            amount_uusd=amount,
            at_ms=now_ms,
            decision_id=decision_id,
        )
    )
