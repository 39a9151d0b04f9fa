"""Routing may go up from a floor, never below it: floor model, complexity class, escalation."""

from __future__ import annotations

from schemas.events import TaskPending
from schemas.vocabulary import Tier
from streams.policy.catalog import Model
from streams.policy.rulebook import Rulebook


def tier_min(task: TaskPending, escalated: Tier, rulebook: Rulebook) -> int:
    """The lowest tier the task may use; floors compare tiers, not ids."""
    floor: int = escalated
    if task.floor_model is not None:
        floor = max(floor, rulebook.models[task.floor_model].tier)
    if task.complexity is not None:
        floor = max(floor, rulebook.policy.complexity_tier_min.get(task.complexity, 1))
    return floor


def refuses(floor: int, model: Model) -> bool:
    """Whether the model is of a lower tier than the floor."""
    return model.tier < floor
