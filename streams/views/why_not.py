"""Why a model did not get a task: the gate that refused it, and the smallest change that would have opened the gate.

Pure: its input is a decision's row, the task's fields, the marks and the credit of that time, and the rulebook. The
answers are those of the rules that decide (`core/policy/rules`). The gate in the row counts; later gates are evaluated
to report those that would have refused as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import Millis
from streams.core.policy.case import Candidate, Case, each_once
from streams.core.policy.catalog import Model
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import BY_GATE, RULES, UNABLE, Rule
from streams.core.state.marks import Marks
from streams.core.step import controls
from streams.core.step.controls import MarkingControl
from streams.core.step.draft import StepDraft


class Recorded(Struct, frozen=True, kw_only=True):
    """One decision, and the known state at its time."""

    #: The row, as `explain` returns it.
    decision: Mapping[str, Any]
    decided_ms: Millis
    #: The task's fields that gates read, and the models that rules of plug-ins refused.
    task: TaskPending
    #: False: the audit has the row only, not the task's fields.
    is_known: bool = True
    ruled_out: Mapping[str, str]
    marks: Marks
    #: Available credit of its tenant before the decision; None: it has no budget.
    available_uusd: int | None
    rulebook: Rulebook

    @property
    def gates(self) -> dict[str, str]:
        """The verdict on each model of the fleet."""
        return {one["model"]: one.get("gate", "") for one in self.decision["alternatives"]}

    def case(self) -> Case:
        """Return the gates' input, as the router had it."""
        decision, policy, models = self.decision, self.rulebook.policy, self.rulebook.models
        task, ev = self.task, decision.get("ev")
        if task.floor_model not in models:
            task = replace(task, floor_model=None)
        percentiles = Percentiles(pool=task.pool, at_ms=self.decided_ms, samples=0, p50=decision.get("p50"))
        verdicts = [(models[name], gate) for name, gate in self.gates.items() if name in models]
        case = Case(
            rulebook=self.rulebook,
            marks=self.marks,
            now_ms=self.decided_ms,
            task=task,
            complexity=decision.get("complexity"),
            ruled_out=self.ruled_out,
            listed=policy.strategy.ranking(task) if decision.get("strategy") == "preference" else (),
            ev=ev,
            percentiles=percentiles,
            is_low=policy.premium.is_low(ev, task.priority, percentiles),
            able=tuple(model for model, gate in verdicts if gate not in UNABLE),
            admissible=tuple(model for model, gate in verdicts if gate in _PASSED),
            available_uusd=self.available_uusd if self.is_known else None,
        )
        if not self.is_known or decision.get("attempt", 1) == 1:
            return case
        # The row does not have the tier after an escalation: it is the floor of models that no other floor refuses.
        floor = BY_GATE["floor"]
        below = [
            model.tier for model, gate in verdicts if gate == "floor" and not floor.refuses(case, Candidate(model))
        ]
        return replace(case, escalated_tier=max(below, default=0) + 1)


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
    marks = case.marks
    accounts = {account for _, account in marks.exhausted} | {account for _, account, _ in marks.quotas}
    places = [Candidate(model), *(Candidate(model, account) for account in sorted(filter(None, accounts)))]
    return [at for at in places if rule.refuses(case, at)]


def also_refusing(rule: Rule, case: Case, model: Model) -> Iterator[Rule]:
    """Return the later rules that would have refused the model under every account."""
    for after in RULES[RULES.index(rule) + 1 :]:
        if after.refuses(case, Candidate(model)):
            yield after


def marks_of(said: Iterable[tuple[Millis, MarkingControl]], pool: str, rulebook: Rulebook) -> Marks:
    """Return the marks of a pool after these events, in that order."""
    marks = Marks()
    for now_ms, event in said:
        draft = StepDraft(0, inf)
        controls.mark(draft, event, now_ms, rulebook)
        for row, _ in draft.marks:
            if row.pool in (None, pool):
                marks.put(row, now_ms)
    return marks


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
