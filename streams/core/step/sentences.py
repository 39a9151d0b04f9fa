"""Reason sentences of decisions. They state the compared values, with numbers."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.decision import TaskRow
from schemas.vocabulary import Decisive, ReasonCode
from streams.core.index.fleet import Cell
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.policy.case import Candidate, Case, each_once
from streams.core.policy.lost_slots import lost_slots
from streams.core.policy.numbers import apart, usd
from streams.core.policy.rules import BY_HEADLINE, MARKS_RULES
from streams.core.step.comparison import Rival
from streams.core.step.swaps import Pair


def routed(pair: Pair, index: PoolIndex) -> str:
    """Return why this task got this slot: what decided, and nothing else."""
    return f"{_chosen(pair, index)}{_patience(pair, index)}{_gave_way(pair.entry, index) if pair.gave_way else ''}"


def _patience(pair: Pair, index: PoolIndex) -> str:
    """Return what opened the premium slot, where that was patience."""
    group, row, rulebook = pair.entry.group, pair.entry.row, index.rulebook
    if (
        not group.dear_mask >> pair.bit & 1
        or rulebook.patient_ms(row) > index.now_ms
        or not group.cheaper_mask & index.conditions.in_reach
        or not rulebook.policy.premium.is_low(row.ev, row.task.priority, index.percentiles)
    ):
        return ""
    return f" It has reached {rulebook.patience_points} points, so no premium slot is kept from it."


def _chosen(pair: Pair, index: PoolIndex) -> str:
    if pair.is_swapped:
        return (
            "Swapped within the round, where the better tier goes to the higher EV: "
            f"{pair.slot_id} instead of {pair.found.slot_id}."
        )
    row = pair.entry.row
    shape = pair.entry.shape
    model = index.rulebook.models[index.fleet.cells[pair.bit].model]
    wanted = f" for {shape.bars}" if shape.bars else ""
    match pair.code:
        case "lifted":
            return f"Lifted: {_lift(row, index)}; {_slot(pair, index, f' of tier {model.tier}')}."
        case "objective":
            return f"Best score{wanted} among available models; {_slot(pair, index)}."
        case "preference":
            place, whose = shape.ranking.index(model.id) + 1, f"the list of {row.task.task_type}"
            if place > shape.listed and row.advice is not None:
                place, whose = place - shape.listed, f"the list of plug-in {row.advice.strategy}"
            return f"{model.id} is number {place} on {whose}; {_slot(pair, index)}."
        case "router_error":
            return f"The policy failed on this task; took the first capable model in catalogue order: {pair.slot_id}."
        case _:
            now = " available now" if pair.fallback else ""
            return f"Lowest capable tier{wanted}{now}; {_slot(pair, index)}."


def _lift(row: TaskRow, index: PoolIndex) -> str:
    percentiles = index.percentiles
    if row.task.quest_priority >= index.rulebook.policy.lift.quest_priority_min:
        return f"quest priority {row.task.quest_priority}"
    if row.ev is None or percentiles is None or percentiles.p90 is None:
        return "its EV"
    ev, p90 = apart(row.ev, percentiles.p90)
    return f"EV {ev} is above P90 ({p90})"


def _slot(pair: Pair, index: PoolIndex, among: str = "") -> str:
    """Return what decided for the slot among those that the strategy left, with the values that were compared.

    `among`: which these are, where the sentence does not have it yet.
    """
    found, slot_id, cell = pair.found, pair.slot_id, index.fleet.cells[pair.bit]
    if found.because == "affinity_slot":
        return f"{slot_id} has its context"
    if found.because == "affinity_account":
        return f"{slot_id} is under {cell.account}, which has its context"
    if found.rival is None:
        # Others may be free, and refused by a gate: of another account, or of another model of the tier.
        return f"{slot_id} is the only available slot{among}" if among else f"{slot_id} is its only available slot"
    there = f"under {cell.account}, which has its context, " if found.by_account else ""
    return there + _compared(found.because, slot_id, cell.model, found.rival) + among


def _compared(because: Decisive, slot_id: str, model: str, rival: Rival) -> str:
    match because:
        case "least_used":
            own, other = _shares(rival)
            return f"{slot_id} is less used than {rival.slot_id} ({own} busy, not {other})"
        case "model_share":
            own, other = _shares(rival)
            return f"{slot_id} is of a less used model than {rival.slot_id} ({model} {own} busy, {rival.model} {other})"
        case "cost":
            other = "at an unknown price" if rival.other is None else f"not {usd(rival.other)}"
            return f"{slot_id} is cheaper than {rival.slot_id} ({usd(rival.own)}, {other}), both used alike"
        case "score":
            own, other = f"{rival.own:.6g}", f"{rival.other:.6g}"
            return f"{slot_id} has a better score than {rival.slot_id} ({own}, not {other}), used alike and of one cost"
        case _:
            return f"{slot_id} is the first by id of equal slots"


def _shares(rival: Rival) -> tuple[str, str]:
    own, other = apart(100 * (rival.own or 0.0), 100 * (rival.other or 0.0))
    return f"{own}%", f"{other}%"


def _gave_way(entry: Entry, index: PoolIndex) -> str:
    """Return that the bar of its class gave way, and to what."""
    policy, name = index.rulebook.policy, entry.shape.complexity
    assert name is not None  # noqa: S101 -- only the bar of a class gives way
    bar, lower = policy.class_tier_min(name), policy.class_tier_min(name, gave_way=True)
    trip = index.breaker.trip(entry.row.task.tenant_id, entry.row.task.lane)
    short = f"what {entry.tenant} has left covers" if trip is None else f"{trip.says()}, which leaves"
    return f" Credit: {short} no model for class {name}, which asks for tier {bar}, so tier {lower} may do it."


def waits(entry: Entry, headline: ReasonCode, index: PoolIndex, free_mask: int, lost: Mapping[str, Cell]) -> str:
    """Return why this task waits; `lost` are the lost slots of its pool."""
    sentence = _waits(entry, headline, index, free_mask, lost)
    return sentence + _gave_way(entry, index) if entry.group.gave_way else sentence


def _waits(entry: Entry, headline: ReasonCode, index: PoolIndex, free_mask: int, lost: Mapping[str, Cell]) -> str:
    group = entry.group
    fleet = index.fleet
    if headline == "capable_busy":
        return f"Every slot that may do it is busy: {group.able(fleet)}."
    if headline == "lost":
        own = sorted(slot_id for slot_id, cell in lost.items() if group.mask >> fleet.bit[cell] & 1)
        return f"Every slot that may do it is lost: {lost_slots(own, entry.row.task.pool)}"
    if not fleet.cells:
        return "The pool has no slot yet."
    case, rule = case_of(entry, index), BY_HEADLINE[headline]
    # Marks come and go: where several kinds of them leave nothing, each of them is named.
    rules = MARKS_RULES if rule.looks_at == "marks" else (rule,)
    # A free slot that is kept for other tasks is named, rather than one that is busy.
    only = group.premium_mask & free_mask if headline == "reserved_for_ev" else 0
    refused: dict[str, list[Candidate]] = {}
    for i, (cell, gate) in enumerate(zip(fleet.cells, group.gates, strict=True)):
        if gate is not None and (not only or only >> i & 1):
            refused.setdefault(gate, []).append(Candidate(index.rulebook.models[cell.model], cell.account))
    return each_once(one.waits(case, refused[one.gate]) for one in rules if one.gate in refused)


def case_of(entry: Entry, index: PoolIndex) -> Case:
    """Return what the gates are asked about a waiting task."""
    row = entry.row
    shape = entry.shape
    return Case(
        rulebook=index.rulebook,
        marks=index.conditions.marks,
        now_ms=index.conditions.now_ms,
        task=row.task,
        complexity=shape.complexity,
        escalated_tier=row.status.tier_min,
        class_gave_way=entry.group.gave_way,
        ruled_out=row.advice.refused if row.advice is not None else {},
        listed=shape.ranking[: shape.listed],
        ev=row.ev,
        percentiles=index.percentiles,
        available_uusd=index.balances.left.get(entry.tenant),
        trip=index.breaker.trip(row.task.tenant_id, row.task.lane),
    )


END = {
    "cancelled": "Cancelled by {detail}.",
    "expired": "Its deadline {detail} passed before a slot was free.",
    "dead_lettered": "Given up after {detail}; see task.pending.dlq.",
    "dropped": "Reported as failed, and on_failure is drop: {detail}.",
}


def ended(outcome: str, detail: str) -> str:
    """Return why a task ended without a slot."""
    return END[outcome].format(detail=detail)
