"""The sentences that explain a decision, in one voice. They state what was looked at, with the numbers."""

from __future__ import annotations

from schemas.decision import Percentiles, TaskRow
from schemas.vocabulary import ReasonCode
from streams.policy.lineup import Group, LineUp
from streams.policy.rulebook import Rulebook
from streams.policy.rules import capability
from streams.policy.rules.premium import PremiumReserve
from streams.state.waiting import Entry


def routed(entry: Entry, slot_id: str, usual: Percentiles | None, rulebook: Rulebook, *, traded: bool) -> str:
    """Why this task got this slot."""
    row: TaskRow = entry.row
    if entry.group.lifted:
        if row.task.quest_priority >= rulebook.policy.lift.quest_priority_min:
            why = f"quest priority {row.task.quest_priority}"
        else:
            why = f"EV {row.ev:g} is above P90 ({usual.p90:g})" if usual and usual.p90 is not None else "its EV"
        text = f"Lifted by {why}: looked from the highest tier down for {entry.shape.bars}; took {slot_id}."
    else:
        text = f"Cheapest capable class for {entry.shape.bars}; {slot_id} had the lowest utilisation."
    return f"{text} Within the round the better tier went to the higher EV." if traded else text


def waits(entry: Entry, headline: ReasonCode, lineup: LineUp, free_mask: int) -> str:
    """Why this task waits."""
    group: Group = entry.group
    models = lineup.models
    row: TaskRow = entry.row
    match headline:
        case "reserved_for_ev":
            refused = group.premium_mask & free_mask or group.premium_mask
            model = models[(refused & -refused).bit_length() - 1]
            if lineup.usual is None or lineup.usual.p50 is None:
                return f"{model} is kept for tasks of higher expected value."
            return PremiumReserve.reason(model, row.ev, lineup.usual)
        case "capable_busy":
            return f"Every slot that may do it is busy: {group.able(models)}."
        case "no_capable_model" if not models:
            return "The pool has no slot yet."
        case "no_capable_model":
            lacking = "; ".join(
                f"{model}: {capability.missing(row.task, lineup.rulebook.models[model])}"
                for model, gate in zip(models, group.verdicts, strict=True)
                if gate == "capability"
            )
            return f"No model of the fleet is good enough for {entry.shape.bars} ({lacking})."
        case "context":
            return f"It fits no capable model's context window: {row.task.input_tokens} input tokens and the answer."
        case "boundary":
            return "Its own boundaries (providers, local_only, max_tier) leave no capable model of the fleet."
        case "floor":
            return "Every capable model of the fleet is below its floor."
        case _:
            return f"No model is admissible now: {headline}."


END = {
    "cancelled": "Cancelled by {detail}.",
    "expired": "Its deadline {detail} passed before a slot was free.",
    "dead_lettered": "Given up after {detail}; see task.pending.dlq.",
    "dropped": "Reported as failed, and on_failure is drop: {detail}.",
}


def ended(outcome: str, detail: str) -> str:
    """Why a task's way ended without a slot."""
    return END[outcome].format(detail=detail)
