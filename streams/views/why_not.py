"""Why a model did not get a task: the gate that refused it, and the smallest change that would have opened the gate.

Pure: its input is a decision's row, the task's fields, the marks and the credit of that time, and the rulebook. The
answers are those of the rules that decide (`core/policy/rules`). The gate in the row counts; later gates are evaluated
to report those that would have refused as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from streams.core.policy.case import Candidate, Case, each_once
from streams.core.policy.catalog import Model
from streams.core.policy.document import nearest
from streams.core.policy.lost_slots import COMES_BACK
from streams.core.policy.numbers import usd
from streams.core.policy.rules import BY_GATE, RULES, Rule
from streams.views.recorded import Recorded


class WhyNot(Struct, frozen=True, kw_only=True):
    """The answer."""

    model: str
    #: The verdict in the row, `not_in_fleet` where there is none.
    gate: str
    says: str
    #: The smallest change; empty where none is needed.
    flip: str
    #: Later gates that would have refused as well, as far as is known.
    then: tuple[str, ...] = ()
    #: Reasons why the answer may be inexact.
    notes: tuple[str, ...] = ()


def why_not(name: str, recorded: Recorded) -> WhyNot:
    """Return why the model did not get the task in this decision."""
    gate = recorded.gates.get(name)
    model = recorded.rulebook.models.get(name)
    if gate is None:
        return _absent(name, recorded)
    notes = tuple(_notes(recorded, model))
    if model is not None and gate in _PASSED:
        says, flip = _PASSED[gate](recorded, model)
        return WhyNot(model=name, gate=gate, says=says, flip=flip, notes=notes)
    rule = BY_GATE.get(gate)
    if model is None or rule is None:
        return WhyNot(model=name, gate=gate, says=_bare(gate), flip="", notes=notes)
    case = recorded.case()
    refused = refused_by(rule, case, model)
    return WhyNot(
        model=name,
        gate=gate,
        says=each_once(rule.reason(case, at) for at in refused) or _bare(gate),
        flip=rule.remedy(case, refused) if refused else "",
        then=tuple(after.reason(case, Candidate(model)) for after in also_refusing(rule, case, model)),
        notes=notes,
    )


def refused_by(rule: Rule, case: Case, model: Model) -> list[Candidate]:
    """Return the model under each account for which the rule refuses it: the row does not name the slots' accounts.

    None: slots without an account; a refusal of those holds for all.
    """
    places = [Candidate(model), *(Candidate(model, account) for account in sorted(case.marks.accounts()))]
    return [at for at in places if rule.refuses(case, at)]


def also_refusing(rule: Rule, case: Case, model: Model) -> Iterator[Rule]:
    """Return the later rules that would have refused the model under every account."""
    for after in RULES[RULES.index(rule) + 1 :]:
        if after.refuses(case, Candidate(model)):
            yield after


# Models that every gate admitted: why they were not chosen, and what would have changed that.


def _busy(recorded: Recorded, model: Model) -> tuple[str, str]:
    return (
        f"Every gate let {model.id} through, but it had no free slot.",
        f"Wait until a slot of {model.id} comes free, or start another one in {recorded.decision['pool']}.",
    )


def _lost(recorded: Recorded, model: Model) -> tuple[str, str]:
    pool = recorded.decision["pool"]
    gone = f"one that is gone for good is retired: slotwise retire SLOT --pool {pool} (slotwise check names them)."
    return (
        f"Every gate let {model.id} through, but its slots were lost: their leases had run out.",
        f"Find out why they do not report: {COMES_BACK}; {gone}",
    )


def _ok(recorded: Recorded, model: Model) -> tuple[str, str]:
    decision = recorded.decision
    chosen = recorded.rulebook.models.get(decision["chosen_model"] or "")
    says = f"Every gate let {model.id} through, and a slot of it was free; the strategy preferred another."
    if chosen is None:
        return says, ""
    behind = next((one.get("behind") for one in decision["alternatives"] if one["model"] == model.id), None)
    return says, _compared(recorded, chosen, model, behind) or _preferred(decision, chosen, model)


def _chosen(recorded: Recorded, model: Model) -> tuple[str, str]:
    return f"{model.id} took the task, on {recorded.decision['chosen_slot_id']}.", ""


_PASSED: Final[Mapping[str, Callable[[Recorded, Model], tuple[str, str]]]] = {
    "busy": _busy,
    "lost": _lost,
    "ok": _ok,
    "chosen": _chosen,
}


def _compared(recorded: Recorded, chosen: Model, model: Model, behind: str | None) -> str:
    """Return what put the model behind among those that the strategy left, and what would have changed that."""
    decision, case = recorded.decision, recorded.case()
    slot, step = decision["chosen_slot_id"], f"{recorded.rulebook.policy.strategy.utilisation_step_share:.0%}"
    match behind:
        case "affinity_slot" | "affinity_account":
            return f"The task's context is on {slot}: send it with the affinity of a slot of {model.id}, or without."
        case "least_used":
            used = f", {decision['utilisation']:.0%}" if decision.get("utilisation") is not None else ""
            return (
                f"A slot of {model.id} that was used as little as {slot} over 5 min{used}, in steps of {step}: cost, "
                "score and id are compared after that."
            )
        case "model_share":
            return (
                f"Less use of all slots of {model.id} over 5 min, as by one slot more: in steps of {step} they were "
                f"used more than those of {chosen.id}."
            )
        case "cost":
            own, other = case.cost_uusd(model), case.cost_uusd(chosen)
            price = "its prices in the catalogue, which are unknown" if own is None else f"a cost below {usd(other)}"
            return f"{price[:1].upper()}{price[1:]}" + (f": it would have been {usd(own)}." if own is not None else ".")
        case "score":
            scores = _scores(decision)
            more = scores.get(chosen.id, 0.0) - scores.get(model.id, 0.0)
            return f"{more:.6f} more score, as by score.bias in the policy: used alike, they cost the same."
        case "id":
            return (
                f"Anything: it was used alike, and of the same cost and score. A score.bias for {model.id} is enough."
            )
        case "swap":
            return (
                "The tasks of the round swapped slots, so that the better tier went to the higher EV: another EV, or a "
                "round without the others."
            )
        case _:
            return ""


def _scores(decision: Mapping[str, Any]) -> dict[str, float]:
    alternatives = decision["alternatives"]
    return {one["model"]: one["score"] for one in alternatives if isinstance(one.get("score"), float | int)}


def _preferred(decision: Mapping[str, Any], chosen: Model, model: Model) -> str:
    """Return by what the strategy left the model out, and what would have made it choose the other model."""
    scores = _scores(decision)
    match decision["reason_code"]:
        case "preference":
            return f"Put {model.id} before {chosen.id} in the list that was asked."
        case "router_error":
            return f"The policy failed, and {chosen.id} stands first in the catalogue: mend what failed."
        case "objective" if model.id in scores and chosen.id in scores:
            behind = scores[chosen.id] - scores[model.id]
            return f"{behind:.6f} more score, as by score.bias in the policy, or another objective than " + str(
                decision.get("objective")
            )
        case "lifted" if model.tier < chosen.tier:
            return f"An EV not above P90 ({decision['p90']:g})." if decision.get("p90") is not None else "No lift."
        case _ if model.tier > chosen.tier:
            p90 = f", or an EV above P90 ({decision['p90']:g}), which lifts" if decision.get("p90") is not None else ""
            return f"floor_model = {model.id}: {chosen.id} is of a lower tier, {chosen.tier}{p90}."
        case _:
            return (
                f"{model.id} is of the same tier as {chosen.id}: context, use, cost, score and slot id were compared, "
                "and a decision of that version does not say which of them decided."
            )


def _absent(name: str, recorded: Recorded) -> WhyNot:
    pool = recorded.decision["pool"]
    known = recorded.rulebook.models
    if name in known:
        says = f"{pool} had no slot of {name}."
        flip = f"Start a slot of {name} in {pool}: it announces itself with slot.freed."
    else:
        says = f"{name} is no model of the catalogue.{nearest(name, known)}"
        flip = ""
    return WhyNot(model=name, gate="not_in_fleet", says=says, flip=flip)


def _bare(gate: str) -> str:
    return f"The gate {gate} refused it; what it looked at does not stand in the audit."


def _notes(recorded: Recorded, model: Model | None) -> Iterator[str]:
    decision, rulebook = recorded.decision, recorded.rulebook
    for what, known in (("catalog", rulebook.catalog_hash), ("policy", rulebook.policy_hash)):
        if decision.get(what) != known:
            yield f"It was decided by {what} {decision.get(what)}; the numbers here are those of {known}."
    if model is None:
        yield "The catalogue at hand does not know this model."
    if not recorded.is_known:
        yield "The audit does not hold what the task asked for: it had been delayed, or an older version took it in."
