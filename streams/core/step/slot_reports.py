"""What a slot reports: it announces itself, works on, or frees itself in time or late; and what operators say of it.

The lease decides what a report means that names one. A report without one is an announcement: a repeated or an older
one changes nothing, whatever the clocks of dispatchers say, and any other ends the lease that the slot holds.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import LastReport, SlotGone, SlotRow, Unreported
from schemas.event_id import EventId
from schemas.events import SlotFreed
from schemas.vocabulary import Millis
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.step import lifecycle
from streams.core.step.draft import PoolDraft
from streams.core.step.last_report import latest, old, ttl_ms
from streams.core.step.renewals import renew


def report(
    draft: PoolDraft, event: SlotFreed, event_id: EventId | None, now_ms: Millis, rulebook: Rulebook
) -> str | None:
    """Handle a slot's report; return the reason of a refusal."""
    if event.model is not None and event.model not in rulebook.models:
        return f"model {event.model} is not in the catalogue.{nearest(event.model, rulebook.models)}"
    if event.state == "working":
        renew(draft, event, event_id, now_ms, rulebook)
        return None
    slot = draft.slot(event.slot_id)
    if event.state == "leaving":
        _leave(draft, slot, event, event_id, now_ms)
        return None
    if slot is None:
        return _of_absent(draft, event, event_id, now_ms, rulebook)
    if event.state == "idle" and not _may_be_idle(slot):
        # It was sent before the slot knew of its lease, or by a slot that must announce itself first.
        draft.count("stale_free")
    elif event.lease is None:
        _announced(draft, slot, event, event_id, now_ms, rulebook)
    elif event.lease != slot.lease or (slot.state != "leased" and slot.unreported is None):
        # Of an earlier lease, or an end that was reported before: no sign that the slot is well now.
        draft.count("stale_free")
    elif slot.state == "leased":
        lifecycle.end_lease(draft, slot, event.outcome, now_ms, rulebook)
        if slot.retired:
            draft.drop_slot(replace(slot, last_report=latest(slot.last_report, event, event_id, now_ms)), now_ms)
        else:
            _put_free(draft, slot, event, event_id, now_ms)
    else:
        draft.count("late_free")
        if slot.unreported is not None:
            lifecycle.end_unreported(draft, slot.unreported, event.slot_id, slot.lease, event.outcome, now_ms, rulebook)
        _put_free(draft, slot, event, event_id, now_ms)
    return None


def _may_be_idle(slot: SlotRow) -> bool:
    """Whether the report is of use: of a free slot, or of one that was lost and lives by its reports."""
    return slot.state == "free" or (slot.state == "lost" and slot.ttl_ms is not None)


def _of_absent(
    draft: PoolDraft, event: SlotFreed, event_id: EventId | None, now_ms: Millis, rulebook: Rulebook
) -> str | None:
    """Handle the report of a slot that is not there: it comes, it comes back, or it left and reports its last work."""
    gone = draft.gone(event.slot_id)
    if event.state == "idle" and (gone is not None or event.model is None):
        draft.count("stale_free")
        if gone is not None:
            # Who left or was retired is out until it announces itself, however long it goes on to say this.
            draft.put_gone(replace(gone, at_ms=now_ms))
        return None
    if event.lease is not None and gone is not None:
        # Only an announcement registers it again; its work counts all the same.
        if gone.unreported is None or event.lease != gone.lease:
            draft.count("stale_free")
            return None
        draft.count("late_free")
        lifecycle.end_unreported(draft, gone.unreported, event.slot_id, gone.lease, event.outcome, now_ms, rulebook)
        draft.put_gone(
            SlotGone(gone.pool, gone.slot_id, gone.lease, now_ms, latest(gone.last_report, event, event_id, now_ms))
        )
        return None
    if event.lease is not None:
        draft.count("stale_free")
    last = gone.last_report if gone is not None else None
    if (word := old(last, event, event_id, now_ms)) is not None:
        draft.count(f"{word}_free")
        return None
    if event.model is None:
        return f"slot {event.slot_id} is not known yet, so its model must be said."
    draft.put_slot(
        SlotRow(
            slot_id=event.slot_id,
            pool=event.pool,
            model=event.model,
            account=event.account,
            state="free",
            lease=gone.lease if gone is not None else 0,
            since_ms=now_ms,
            last_report=latest(last, event, event_id, now_ms),
            ttl_ms=ttl_ms(None, event),
            unreported=gone.unreported if gone is not None else None,
        )
    )
    return None


def _announced(
    draft: PoolDraft, slot: SlotRow, event: SlotFreed, event_id: EventId | None, now_ms: Millis, rulebook: Rulebook
) -> None:
    """Handle an announcement: a slot that holds a task has restarted."""
    last = slot.last_report
    if last is None and slot.state == "leased":
        # A row of a version that remembered no report.
        last = LastReport(slot.since_ms, slot.since_ms)
    if (word := old(last, event, event_id, now_ms)) is not None:
        draft.count(f"{word}_free")
        return
    unreported = slot.unreported
    if slot.state == "leased":
        # A retired slot that announces itself is not gone.
        unreported = lifecycle.lose(draft, replace(slot, retired=False), now_ms, rulebook, "slot restarted")
    elif slot.state == "free" and event.model in (None, slot.model):
        draft.count("duplicate_free")
    _put_free(draft, slot, event, event_id, now_ms, unreported)


def _put_free(
    draft: PoolDraft,
    slot: SlotRow,
    event: SlotFreed,
    event_id: EventId | None,
    now_ms: Millis,
    unreported: Unreported | None = None,
) -> None:
    """Free the slot; one that was free stays so since then, unless it has another model."""
    model = event.model or slot.model
    stays = slot.state == "free" and model == slot.model
    draft.put_slot(
        SlotRow(
            slot_id=slot.slot_id,
            pool=slot.pool,
            model=model,
            account=event.account or slot.account,
            state="free",
            lease=slot.lease,
            since_ms=slot.since_ms if stays else now_ms,
            last_report=latest(slot.last_report, event, event_id, now_ms),
            ttl_ms=ttl_ms(slot, event),
            unreported=unreported,
        )
    )


def retire(draft: PoolDraft, slot_id: str, now_ms: Millis) -> None:
    """Retire a slot: it finishes its task and gets no other."""
    slot = draft.slot(slot_id)
    if slot is None:
        draft.count("unknown_slot")
    else:
        _retire(draft, slot, now_ms)


def _retire(draft: PoolDraft, slot: SlotRow, now_ms: Millis) -> None:
    if slot.state == "leased":
        draft.put_slot(replace(slot, retired=True))
    else:
        draft.drop_slot(slot, now_ms)


def _leave(draft: PoolDraft, slot: SlotRow | None, event: SlotFreed, event_id: EventId | None, now_ms: Millis) -> None:
    """Retire a slot at the word of its dispatcher."""
    if slot is None:
        draft.count("stale_free")
    elif (word := old(slot.last_report, event, event_id, now_ms)) is not None:
        draft.count(f"{word}_free")
    else:
        last_report = latest(slot.last_report, event, event_id, now_ms)
        _retire(draft, replace(slot, last_report=last_report, ttl_ms=ttl_ms(slot, event)), now_ms)
