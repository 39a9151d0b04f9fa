"""The waits that a step announces: new ones, and those whose headline changed, within an allowance.

The allowance of a pool is a token bucket: it fills with time, up to `announcements_max`; an announcement of a changed
headline takes one token. `announced_ms` is the time at which the bucket was empty.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import HistoryEntry
from schemas.vocabulary import Millis, ReasonCode
from streams.core.index.waiting import Entry
from streams.core.policy.catalog import PREMIUM_TIER
from streams.core.policy.rulebook import Rulebook
from streams.core.step.draft import PoolDraft


def changed_waits(draft: PoolDraft, rulebook: Rulebook, free_mask: int, now_ms: Millis) -> list[Entry]:
    """Return tasks whose headline differs from the announced one: longest waiting first, within the allowance.

    The draft records the use of the allowance, and whether tasks are left for a later step.
    """
    index = draft.index
    # Headlines depend on free premium slots only, not on other free slots.
    announcing_mask = free_mask & index.fleet.tier_masks.get(PREMIUM_TIER, 0)
    if index.announced_mask == announcing_mask:
        return []
    behind = [
        (group, headline)
        for group in index.groups.values()
        if group.announced and len(group.announced) > ((headline := group.headline(free_mask)) in group.announced)
    ]
    if not behind:
        index.announced_mask = announcing_mask
        return []
    index.announced_mask = None
    each_ms = rulebook.announcement_ms
    empty_ms = max(draft.pool.announced_ms, now_ms - rulebook.policy.service.announcements_max * each_ms)
    left = (now_ms - empty_ms) // each_ms
    if left < rulebook.announcements_min:
        draft.unannounced = True
        return []
    # One more than may be announced, to know whether some are left over.
    stale = sorted(found for group, headline in behind for found in group.stale(headline, left + 1))
    if stale:
        draft.announced_ms = Millis(empty_ms + min(left, len(stale)) * each_ms)
    draft.unannounced = len(stale) > left
    return [entry for _, _, entry in stale[:left]]


def announce(draft: PoolDraft, entry: Entry, headline: ReasonCode, now_ms: Millis) -> None:
    """Write the announced headline to the task's row."""
    row = entry.row
    status = row.status
    history = status.history
    if status.headline is None:
        history = (*history, HistoryEntry(now_ms, draft.seq, "waits", headline))
    fresh = replace(row, status=replace(status, headline=headline, history=history))
    draft.tasks[row.task.task_id] = fresh
    prepared = draft.index.prepared.get(row.task.task_id)
    if prepared is not None:
        prepared.row = fresh
