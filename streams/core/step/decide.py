"""The decisions of one pool in one step: routed, ended and waiting tasks."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.decision import Decision, TaskRow
from schemas.vocabulary import Millis
from streams.core.index.waiting import Entry
from streams.core.policy.rulebook import Rulebook
from streams.core.step.announcements import announce, changed_waits
from streams.core.step.assign import assign
from streams.core.step.describe import Describer
from streams.core.step.draft import PoolDraft
from streams.core.step.positions import Positions
from streams.core.step.round import Round


def decide(draft: PoolDraft, rulebook: Rulebook, now_ms: Millis, last: tuple[int, int]) -> list[Decision]:
    """Return decisions: routed tasks in service order, then ended ones, then waits. The draft gets their changes.

    `last` is topic and offset of the step's last input.
    """
    index = draft.index
    describe = Describer(draft, rulebook, now_ms, last)
    decisions: list[Decision] = []
    for task_id in draft.left:
        index.hide(index.entries[task_id])
    unindexed = _classified(draft, draft.unindexed)
    free_mask = index.slots.free_mask()
    if draft.slots or draft.slots_gone or (free_mask and index.may_serve(free_mask)):
        turn = Round(draft, unindexed.values(), now_ms)
        for pair in turn.pairs():
            unindexed.pop(pair.entry.task_id, None)
            given = assign(draft, pair, now_ms, rulebook)
            decisions.append(describe.routed(pair, given, turn.free_before))
        free_mask = turn.free_mask
        if index.look_at_credit() or turn.regrouped:
            unindexed = _classified(draft, {task_id: entry.row for task_id, entry in unindexed.items()})
    decisions += [describe.ended(ending) for ending in draft.endings]
    positions = Positions(draft, len(unindexed), rulebook, now_ms)
    for entry in (*unindexed.values(), *changed_waits(draft, rulebook, free_mask, now_ms)):
        headline = entry.group.headline(free_mask)
        if headline == entry.row.status.headline:
            # It waits as before; its late outcome changed only what it may use.
            continue
        decisions.append(describe.waits(entry, headline, free_mask, positions.of(entry)))
        announce(draft, entry, headline, now_ms)
    return decisions


def _classified(draft: PoolDraft, rows: Mapping[str, TaskRow]) -> dict[str, Entry]:
    """Return entries of these tasks in their final groups: the cost of one task may move others to other groups."""
    index = draft.index
    while True:
        entries = {task_id: index.classify(row) for task_id, row in rows.items()}
        for ending in draft.endings:
            # Its verdicts are evaluated later; its cost counts from here on.
            index.classify(ending.row)
        if not index.look_at_credit():
            index.prepared.update(entries)
            return entries
