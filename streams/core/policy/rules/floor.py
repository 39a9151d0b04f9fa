"""Routing may go up from a floor, never below it: floor model, the role's, complexity class, escalation."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Tier, Word
from streams.core.policy.catalog import Model


class FloorPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least that an agent's role works with."""

    #: By `agent_role`: a model's id; its tier is the floor.
    by_role: dict[Word, Word] = {}

    def tier_min(
        self,
        task: TaskPending,
        escalated: Tier,
        by_class: Mapping[Complexity, int],
        complexity: Complexity | None,
        models: Mapping[str, Model],
    ) -> int:
        """The lowest tier the task may use; floors compare tiers, not ids."""
        floor: int = escalated
        if task.floor_model is not None:
            floor = max(floor, models[task.floor_model].tier)
        if task.agent_role in self.by_role:
            floor = max(floor, models[self.by_role[task.agent_role]].tier)
        if complexity is not None:
            floor = max(floor, by_class.get(complexity, 1))
        return floor


def refuses(floor: int, model: Model) -> bool:
    """Whether the model is of a lower tier than the floor."""
    return model.tier < floor
