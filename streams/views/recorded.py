"""A decision as the audit holds it, and the case that the rules are asked about again.

Pure: its input is a decision's row, the task's fields that gates read, the marks and the credit of that time, and the
rulebook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import GATES, Millis, Verdict
from streams.core.policy.breaker import BARS_COSTS, BARS_PREMIUM, Reading
from streams.core.policy.case import Candidate, Case
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import BY_GATE, UNABLE
from streams.core.state.marks import Marks
from streams.core.state.spending import scopes_of
from streams.core.step import controls
from streams.core.step.controls import MarkingControl
from streams.core.step.draft import StepDraft

#: Verdicts of a model that every gate admitted, with a slot in service.
PASSED: Final = frozenset(get_args(Verdict)) - frozenset(GATES) - {"lost"}


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

    def _trip(self) -> Reading | None:
        """Return what the cost breaker barred the task from; the row has the models, not what was spent."""
        models, caps = self.rulebook.models, self.rulebook.breaker
        barred = {one["model"] for one in self.decision["alternatives"] if one.get("breaker")}
        if not barred:
            return None
        level = (
            BARS_PREMIUM if all(models[name].tier == PREMIUM_TIER for name in barred if name in models) else BARS_COSTS
        )
        readings = [
            Reading(scope, None, cap, level)
            for scope in scopes_of(self.decision["pool"], self.task.tenant_id, self.task.lane)
            if (cap := caps.cap_uusd(scope)) is not None
        ]
        return readings[0] if readings else None

    def case(self) -> Case:
        """Return the gates' input, as the router had it."""
        decision, policy, models = self.decision, self.rulebook.policy, self.rulebook.models
        task, ev = self.task, decision.get("ev")
        if task.floor_model not in models:
            task = replace(task, floor_model=None)
        percentiles = Percentiles(pool=task.pool, at_ms=self.decided_ms, samples=0, p50=decision.get("p50"))
        is_patient = "patient" in (decision.get("flags") or ())
        in_reach = {one["model"] for one in decision["alternatives"] if not one.get("out_of_reach")}
        verdicts = [(models[name], gate) for name, gate in self.gates.items() if name in models]
        below = self._below(verdicts)
        case = Case(
            rulebook=self.rulebook,
            marks=self.marks,
            now_ms=self.decided_ms,
            task=task,
            complexity=decision.get("complexity"),
            class_gave_way=bool(below),
            ruled_out=self.ruled_out,
            listed=policy.strategy.ranking(task) if decision.get("strategy") == "preference" else (),
            ev=ev,
            percentiles=percentiles,
            is_low=policy.premium.is_low(ev, task.priority, percentiles) and not is_patient,
            in_reach=tuple(
                model for model, gate in verdicts if gate not in UNABLE and model.id in in_reach and model not in below
            ),
            admissible=tuple(model for model, gate in verdicts if gate in PASSED),
            available_uusd=self.available_uusd if self.is_known else None,
            trip=self._trip(),
        )
        if not self.is_known or decision.get("attempt", 1) == 1:
            return case
        # The row does not have the tier after an escalation: it is the floor of models that no other floor refuses.
        floor = BY_GATE["floor"]
        under = [
            model.tier for model, gate in verdicts if gate == "floor" and not floor.refuses(case, Candidate(model))
        ]
        return replace(case, escalated_tier=max(under, default=0) + 1)

    def _below(self, verdicts: Iterable[tuple[Model, str]]) -> list[Model]:
        """Return models below the bar of the task's class that passed the gate `floor`: the bar gave way to credit."""
        name = self.decision.get("complexity")
        bar = self.rulebook.policy.class_tier_min(name) if name is not None else 1
        return [model for model, gate in verdicts if model.tier < bar and gate not in UNABLE]


def marks_of(said: Iterable[tuple[Millis, MarkingControl]], pool: str, rulebook: Rulebook) -> Marks:
    """Return the marks of a pool after these events, in that order."""
    marks = Marks()
    for now_ms, event in said:
        draft = StepDraft(0, inf)
        controls.mark(draft, event, now_ms, rulebook)
        for row in draft.marks:
            if row.pool in (None, pool):
                marks.put(row)
    return marks
