"""Changes of rows by events: tasks are accepted, retried and ended, and leases end.

No slot is chosen here; that is `round.py`. What slots report is read in `slot_reports.py`. All changes go to the draft.
A function returns the reason when it refuses its event, else None.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import (
    Duplicate,
    EvSample,
    Finished,
    HistoryEntry,
    SlotRow,
    Spent,
    TaskRow,
    TaskStatus,
    Unreported,
    WorkDone,
)
from schemas.events import Outcome, TaskCancelled, TaskPending
from schemas.input import Input
from schemas.vocabulary import MicroUsd, Millis, Tier, to_millis
from streams.core.index.due import Due, is_current
from streams.core.policy.catalog import PREMIUM_TIER
from streams.core.policy.document import nearest
from streams.core.policy.ev import CachedScorer
from streams.core.policy.rulebook import Rulebook
from streams.core.step import money, overload
from streams.core.step.draft import Late, PoolDraft
from streams.core.step.finish import finish_as_reported, finish_cancelled, give_up

_HISTORY_MAX = 64


def pend(draft: PoolDraft, task: TaskPending, item: Input, rulebook: Rulebook, scorer: CachedScorer) -> str | None:
    """Accept a task."""
    task_id, now_ms = task.task_id, item.now_ms
    known = draft.task(task_id)
    if known is not None:
        draft.count("duplicate_task" if known.task == task else "conflicting_task")
        return None
    at_ms = rulebook.arrival_ms(to_millis(task.at), now_ms)
    ended = _end_of(draft, task_id, now_ms, rulebook)
    if ended is not None and not _is_new_life(ended, task, at_ms):
        draft.count("duplicate_task")
        draft.duplicates.append(Duplicate(draft.pool.name, task_id, now_ms, ended.what, ended.at_ms))
        return None
    refusal = _unusable(task, rulebook)
    if refusal is not None:
        return refusal
    if ended is not None:
        draft.count("redriven_task")
    advice = item.advice
    ev = scorer.ev(task, now_ms, advice)
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
        accepted_seq=draft.seq,
    )
    draft.origins[task_id] = (item.topic, item.offset)
    if ev is not None:
        draft.evs.append(EvSample(draft.pool.name, now_ms, ev))
    cancelled_ms = draft.early_cancel(task_id)
    if cancelled_ms is not None and ended is not None and cancelled_ms < at_ms:
        # It was said of the life before.
        cancelled_ms = None
    if cancelled_ms is not None and cancelled_ms >= now_ms - rulebook.memory_ms:
        draft.cancels.pop(task_id, None)
        draft.end(row, "cancelled", "a cancel that came before it", now_ms)
    elif task.deadline is not None and to_millis(task.deadline) <= now_ms:
        draft.end(row, "expired", task.deadline, now_ms)
    else:
        draft.put_task(row)
    return None


def _end_of(draft: PoolDraft, task_id: str, now_ms: Millis, rulebook: Rulebook) -> Finished | None:
    """Return how the task ended, for as long as the policy has its id remembered."""
    ended = draft.end_of(task_id)
    return ended if ended is not None and ended.at_ms >= now_ms - rulebook.memory_ms else None


def _is_new_life(ended: Finished, task: TaskPending, at_ms: Millis) -> bool:
    """Whether a task that is sent again is to be done again: it had no success, and this is not the event of before."""
    return ended.what != "done" and at_ms > ended.at_ms and to_millis(task.at) != ended.task_at_ms


def _unusable(task: TaskPending, rulebook: Rulebook) -> str | None:
    most = rulebook.policy.service.payload_bytes_max
    if task.payload is not None and (size := len(task.payload.encode())) > most:
        return (
            f"payload has {size} bytes, and {most} are allowed (service.payload_bytes_max): "
            "keep it elsewhere and say where with ref."
        )
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
        ended = _end_of(draft, event.task_id, now_ms, rulebook)
        if ended is not None:
            draft.count("late_cancel")
        if ended is None or ended.what != "done":
            # It may be of a new life that is on its way: topics have no common order.
            draft.cancels[event.task_id] = now_ms
    elif row.status.state != "running":
        draft.end(row, "cancelled", event.by, now_ms)
    elif not row.status.cancelled:
        draft.change_status(
            row, with_entry(replace(row.status, cancelled=True), now_ms, draft.seq, "cancelled", event.by)
        )
        draft.count("cancelled_while_running")
        if row.status.slot_id is not None:
            draft.stop(row, row.status.slot_id, row.status.lease or 0, "cancelled", now_ms)


def fall_due(draft: PoolDraft, item: Due, rulebook: Rulebook) -> None:
    """Handle a due item: a lease, silence of a slot, a deadline, or a delayed task that may be served now."""
    due_ms, kind, id_, _ = item
    slot, row = (draft.slot(id_), None) if kind in ("lease", "silence") else (None, draft.task(id_))
    if not is_current(item, slot, row):
        return
    if slot is not None:
        unreported = slot.unreported
        if slot.state == "leased":
            unreported = lose(draft, slot, due_ms, rulebook, "lease ran out" if kind == "lease" else "slot was silent")
        lost = replace(
            slot, state="lost", since_ms=due_ms, task_id=None, lease_expires_at_ms=None, unreported=unreported
        )
        if slot.retired:
            draft.drop_slot(lost, due_ms)
        else:
            draft.put_slot(lost)
        draft.count("lost_slot")
        if kind == "silence":
            draft.count("silent_slot")
    elif row is not None and kind == "deadline":
        draft.end(row, "expired", row.task.deadline or "", due_ms)
    elif row is not None:
        draft.change_status(row, replace(row.status, state="waiting", due_ms=None, accepted_ms=due_ms))


def end_lease(draft: PoolDraft, slot: SlotRow, outcome: Outcome | None, now_ms: Millis, rulebook: Rulebook) -> None:
    """End a lease by the report of its slot: the work is settled, and the task is over or tried again."""
    row = draft.task(slot.task_id) if slot.task_id is not None else None
    if row is None:
        return
    status = row.status
    outcome = _own(draft, outcome, row.task.task_id)
    # A task that was taken up again after its lease had run out has no reservation any more.
    late, spent = slot.unreported, None
    work = late or _work_of(slot, row, row.task)
    if outcome is not None and work is not None:
        spent = _write_down(draft, work, slot.slot_id, slot.lease, outcome, now_ms, rulebook)
        if overload.is_overload(outcome):
            model = rulebook.models[slot.model]
            overload.exhaust(draft, work.decision_id, slot.slot_id, model, slot.account, outcome, now_ms, rulebook)
    elif work is not None:
        _count_spend(draft, work.task, _estimate(work, rulebook), now_ms, rulebook)
    if late is not None:
        money.settle_late(draft, late, spent, now_ms)
    else:
        money.settle(draft, row, spent, now_ms)
    result = outcome.status if outcome is not None else "success"
    if status.cancelled:
        finish_cancelled(draft, row, now_ms)
    elif result != "failure":
        finish_as_reported(draft, row, result, slot.slot_id, now_ms)
    elif outcome is not None and overload.is_overload(outcome):
        _wait_on(draft, row, f"{slot.slot_id}: {outcome.error_class}", now_ms)
    elif row.task.on_failure == "drop":
        draft.end(row, "dropped", (outcome and outcome.error_class) or "no error class given", now_ms)
    elif row.task.on_failure == "escalate":
        ran_tier = rulebook.models[slot.model].tier
        if ran_tier >= (row.task.max_tier or PREMIUM_TIER):
            _cannot_escalate(draft, row, slot.model, slot.slot_id, now_ms)
        else:
            _again(draft, slot, now_ms, rulebook, "failed", tier_min=_above(ran_tier))
    else:
        _again(draft, slot, now_ms, rulebook, "failed")


def end_unreported(
    draft: PoolDraft,
    work: Unreported,
    slot_id: str,
    lease: int,
    outcome: Outcome | None,
    now_ms: Millis,
    rulebook: Rulebook,
) -> None:
    """Handle the late report of work whose lease has ended: what was spent is spent, whatever became of the task.

    The outcome counts as that of the attempt if no other slot was given the task since. Its failure is in the count
    of failures already, as the lease that ended.
    """
    outcome = _own(draft, outcome, work.task.task_id)
    spent = None
    if outcome is not None:
        spent = _write_down(draft, work, slot_id, lease, outcome, now_ms, rulebook)
    else:
        _count_spend(draft, work.task, _estimate(work, rulebook), now_ms, rulebook)
    money.settle_late(draft, work, spent, now_ms)
    row = pending_of(draft, work)
    if row is None:
        return
    result = outcome.status if outcome is not None else "success"
    ran, late = rulebook.models.get(work.model), (work.decision_id, slot_id, work.model)
    if result != "failure":
        finish_as_reported(draft, row, result, slot_id, now_ms, late)
    elif overload.is_overload(outcome):
        # That was long ago: it marks nothing, and the task waits on.
        draft.change_status(row, replace(row.status, decision_id=None))
    elif row.task.on_failure == "drop":
        draft.end(row, "dropped", (outcome and outcome.error_class) or "no error class given", now_ms, late)
    elif row.task.on_failure == "escalate" and ran is not None and ran.tier >= (row.task.max_tier or PREMIUM_TIER):
        _cannot_escalate(draft, row, work.model, slot_id, now_ms, late)
    else:
        status = with_entry(row.status, now_ms, draft.seq, "failed", slot_id)
        tier_min = _above(ran.tier) if row.task.on_failure == "escalate" and ran is not None else status.tier_min
        draft.change_status(row, replace(status, decision_id=None, tier_min=tier_min))


def lose(draft: PoolDraft, slot: SlotRow, now_ms: Millis, rulebook: Rulebook, why: str) -> Unreported | None:
    """Make a task of unknown outcome pending again, and release its reservation; return what may be reported late."""
    row = draft.task(slot.task_id) if slot.task_id is not None else None
    if row is not None:
        draft.stop(row, slot.slot_id, slot.lease, "slot_retired" if slot.retired else "lease_lost", now_ms)
    unreported = slot.unreported
    if unreported is None and row is not None and row.status.decision_id is not None:
        task = row.task
        unreported = _work_of(
            slot,
            row,
            TaskPending(
                task_id=task.task_id,
                pool=task.pool,
                at=task.at,
                tenant_id=task.tenant_id,
                # Whose spend it is: a policy that caps spend may be activated before the report comes.
                lane=task.lane,
                complexity=rulebook.complexity(task),
                input_tokens=task.input_tokens,
                output_tokens=task.output_tokens,
            ),
        )
        money.release(draft, row, now_ms)
    _again(draft, slot, now_ms, rulebook, why, unreported=unreported)
    return unreported


def pending_of(draft: PoolDraft, work: Unreported) -> TaskRow | None:
    """Return the task of work whose lease has ended, if it is pending again and no other slot was given it since."""
    row = draft.task(work.task.task_id)
    if row is None or row.status.state == "running" or row.status.decision_id != work.decision_id:
        return None
    return row


def _work_of(slot: SlotRow, row: TaskRow, task: TaskPending) -> Unreported | None:
    """Return the work of a leased slot, with that much of its task; None: no decision gave it the task."""
    if row.status.decision_id is None:
        return None
    return Unreported(
        decision_id=row.status.decision_id,
        # The slot is leased since the decision.
        decided_ms=slot.since_ms,
        model=slot.model,
        task=task,
        reserved_uusd=row.status.reserved_uusd,
    )


def _own(draft: PoolDraft, outcome: Outcome | None, task_id: str) -> Outcome | None:
    """Return the outcome if it is of that task; another one is dropped."""
    if outcome is not None and outcome.task_id != task_id:
        draft.count("foreign_outcome")
        return None
    return outcome


def _write_down(
    draft: PoolDraft,
    work: Unreported,
    slot_id: str,
    lease: int,
    outcome: Outcome,
    now_ms: Millis,
    rulebook: Rulebook,
) -> MicroUsd | None:
    """Record the work with its cost; return what is known to be spent."""
    model, complexity = rulebook.models.get(work.model), rulebook.complexity(work.task)
    spent = money.actual(work.task, complexity, model, outcome, rulebook, work.decided_ms)
    if money.is_contradictory(outcome):
        draft.count("contradictory_outcome")
    if spent is None and overload.is_overload(outcome):
        # Nothing was done.
        spent = MicroUsd(0)
    cost = spent
    if cost is None:
        cost = work.reserved_uusd
    if cost is None:
        cost = _estimate(work, rulebook)
    _count_spend(draft, work.task, cost, now_ms, rulebook)
    draft.work.append(
        WorkDone(
            decision_id=work.decision_id,
            pool=work.task.pool,
            slot_id=slot_id,
            model=work.model,
            lease=lease,
            at_ms=now_ms,
            outcome=outcome,
            cost_uusd=cost,
        )
    )
    return spent


def _estimate(work: Unreported, rulebook: Rulebook) -> MicroUsd | None:
    """Return the estimated cost of the work, by the prices of its decision."""
    model = rulebook.models.get(work.model)
    if model is None:
        return None
    return rulebook.cost_uusd(work.task, rulebook.complexity(work.task), model, work.decided_ms)


def _count_spend(
    draft: PoolDraft, task: TaskPending, uusd: MicroUsd | None, now_ms: Millis, rulebook: Rulebook
) -> None:
    """Count what work has cost, for the cost breaker; nothing where the policy caps nothing."""
    if uusd and rulebook.breaker.is_on:
        draft.spent.append(Spent(draft.pool.name, now_ms, uusd, task.tenant_id, task.lane))


def _above(tier: Tier) -> Tier:
    """Return the next tier."""
    return 3 if tier == 2 else 2  # noqa: PLR2004 -- tiers


def _cannot_escalate(
    draft: PoolDraft, row: TaskRow, model: str, slot_id: str, now_ms: Millis, late: Late | None = None
) -> None:
    recorded = with_entry(row.status, now_ms, draft.seq, "failed", slot_id)
    give_up(draft, replace(row, status=recorded), f"a failure on {model}, from where it cannot escalate", now_ms, late)


def _again(
    draft: PoolDraft,
    slot: SlotRow,
    now_ms: Millis,
    rulebook: Rulebook,
    why: str,
    *,
    tier_min: Tier | None = None,
    unreported: Unreported | None = None,
) -> None:
    """Make the task of this slot pending again, or give it up after too many failures."""
    row = draft.task(slot.task_id) if slot.task_id is not None else None
    if row is None:
        return
    status = row.status
    if status.cancelled:
        finish_cancelled(draft, row, now_ms)
        return
    failures = status.failures + 1
    recorded = with_entry(status, now_ms, draft.seq, why, slot.slot_id)
    if failures >= rulebook.policy.attempts.failures_max:
        give_up(
            draft,
            replace(row, status=recorded),
            f"{failures} failed attempt{'s' if failures > 1 else ''}, the last: {why}",
            now_ms,
        )
        return
    if row.task.deadline is not None and to_millis(row.task.deadline) <= now_ms:
        draft.end(row, "expired", row.task.deadline, now_ms)
        return
    due_ms = Millis(now_ms + rulebook.back_off_ms(failures))
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
            decision_id=unreported.decision_id if unreported is not None else None,
            history=recorded.history,
        ),
    )


def _wait_on(draft: PoolDraft, row: TaskRow, detail: str, now_ms: Millis) -> None:
    """Make a task pending again whose work was not taken: it goes on with its attempt, and keeps its age."""
    status = row.status
    if row.task.deadline is not None and to_millis(row.task.deadline) <= now_ms:
        draft.end(row, "expired", row.task.deadline, now_ms)
        return
    fresh = TaskStatus(
        state="waiting",
        attempt=status.attempt,
        failures=status.failures,
        since_ms=status.since_ms,
        accepted_ms=now_ms,
        tier_min=status.tier_min,
        history=status.history,
    )
    draft.change_status(row, with_entry(fresh, now_ms, draft.seq, "not taken", detail))


def with_entry(status: TaskStatus, now_ms: Millis, seq: int, what: str, detail: str) -> TaskStatus:
    """Return the status with another history entry; the oldest entries are dropped first."""
    return replace(status, history=(*status.history, HistoryEntry(now_ms, seq, what, detail))[-_HISTORY_MAX:])
