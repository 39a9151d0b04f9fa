"""Why a model did not get a task: the gate that kept it from it, and the smallest change that would have opened it.

Pure: a decision's row, what the task asked for, the marks and the credit of that moment, and the rules, go in; words
come out. Each gate is asked by the code that decides, so that what is told here is what was decided there. The gate in
the row is what counts; the others are asked whether they would have refused as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import ROUND_UP, Decimal
from math import inf
from typing import Any, Final

from msgspec import Struct

from schemas.decision import Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import GATES, Millis, from_millis
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import capability, context, credit, drained, emergency, exhausted, floor, quota
from streams.core.state.marks import Account, Marks
from streams.core.step import controls
from streams.core.step.controls import MarkingControl
from streams.core.step.draft import StepDraft

#: A model whose verdict is one of these cannot do the task, whatever the moment.
_UNABLE: Final = GATES[:4]


class Case(Struct, frozen=True, kw_only=True):
    """One decision, and what is known of its moment."""

    #: The row, as `explain` tells it.
    decision: Mapping[str, Any]
    decided_ms: Millis
    #: The task as far as gates look at it, and what plugged-in rules kept it from; None: the audit does not have it.
    task: TaskPending | None
    ruled_out: Mapping[str, str]
    marks: Marks
    #: Of its tenant, before the decision; None: it has no budget.
    available_uusd: int | None
    rulebook: Rulebook

    @property
    def gates(self) -> dict[str, str]:
        """The verdict on each model of the fleet."""
        return {one["model"]: one.get("gate", "") for one in self.decision["alternatives"]}


class Refusal(Struct, frozen=True):
    """What a gate says of a model, and what would open it."""

    says: str
    flip: str


class WhyNot(Struct, frozen=True, kw_only=True):
    """The answer."""

    model: str
    #: The verdict in the row, `not_in_fleet` where there is none.
    gate: str
    says: str
    #: The smallest change; empty where nothing is to be changed.
    flip: str
    #: Gates behind that one that would have refused as well, as far as can be told.
    then: tuple[str, ...] = ()
    #: What makes the answer less sure.
    notes: tuple[str, ...] = ()


def why_not(name: str, case: Case) -> WhyNot:
    """Say why the model did not get the task in this decision."""
    gates = case.gates
    gate = gates.get(name)
    model = case.rulebook.models.get(name)
    if gate is None:
        return _absent(name, case)
    notes = tuple(_notes(case, model))
    if gate in _PASSED or model is None:
        told = _PASSED[gate](case, model) if gate in _PASSED and model is not None else _bare(gate)
        return WhyNot(model=name, gate=gate, says=told.says, flip=told.flip, notes=notes)
    refusal = _REFUSALS[gate](case, model) if gate in _REFUSALS else None
    told = refusal or _bare(gate)
    later = GATES[GATES.index(gate) + 1 :] if gate in GATES else ()
    then = tuple(after.says for which in later if (after := _REFUSALS[which](case, model)) is not None)
    return WhyNot(model=name, gate=gate, says=told.says, flip=told.flip, then=then, notes=notes)


def marks_of(said: Iterable[tuple[Millis, MarkingControl]], pool: str, rulebook: Rulebook) -> Marks:
    """Fold what was said of the fleet, in that order, into the marks of a pool."""
    marks = Marks()
    for now_ms, event in said:
        draft = StepDraft(0, inf)
        controls.mark(draft, event, now_ms, rulebook)
        for row, _ in draft.marks:
            if row.pool in (None, pool):
                marks.put(row, now_ms)
    return marks


# The gates, in their order -------------------------------------------------------------------------------------------


def _capability(case: Case, model: Model) -> Refusal | None:
    if case.task is None or not capability.refuses(case.task, model):
        return None
    short = {dimension: bar for dimension, bar in sorted(case.task.requires.items()) if model.ratings[dimension] < bar}
    lower = ", ".join(
        f"requires.{dimension} to {model.ratings[dimension]} (now {bar})" for dimension, bar in short.items()
    )
    return Refusal(
        f"{model.id} is not good enough: {capability.missing(case.task, model)}.",
        f"Lower {lower}; or rate {model.id} so high in the catalogue, if it is.",
    )


def _context(case: Case, model: Model) -> Refusal | None:
    task = case.task
    if task is None:
        return None
    most = case.rulebook.max_tokens(case.decision.get("complexity"), task.output_tokens)
    if not context.refuses(task, most, model):
        return None
    answer = min(most, model.output_tokens_max)
    room = model.context_window - answer
    return Refusal(
        f"{task.input_tokens:,} tokens in and {answer:,} out do not fit its window of {model.context_window:,}.",
        f"Send at most {room:,} tokens in: {task.input_tokens - room:,} fewer."
        if room > 0
        else f"Let the answer be shorter than {model.context_window - task.input_tokens:,} tokens.",
    )


def _boundary(case: Case, model: Model) -> Refusal | None:
    found = list(_boundaries(case, model))
    if not found:
        return None
    return Refusal(" ".join(says for says, _ in found), _capitalised(" And ".join(flip for _, flip in found)))


def _boundaries(case: Case, model: Model) -> Iterator[tuple[str, str]]:
    policy, task = case.rulebook.policy, case.task
    lane = case.decision.get("lane")
    lane_policy = policy.lane_of(lane)
    if model.id in policy.boundary.exclude_models:
        yield f"The policy excludes {model.id}.", f"take {model.id} out of boundary.exclude_models in the policy."
    if lane_policy is not None:
        if model.id in lane_policy.exclude_models:
            yield f"Lane {lane} excludes it.", f"take {model.id} out of lane.{lane}.exclude_models in the policy."
        if lane_policy.allow_models and model.id not in lane_policy.allow_models:
            yield f"Lane {lane} does not list it.", f"add {model.id} to lane.{lane}.allow_models in the policy."
    if model.id in case.ruled_out:
        yield f"A plugged-in rule refuses it: {case.ruled_out[model.id]}", "change what that rule looks at."
    if task is None:
        return
    if task.local_only and not model.local:
        yield "The task is local_only, and it is hosted.", "send the task without local_only."
    if task.allow_providers and model.provider not in task.allow_providers:
        yield f"The task does not allow {model.provider}.", f"add {model.provider} to the task's allow_providers."
    if model.provider in task.deny_providers:
        yield f"The task denies {model.provider}.", f"take {model.provider} out of the task's deny_providers."
    if task.max_tier is not None and model.tier > task.max_tier:
        yield (
            f"It is of tier {model.tier}, and the task's max_tier is {task.max_tier}.",
            f"raise max_tier to {model.tier}.",
        )
    ranking = policy.strategy.ranking(task) if case.decision.get("strategy") == "preference" else ()
    if emergency.is_reserve(model) and not emergency.is_asked_for(task, model, ranking):
        yield (
            f"{model.id} is the reserve for emergencies, and another model was admissible.",
            "send the task with local_only, or name it in the policy's preference list of the task_type.",
        )


def _floor(case: Case, model: Model) -> Refusal | None:
    if case.task is None:
        return None
    policy, models, task = case.rulebook.policy, case.rulebook.models, case.task
    complexity = case.decision.get("complexity")
    floors: list[tuple[str, int, str]] = []
    if task.floor_model in models:
        floors.append((f"floor_model {task.floor_model}", models[task.floor_model].tier, "name a lower floor_model"))
    role = task.agent_role
    if role in policy.floor.by_role:
        by = policy.floor.by_role[role]
        floors.append((f"role {role} ({by})", models[by].tier, f"lower floor.by_role.{role} in the policy"))
    if complexity is not None:
        tier = policy.complexity_tier_min.get(complexity, 1)
        floors.append((f"class {complexity}", tier, f"send the task with a complexity below {complexity}"))
    above = [one for one in floors if floor.refuses(one[1], model)]
    if above:
        return Refusal(
            f"It is of tier {model.tier}, and the task's floor is higher: "
            f"{', '.join(f'{what} asks for tier {tier}' for what, tier, _ in above)}.",
            f"{_capitalised('; and '.join(flip for _, _, flip in above))}.",
        )
    if case.decision.get("attempt", 1) > 1 and case.gates.get(model.id) == "floor":
        return Refusal(
            f"It is of tier {model.tier}, and an attempt before failed and was escalated above it.",
            "Send the task with on_failure retry: it may then be tried again on the same tier.",
        )
    return None


def _exhausted(case: Case, model: Model) -> Refusal | None:
    ends = {
        account: until_ms
        for account in _accounts(case.marks)
        if (until_ms := exhausted.until_ms(case.marks, model.product, account, case.decided_ms)) is not None
    }
    if not ends:
        return None
    told = ", ".join(f"{_of(account)}until {from_millis(until_ms)}" for account, until_ms in ends.items())
    return Refusal(
        f"{model.product} was marked as used up: {told}.",
        f"Wait until {from_millis(min(ends.values()))}, or end it now: slotwise restore {model.product}",
    )


def _drained(case: Case, model: Model) -> Refusal | None:
    if not drained.refuses(case.marks, model.id, case.decided_ms):
        return None
    until_ms = case.marks.drained[model.id]
    wait = "" if until_ms is None else f"Wait until {from_millis(until_ms)}, or put it back into service now: "
    return Refusal(
        f"{drained.reason(case.marks, model.id)}.",
        f"{wait or 'Put it back into service: '}slotwise restore {model.id}",
    )


def _quota(case: Case, model: Model) -> Refusal | None:
    policy, marks, now_ms = case.rulebook.policy.quota, case.marks, case.decided_ms
    refusing = {
        account: step
        for account in _accounts(marks)
        if (step := policy.refusing(model, account, marks, now_ms)) is not None
    }
    if not refusing:
        return None
    of = next(iter(refusing.values())).usage_of
    least = min(
        step.from_share
        for step in policy.step
        if step.usage_of == of
        and any(one.product == model.product and one.tier in (None, model.tier) for one in step.refuse)
    )
    told = "; ".join(
        f"{_of(account)}{quota.usage(marks, step.usage_of, account, now_ms):.0%} of {step.usage_of} used, "
        f"refused from {step.from_share:.0%} on"
        for account, step in refusing.items()
    )
    resets = [
        row.resets_at_ms
        for row in marks.quotas.values()
        if row.product == of and row.utilisation >= least and row.resets_at_ms is not None and row.resets_at_ms > now_ms
    ]
    reset = f"; that window resets at {from_millis(min(resets))}" if resets else ""
    return Refusal(f"{model.id} was spared: {told}.", f"A usage of {of} below {least:.0%}{reset}.")


def _premium(case: Case, model: Model) -> Refusal | None:
    decision, rule = case.decision, case.rulebook.policy.premium
    p50, ev = decision.get("p50"), decision.get("ev")
    percentiles = Percentiles(pool="", at_ms=case.decided_ms, samples=0, p50=p50)
    if model.tier < PREMIUM_TIER or not rule.is_low(ev, decision["priority"], percentiles):
        return None
    models = case.rulebook.models
    if not any(
        name in models and models[name].tier < PREMIUM_TIER and gate not in _UNABLE for name, gate in case.gates.items()
    ):
        return None
    return Refusal(
        rule.reason(model.id, ev, percentiles),
        f"An EV of {p50:g} or more (now {'unknown' if ev is None else format(ev, 'g')}), "
        f"or a priority of {rule.priority_min} or more (now {decision['priority']}).",
    )


def _credit(case: Case, model: Model) -> Refusal | None:
    task, tenant, pool = case.task, case.decision.get("tenant_id"), case.decision["pool"]
    if case.available_uusd is None or tenant is None or task is None:
        return None
    needed = model.cost_uusd(
        task.input_tokens, case.rulebook.output_tokens(task, case.decision.get("complexity"), model)
    )
    if not credit.refuses(needed, case.available_uusd):
        return None
    if needed is None:
        return Refusal(
            f"The price of {model.id} is unknown, and {tenant} pays by a budget.",
            f"Give {model.id} its prices in the catalogue.",
        )
    missing = (Decimal(needed - case.available_uusd) / 1_000_000).quantize(Decimal("0.01"), ROUND_UP)
    return Refusal(
        f"It would cost about ${needed / 1e6:.6f}, and {tenant} had ${case.available_uusd / 1e6:.6f} left.",
        f"${(needed - case.available_uusd) / 1e6:.6f} more credit: slotwise credit {tenant} {missing} --pool {pool}",
    )


_REFUSALS: Final[Mapping[str, Callable[[Case, Model], Refusal | None]]] = {
    "capability": _capability,
    "context": _context,
    "boundary": _boundary,
    "floor": _floor,
    "exhausted": _exhausted,
    "drained": _drained,
    "quota": _quota,
    "premium": _premium,
    "credit": _credit,
}


# Those that every gate let through -----------------------------------------------------------------------------------


def _busy(case: Case, model: Model) -> Refusal:
    return Refusal(
        f"Every gate let {model.id} through, but it had no free slot.",
        f"Wait until a slot of {model.id} comes free, or start another one in {case.decision['pool']}.",
    )


def _ok(case: Case, model: Model) -> Refusal:
    decision = case.decision
    chosen = case.rulebook.models.get(decision["chosen_model"] or "")
    says = f"Every gate let {model.id} through, and a slot of it was free; the strategy preferred another."
    if chosen is None:
        return Refusal(says, "")
    return Refusal(says, _preferred(decision, chosen, model, _scores(decision)))


def _preferred(decision: Mapping[str, Any], chosen: Model, model: Model, scores: Mapping[str, float]) -> str:
    """What the strategy looked at, and what would have made it take the other one."""
    code = decision["reason_code"]
    match code:
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


def _chosen(case: Case, model: Model) -> Refusal:
    return Refusal(f"{model.id} took the task, on {case.decision['chosen_slot_id']}.", "")


_PASSED: Final[Mapping[str, Callable[[Case, Model], Refusal]]] = {"busy": _busy, "ok": _ok, "chosen": _chosen}


# Small things --------------------------------------------------------------------------------------------------------


def _absent(name: str, case: Case) -> WhyNot:
    pool = case.decision["pool"]
    known = case.rulebook.models
    if name in known:
        says = f"{pool} had no slot of {name}."
        flip = f"Start a slot of {name} in {pool}: it announces itself with slot.freed."
    else:
        says = f"{name} is no model of the catalogue.{nearest(name, known)}"
        flip = ""
    return WhyNot(model=name, gate="not_in_fleet", says=says, flip=flip)


def _bare(gate: str) -> Refusal:
    return Refusal(f"The gate {gate} refused it; what it looked at does not stand in the audit.", "")


def _notes(case: Case, model: Model | None) -> Iterator[str]:
    decision, rulebook = case.decision, case.rulebook
    for what, known in (("catalog", rulebook.catalog_hash), ("policy", rulebook.policy_hash)):
        if decision.get(what) != known:
            yield f"It was decided by {what} {decision.get(what)}; the numbers here are those of {known}."
    if model is None:
        yield "The catalogue at hand does not know this model."
    if case.task is None:
        yield "The audit does not hold what the task asked for: it had been delayed, or an older version took it in."


def _accounts(marks: Marks) -> list[Account]:
    """All accounts that marks speak of; None: slots without one, and what holds for all."""
    named = {account for _, account in marks.exhausted} | {account for _, account, _ in marks.quotas}
    return [None, *sorted(account for account in named if account is not None)]


def _of(account: Account) -> str:
    return "" if account is None else f"{account} "


def _scores(decision: Mapping[str, Any]) -> dict[str, float]:
    return {one["model"]: one["score"] for one in decision["alternatives"] if isinstance(one.get("score"), float | int)}


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
