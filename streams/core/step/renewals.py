"""A slot that works on renews its lease, up to the number of times that was granted with it.

Of a slot with the heartbeat rule a report in the first half of its lease is a heartbeat alone: such a slot reports far
more often than its lease has to be renewed.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import SlotRow, TaskRow, TaskStatus
from schemas.event_id import EventId
from schemas.events import SlotFreed
from schemas.vocabulary import Millis
from streams.core.policy.rulebook import Rulebook
from streams.core.step import lifecycle
from streams.core.step.draft import PoolDraft
from streams.core.step.last_report import latest, old, ttl_ms


def renew(draft: PoolDraft, event: SlotFreed, event_id: EventId | None, now_ms: Millis, rulebook: Rulebook) -> None:
    """Renew the lease for its whole length from now; a lost slot takes its task up again if no other was given it."""
    slot = draft.slot(event.slot_id)
    if slot is None or event.lease != slot.lease:
        draft.count("stale_renewal")
        return
    word = old(slot.last_report, event, event_id, now_ms)
    row = _worked_on(draft, slot)
    if word is not None or row is None:
        draft.count(f"{word or 'stale'}_renewal")
    elif not slot.renewals_left or _is_early(slot, row, now_ms, rulebook):
        draft.count("early_renewal" if slot.renewals_left else "excess_renewal")
        if slot.state == "leased" and slot.ttl_ms is not None:
            # The lease is not longer for it, but the slot lives.
            draft.put_slot(
                replace(slot, last_report=latest(slot.last_report, event, event_id, now_ms), ttl_ms=ttl_ms(slot, event))
            )
    else:
        _renew(draft, slot, row, event, event_id, now_ms, rulebook)


def _is_early(slot: SlotRow, row: TaskRow, now_ms: Millis, rulebook: Rulebook) -> bool:
    """Whether a slot that lives by its reports has more than two thirds of its lease left.

    Not half: a dispatcher that renews half way may be measured by a clock that is a little behind its own.
    """
    if slot.ttl_ms is None or slot.lease_expires_at_ms is None:
        return False
    length_ms = rulebook.lease_ms(rulebook.complexity(row.task), row.task.lease_s)
    return 3 * (slot.lease_expires_at_ms - now_ms) > 2 * length_ms


def _worked_on(draft: PoolDraft, slot: SlotRow) -> TaskRow | None:
    """Return the task that the slot works on rightly: it holds it, or lost it and no other slot was given it since."""
    if slot.state == "leased" and slot.task_id is not None:
        return draft.task(slot.task_id)
    if slot.state != "lost" or slot.unreported is None:
        return None
    return lifecycle.pending_of(draft, slot.unreported)


def _renew(
    draft: PoolDraft,
    slot: SlotRow,
    row: TaskRow,
    event: SlotFreed,
    event_id: EventId | None,
    now_ms: Millis,
    rulebook: Rulebook,
) -> None:
    limit_ms = Millis(now_ms + rulebook.lease_ms(rulebook.complexity(row.task), row.task.lease_s))
    renewed = replace(
        slot,
        # Another policy may have shorter leases: what was granted stays.
        lease_expires_at_ms=max(limit_ms, slot.lease_expires_at_ms or limit_ms),
        renewals_left=slot.renewals_left - 1,
        last_report=latest(slot.last_report, event, event_id, now_ms),
        ttl_ms=ttl_ms(slot, event),
    )
    if slot.state == "lost":
        renewed = replace(renewed, state="leased", since_ms=now_ms, task_id=row.task.task_id)
        _take_up(draft, renewed, row, now_ms)
        draft.count("taken_up")
    draft.put_slot(renewed)
    draft.expect((renewed.lease_expires_at_ms or limit_ms, "lease", slot.slot_id, slot.lease))
    draft.count("renewed_lease")


def _take_up(draft: PoolDraft, slot: SlotRow, row: TaskRow, now_ms: Millis) -> None:
    """Let the task run where it was lost: the attempt was none. Its reservation is settled late, as it was released."""
    status = row.status
    draft.change_status(
        row,
        TaskStatus(
            state="running",
            attempt=status.attempt - 1,
            failures=status.failures - 1,
            since_ms=status.since_ms,
            accepted_ms=status.accepted_ms,
            tier_min=status.tier_min,
            slot_id=slot.slot_id,
            lease=slot.lease,
            decision_id=status.decision_id,
            history=lifecycle.with_entry(status, now_ms, draft.seq, "taken up", slot.slot_id).history,
        ),
    )
