"""Routing may go above a floor, never below it: by floor model, role, complexity class or escalation.

The bar of the class alone gives way, once, where the tenant's credit covers no model at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.vocabulary import Gate, Word
from streams.core.policy.case import Candidate, Case
from streams.core.policy.rules import emergency


class FloorPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Floors by agent role."""

    #: By `agent_role`: a model's id; its tier is the floor.
    by_role: dict[Word, Word] = {}


class Floor:
    """Floors compare tiers, not ids."""

    gate: Final = "floor"
    headline: Final = "floor"
    looks_at: Final = "task"
    task_fields: Final = ("floor_model",)
    unable: Final = True
    means: Final = "is weaker than the weakest the task accepts"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether the model is of a lower tier than a floor."""
        return any(floor.tier > at.model.tier for floor in _floors(case))

    def reason(self, case: Case, at: Candidate) -> str:
        """The floors above the model."""
        return f"{at.model.id} is of tier {at.model.tier}, and the task's floor is higher: {_asking(case, at)}."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """A lower value of each of them."""
        lower = "; and ".join(floor.lower for floor in _above(case, refused[0]))
        return f"{lower[:1].upper()}{lower[1:]}."

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The floors above the candidate of the highest tier."""
        best = max(refused, key=lambda at: at.model.tier)
        return f"Every capable model of the fleet is below its floor: {_asking(case, best)}."


def gives_way(gates: Sequence[Gate | None], emergency_mask: int, in_service: int) -> bool:
    """Whether the bar of a class gives way, by a group's cells: credit refuses the last ones that are left.

    Models that are for emergencies only, those in `emergency_mask`, are not asked.
    """
    if emergency.closes(gates, emergency_mask, in_service):
        return False
    return any(gate == "credit" for i, gate in enumerate(gates) if not emergency_mask >> i & 1)


class _Floor(NamedTuple):
    what: str
    tier: int
    #: The change that lowers it.
    lower: str


def _floors(case: Case) -> Iterator[_Floor]:
    """Return every floor of the task; the highest one is the lowest tier it may use."""
    task, policy, models = case.task, case.rulebook.policy, case.rulebook.models
    if task.floor_model is not None:
        tier = models[task.floor_model].tier
        yield _Floor(f"floor_model {task.floor_model}", tier, "name a lower floor_model")
    if (role := task.agent_role) in policy.floor.by_role:
        model = policy.floor.by_role[role]
        yield _Floor(f"role {role} ({model})", models[model].tier, f"lower floor.by_role.{role} in the policy")
    if (name := case.complexity) is not None:
        lower = f"send the task with a complexity below {name}"
        what = f"class {name}, which gave way to credit," if case.class_gave_way else f"class {name}"
        yield _Floor(what, policy.class_tier_min(name, gave_way=case.class_gave_way), lower)
    yield _Floor(
        "an attempt that failed and was escalated",
        case.escalated_tier,
        "send the task with on_failure retry: it may then be tried again on the same tier",
    )


def _above(case: Case, at: Candidate) -> list[_Floor]:
    return [floor for floor in _floors(case) if floor.tier > at.model.tier]


def _asking(case: Case, at: Candidate) -> str:
    return ", ".join(f"{floor.what} asks for tier {floor.tier}" for floor in _above(case, at))
