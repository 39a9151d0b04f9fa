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


def _ok(recorded: Recorded, model: Model) -> tuple[str, str]:
    decision = recorded.decision
    chosen = recorded.rulebook.models.get(decision["chosen_model"] or "")
    says = f"Every gate let {model.id} through, and a slot of it was free; the strategy preferred another."
    return says, _preferred(decision, chosen, model) if chosen is not None else ""


def _chosen(recorded: Recorded, model: Model) -> tuple[str, str]:
    return f"{model.id} took the task, on {recorded.decision['chosen_slot_id']}.", ""


_PASSED: Final[Mapping[str, Callable[[Recorded, Model], tuple[str, str]]]] = {
    "busy": _busy,
    "ok": _ok,
    "chosen": _chosen,
}


def _preferred(decision: Mapping[str, Any], chosen: Model, model: Model) -> str:
    """Return what the strategy compared, and what would have made it choose the other model."""
    scores = {
        one["model"]: one["score"] for one in decision["alternatives"] if isinstance(one.get("score"), float | int)
    }
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
            return f"{model.id} is of the same tier as {chosen.id}: a slot of it with a lower utilisation."


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
