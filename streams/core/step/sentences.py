"""The sentences that explain a decision, in one voice. They state what was looked at, with the numbers."""

from __future__ import annotations

from schemas.decision import TaskRow
from schemas.vocabulary import ReasonCode
from streams.core.index.groups import Group, Shape
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.policy.case import Candidate, Case, each_once
from streams.core.policy.rules import BY_HEADLINE, MARKS_RULES
from streams.core.step.swaps import Pair


def routed(pair: Pair, index: PoolIndex) -> str:
    """Why this task got this slot."""
    entry, slot_id, percentiles = pair.entry, pair.slot_id, index.percentiles
    row: TaskRow = entry.row
    shape: Shape = entry.shape
    model, bars = index.fleet.cells[pair.bit].model, shape.bars or "no requirement"
    match pair.code:
        case "lifted":
            if row.task.quest_priority >= index.rulebook.policy.lift.quest_priority_min:
                why = f"quest priority {row.task.quest_priority}"
            else:
                why = (
                    f"EV {row.ev:g} is above P90 ({percentiles.p90:g})"
                    if percentiles and percentiles.p90 is not None
                    else "its EV"
                )
            text = f"Lifted by {why}: looked from the highest tier down for {bars}; took {slot_id}."
        case "objective":
            text = f"Best score for {bars} among what was free; {slot_id} had the lowest utilisation."
        case "preference":
            place = shape.ranking.index(model) + 1
            by = f"{row.task.task_type} prefers"
            if place > shape.listed and row.advice is not None:
                place, by = place - shape.listed, f"{row.advice.strategy} asked for"
            text = f"{model} is number {place} of what {by}; {slot_id} had the lowest utilisation."
        case "router_error":
            text = f"The policy failed on this task; took the first capable model in catalogue order: {slot_id}."
        case _:
            text = f"Cheapest capable class for {bars}; {slot_id} had the lowest utilisation."
    return f"{text} Within the round the better tier went to the higher EV." if pair.swapped else text


def waits(entry: Entry, headline: ReasonCode, index: PoolIndex, free_mask: int) -> str:
    """Why this task waits."""
    group: Group = entry.group
    fleet = index.fleet
    if headline == "capable_busy":
        return f"Every slot that may do it is busy: {group.able(fleet)}."
    if not fleet.cells:
        return "The pool has no slot yet."
    case, rule = _case(entry, index), BY_HEADLINE[headline]
    # Marks come and go: where several kinds of them leave nothing, each of them is named.
    rules = MARKS_RULES if rule.looks_at == "marks" else (rule,)
    # Where a free slot is kept for others it is that one which is meant, not one that is busy anyway.
    only = group.premium_mask & free_mask if headline == "reserved_for_ev" else 0
    refused: dict[str, list[Candidate]] = {}
    for i, (cell, gate) in enumerate(zip(fleet.cells, group.gates, strict=True)):
        if gate is not None and (not only or only >> i & 1):
            refused.setdefault(gate, []).append(Candidate(index.rulebook.models[cell.model], cell.account))
    return each_once(one.waits(case, refused[one.gate]) for one in rules if one.gate in refused)


def _case(entry: Entry, index: PoolIndex) -> Case:
    row: TaskRow = entry.row
    shape: Shape = entry.shape
    return Case(
        rulebook=index.rulebook,
        marks=index.marks,
        now_ms=index.marks_ms,
        task=row.task,
        complexity=shape.complexity,
        escalated_tier=row.status.tier_min,
        ruled_out=row.advice.refused if row.advice is not None else {},
        listed=shape.ranking[: shape.listed],
        ev=row.ev,
        percentiles=index.percentiles,
        available_uusd=index.balances.left.get(entry.tenant),
    )


END = {
    "cancelled": "Cancelled by {detail}.",
    "expired": "Its deadline {detail} passed before a slot was free.",
    "dead_lettered": "Given up after {detail}; see task.pending.dlq.",
    "dropped": "Reported as failed, and on_failure is drop: {detail}.",
}


def ended(outcome: str, detail: str) -> str:
    """Why a task's way ended without a slot."""
    return END[outcome].format(detail=detail)
