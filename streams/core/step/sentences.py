"""The sentences that explain a decision, in one voice. They state what was looked at, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from schemas.decision import TaskRow
from schemas.vocabulary import Gate, ReasonCode
from streams.core.index.groups import Group, Shape
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.policy.rules import capability, credit, drained, exhausted, quota
from streams.core.policy.rules.premium import PremiumReserve
from streams.core.step.swaps import Pair

#: Rules have a sentence for each model; so many different ones tell enough.
_SENTENCES_MAX: Final = 3


def routed(pair: Pair, index: PoolIndex) -> str:
    """Why this task got this slot."""
    entry, slot_id, percentiles = pair.entry, pair.slot_id, index.percentiles
    row: TaskRow = entry.row
    shape: Shape = entry.shape
    model = index.fleet.cells[pair.bit].model
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
            text = f"Lifted by {why}: looked from the highest tier down for {shape.bars}; took {slot_id}."
        case "objective":
            text = f"Best score for {shape.bars} among what was free; {slot_id} had the lowest utilisation."
        case "preference":
            place = shape.ranking.index(model) + 1
            by = f"{row.task.task_type} prefers"
            if place > shape.listed and row.advice is not None:
                place, by = place - shape.listed, f"{row.advice.strategy} asked for"
            text = f"{model} is number {place} of what {by}; {slot_id} had the lowest utilisation."
        case "router_error":
            text = f"The policy failed on this task; took the first capable model in catalogue order: {slot_id}."
        case _:
            text = f"Cheapest capable class for {shape.bars}; {slot_id} had the lowest utilisation."
    return f"{text} Within the round the better tier went to the higher EV." if pair.swapped else text


def waits(entry: Entry, headline: ReasonCode, index: PoolIndex, free_mask: int) -> str:
    """Why this task waits."""
    group: Group = entry.group
    fleet = index.fleet
    row: TaskRow = entry.row
    match headline:
        case "reserved_for_ev":
            refused = group.premium_mask & free_mask or group.premium_mask
            model = fleet.cells[(refused & -refused).bit_length() - 1].model
            if index.percentiles is None or index.percentiles.p50 is None:
                return f"{model} is kept for tasks of higher expected value."
            return PremiumReserve.reason(model, row.ev, index.percentiles)
        case "capable_busy":
            return f"Every slot that may do it is busy: {group.able(fleet)}."
        case "no_capable_model" if not fleet.cells:
            return "The pool has no slot yet."
        case "no_capable_model":
            lacking = "; ".join(
                f"{model}: {capability.missing(row.task, index.rulebook.models[model])}"
                for model in _refused_by("capability", group, fleet.models)
            )
            return f"No model of the fleet is good enough for {entry.shape.bars} ({lacking})."
        case "context":
            return f"It fits no capable model's context window: {row.task.input_tokens} input tokens and the answer."
        case "boundary":
            text = "Its own boundaries, its lane's or an operator's leave no capable model of the fleet."
            return " ".join([text, *_rules_said(row, group, fleet.models)])
        case "floor":
            return "Every capable model of the fleet is below its floor."
        case "credit" if entry.costs is not None and row.task.tenant_id is not None:
            known = [
                cost
                for i, gate in enumerate(group.gates)
                if gate == "credit" and (cost := entry.costs[fleet.model_of[i]]) is not None
            ]
            left = index.balances.left[row.task.tenant_id]
            return f"{credit.reason(row.task.tenant_id, left, min(known, default=None))}."
        case _:
            return f"{'; '.join(dict.fromkeys(_conditions(group, index)))}."


def _refused_by(which: Gate, group: Group, models: Sequence[str]) -> Iterator[str]:
    """The models whose first refusal of this group is by that gate, one of those that look at the task alone."""
    return (model for model, gate in zip(models, group.key.verdicts, strict=True) if gate == which)


def _rules_said(row: TaskRow, group: Group, models: Sequence[str]) -> Iterator[str]:
    """The sentences with which plugged-in rules keep the task from models, each once."""
    if row.advice is not None:
        said = (row.advice.refused.get(model) for model in _refused_by("boundary", group, models))
        yield from islice(dict.fromkeys(filter(None, said)), _SENTENCES_MAX)


def _conditions(group: Group, index: PoolIndex) -> Iterator[str]:
    """What the marks say of the cells that they refuse to this group."""
    marks, now_ms, rulebook = index.marks, index.marks_ms, index.rulebook
    for cell, gate in zip(index.fleet.cells, group.gates, strict=True):
        model = rulebook.models[cell.model]
        if gate == "exhausted":
            until_ms = exhausted.until_ms(marks, model.product, cell.account, now_ms)
            if until_ms is not None:
                yield exhausted.reason(model.product, until_ms)
        elif gate == "drained":
            yield drained.reason(marks, model.id)
        elif gate == "quota":
            step = rulebook.policy.quota.refusing(model, cell.account, marks, now_ms)
            if step is not None:
                yield quota.reason(model.id, step, quota.usage(marks, step.usage_of, cell.account, now_ms))


END = {
    "cancelled": "Cancelled by {detail}.",
    "expired": "Its deadline {detail} passed before a slot was free.",
    "dead_lettered": "Given up after {detail}; see task.pending.dlq.",
    "dropped": "Reported as failed, and on_failure is drop: {detail}.",
}


def ended(outcome: str, detail: str) -> str:
    """Why a task's way ended without a slot."""
    return END[outcome].format(detail=detail)
