"""Changes of rows by events: tasks are accepted, retried and ended; slots are registered, freed, lost and retired.

No slot is chosen here; that is `round.py`. All changes go to the draft. A function returns the reason when it refuses
its event, else None.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import EvSample, HistoryEntry, SlotRow, TaskRow, TaskStatus, WorkDone
from schemas.events import Outcome, SlotFreed, TaskCancelled, TaskPending
from schemas.input import Input
from schemas.vocabulary import Millis, Tier, to_millis
from streams.core.index.due import Due
from streams.core.policy.catalog import PREMIUM_TIER
from streams.core.policy.document import nearest
from streams.core.policy.ev import CachedScorer
from streams.core.policy.rulebook import Rulebook
from streams.core.step import money
from streams.core.step.draft import PoolDraft

_HISTORY_MAX = 64


def pend(draft: PoolDraft, task: TaskPending, item: Input, rulebook: Rulebook, scorer: CachedScorer) -> str | None:
    """Accept a task."""
    task_id, now_ms = task.task_id, item.now_ms
    known = draft.task(task_id)
    if known is not None:
        draft.count("duplicate_task" if known.task == task else "conflicting_task")
        return None
    if _is_over(draft, task_id, now_ms, rulebook):
        draft.count("duplicate_task")
        return None
    refusal = _unusable(task, rulebook)
    if refusal is not None:
        return refusal
    advice = item.advice
    ev = scorer.ev(task, now_ms, advice)
    at_ms = rulebook.arrival_ms(to_millis(task.at), now_ms)
    due_ms = to_millis(task.not_before) if task.not_before is not None else None
    delayed = due_ms is not None and due_ms > now_ms
    status = TaskStatus(
        state="delayed" if delayed else "waiting",
        attempt=task.attempt,
        since_ms=at_ms if due_ms is None else max(at_ms, due_ms),
        accepted_ms=now_ms,
        due_ms=due_ms if delayed else None,
        history=(HistoryEntry(now_ms, draft.seq, "accepted"),),
    )
    row = TaskRow(
        task=task,
        at_ms=at_ms,
        ev=ev,
        status=status,
        traceparent=item.traceparent,
        tracestate=item.tracestate,
        advice=advice,
    )
    draft.origins[task_id] = (item.topic, item.offset)
    if ev is not None:
        draft.evs.append(EvSample(draft.pool.name, now_ms, ev))
    cancelled_ms = draft.cancels.get(task_id, draft.pool.cancels.get(task_id))
    if cancelled_ms is not None and cancelled_ms >= now_ms - rulebook.memory_ms:
        draft.cancels.pop(task_id, None)
        draft.end(row, "cancelled", "a cancel that came before it", now_ms)
    elif task.deadline is not None and to_millis(task.deadline) <= now_ms:
        draft.end(row, "expired", task.deadline, now_ms)
    else:
        draft.put_task(row)
    return None


def _is_over(draft: PoolDraft, task_id: str, now_ms: Millis, rulebook: Rulebook) -> bool:
    if task_id in draft.finished:
        return True
    finished = draft.pool.finished.get(task_id)
    return finished is not None and finished.at_ms >= now_ms - rulebook.memory_ms


def _unusable(task: TaskPending, rulebook: Rulebook) -> str | None:
    if task.floor_model is not None:
        model = rulebook.models.get(task.floor_model)
        if model is None:
            return (
                f"floor_model {task.floor_model} is not in the catalogue.{nearest(task.floor_model, rulebook.models)}"
            )
        if task.max_tier is not None and model.tier > task.max_tier:
            return (
                f"floor_model {model.id} is of tier {model.tier}, above max_tier {task.max_tier}: nothing could do it."
            )
    return None


def cancel(draft: PoolDraft, event: TaskCancelled, now_ms: Millis, rulebook: Rulebook) -> None:
    """Cancel a task; a running one keeps its slot until it is freed."""
    row = draft.task(event.task_id)
    if row is None:
        if _is_over(draft, event.task_id, now_ms, rulebook):
            draft.count("late_cancel")
        else:
            draft.cancels[event.task_id] = now_ms
    elif row.status.state != "running":
        draft.end(row, "cancelled", event.by, now_ms)
    elif not row.status.cancelled:
        draft.change_status(
            row, _with_entry(replace(row.status, cancelled=True), now_ms, draft.seq, "cancelled", event.by)
        )
        draft.count("cancelled_while_running")


def free(draft: PoolDraft, event: SlotFreed, now_ms: Millis, rulebook: Rulebook) -> str | None:
    """Register or free a slot."""
    if event.model is not None and event.model not in rulebook.models:
        return f"model {event.model} is not in the catalogue.{nearest(event.model, rulebook.models)}"
    slot = draft.slot(event.slot_id)
    if slot is None:
        last_lease = draft.last_lease(event.slot_id)
        if event.lease is not None:
            draft.count("stale_free")
            if last_lease is not None:
                # The slot left; only an announcement registers it again.
                return None
        if event.model is None:
            return f"slot {event.slot_id} is not known yet, so its model must be said."
        _put_free(draft, event, event.model, event.account, last_lease or 0, now_ms)
        return None
    if event.lease is not None:
        if slot.state != "leased" or event.lease != slot.lease:
            draft.count("stale_free")
            return None
        _end_lease(draft, slot, event.outcome, now_ms, rulebook)
    elif slot.state == "leased":
        if min(to_millis(event.at), now_ms) <= slot.since_ms:
            draft.count("duplicate_free")
            return None
        _lose(draft, slot, now_ms, rulebook, "slot restarted")
    elif slot.state == "free" and not slot.retired and (event.model is None or event.model == slot.model):
        draft.count("duplicate_free")
        if event.account is not None and event.account != slot.account:
            draft.put_slot(replace(slot, account=event.account))
        return None
    if slot.retired and event.lease is not None:
        draft.drop_slot(slot, now_ms)
        return None
    _put_free(draft, event, event.model or slot.model, event.account or slot.account, slot.lease, now_ms)
    return None


def _put_free(draft: PoolDraft, event: SlotFreed, model: str, account: str | None, lease: int, now_ms: Millis) -> None:
    draft.put_slot(
        SlotRow(
            slot_id=event.slot_id,
            pool=event.pool,
            model=model,
            account=account,
            state="free",
            lease=lease,
            since_ms=now_ms,
        )
    )


def retire(draft: PoolDraft, slot_id: str, now_ms: Millis) -> None:
    """Retire a slot: it finishes its task and gets no other."""
    slot = draft.slot(slot_id)
    if slot is None:
        draft.count("unknown_slot")
    elif slot.state == "leased":
        draft.put_slot(replace(slot, retired=True))
    else:
        draft.drop_slot(slot, now_ms)


def fall_due(draft: PoolDraft, item: Due, rulebook: Rulebook) -> None:
    """Handle a due item: a lease that ran out, a deadline that passed, or a delayed task that may be served now."""
    due_ms, kind, id_, which = item
    if kind == "lease":
        slot = draft.slot(id_)
        if slot is None or slot.state != "leased" or slot.lease != which:
            return
        _lose(draft, slot, due_ms, rulebook, "lease ran out")
        if slot.retired:
            draft.drop_slot(slot, due_ms)
        else:
            draft.put_slot(replace(slot, state="lost", since_ms=due_ms, task_id=None, lease_expires_at_ms=None))
        draft.count("lost_slot")
        return
    row = draft.task(id_)
    if row is None or row.status.attempt != which:
        return
    if kind == "deadline" and row.status.state != "running":
        draft.end(row, "expired", row.task.deadline or "", due_ms)
    elif kind == "due" and row.status.state == "delayed":
        draft.change_status(row, replace(row.status, state="waiting", due_ms=None, accepted_ms=due_ms))


def _end_lease(draft: PoolDraft, slot: SlotRow, outcome: Outcome | None, now_ms: Millis, rulebook: Rulebook) -> None:
    row = draft.task(slot.task_id) if slot.task_id is not None else None
    if row is None:
        return
    status = row.status
    if outcome is not None and outcome.task_id != row.task.task_id:
        draft.count("foreign_outcome")
        outcome = None
    spent = None
    if outcome is not None and status.decision_id is not None:
        model = rulebook.models[slot.model]
        complexity = rulebook.complexity(row.task)
        # The slot is leased since the decision; a vendor bills a request by the hour in which it is sent.
        spent = money.actual(row.task, complexity, model, outcome, rulebook, slot.since_ms)
        if money.is_contradictory(outcome):
            draft.count("contradictory_outcome")
        cost = spent
        if cost is None:
            cost = status.reserved_uusd
        if cost is None:
            cost = rulebook.cost_uusd(row.task, complexity, model, slot.since_ms)
        draft.work.append(
            WorkDone(
                decision_id=status.decision_id,
                pool=slot.pool,
                slot_id=slot.slot_id,
                model=slot.model,
                lease=slot.lease,
                at_ms=now_ms,
                outcome=outcome,
                cost_uusd=cost,
            )
        )
    money.settle(draft, row, spent, now_ms)
    result = outcome.status if outcome is not None else "success"
    if status.cancelled:
        draft.finish(row, "cancelled", now_ms)
    elif result != "failure":
        draft.finish(row, "done" if result == "success" else "cancelled", now_ms)
    elif row.task.on_failure == "drop":
        draft.end(row, "dropped", (outcome and outcome.error_class) or "no error class given", now_ms)
    elif row.task.on_failure == "escalate":
        ran_tier = rulebook.models[slot.model].tier
        highest = row.task.max_tier or PREMIUM_TIER
        if ran_tier >= highest:
            recorded = _with_entry(status, now_ms, draft.seq, "failed", slot.slot_id)
            why = f"a failure on {slot.model}, from where it cannot escalate"
            _give_up(draft, replace(row, status=recorded), why, now_ms)
        else:
            _again(draft, slot, now_ms, rulebook, "failed", tier_min=3 if ran_tier == 2 else 2)  # noqa: PLR2004 -- tiers
    else:
        _again(draft, slot, now_ms, rulebook, "failed")


def _lose(draft: PoolDraft, slot: SlotRow, now_ms: Millis, rulebook: Rulebook, why: str) -> None:
    """Make a task of unknown outcome pending again, and release its reservation."""
    row = draft.task(slot.task_id) if slot.task_id is not None else None
    if row is not None:
        money.release(draft, row, now_ms)
    _again(draft, slot, now_ms, rulebook, why)


def _again(
    draft: PoolDraft, slot: SlotRow, now_ms: Millis, rulebook: Rulebook, why: str, *, tier_min: Tier | None = None
) -> None:
    """Make the task of this slot pending again, or give it up after too many failures."""
    row = draft.task(slot.task_id) if slot.task_id is not None else None
    if row is None:
        return
    status = row.status
    if status.cancelled:
        draft.finish(row, "cancelled", now_ms)
        return
    failures = status.failures + 1
    recorded = _with_entry(status, now_ms, draft.seq, why, slot.slot_id)
    if failures >= rulebook.policy.attempts.failures_max:
        _give_up(
            draft,
            replace(row, status=recorded),
            f"{failures} failed attempt{'s' if failures > 1 else ''}, the last: {why}",
            now_ms,
        )
        return
    if row.task.deadline is not None and to_millis(row.task.deadline) <= now_ms:
        draft.end(row, "expired", row.task.deadline, now_ms)
        return
    due_ms = Millis(now_ms + rulebook.back_off_ms)
    delayed = due_ms > now_ms
    draft.change_status(
        row,
        TaskStatus(
            state="delayed" if delayed else "waiting",
            attempt=status.attempt + 1,
            failures=failures,
            since_ms=due_ms,
            accepted_ms=now_ms,
            due_ms=due_ms if delayed else None,
            tier_min=tier_min or status.tier_min,
            history=recorded.history,
        ),
    )


def _give_up(draft: PoolDraft, row: TaskRow, detail: str, now_ms: Millis) -> None:
    draft.dead.append(row)
    draft.end(row, "dead_lettered", detail, now_ms)


def _with_entry(status: TaskStatus, now_ms: Millis, seq: int, what: str, detail: str) -> TaskStatus:
    """Return the status with another history entry; the oldest entries are dropped first."""
    return replace(status, history=(*status.history, HistoryEntry(now_ms, seq, what, detail))[-_HISTORY_MAX:])
