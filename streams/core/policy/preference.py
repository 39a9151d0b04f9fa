"""The strategy by which a task's slot is chosen, and the preferred models by type of work."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schemas.events import TaskPending
from schemas.vocabulary import Word


class StrategyPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The strategy where neither task nor lane names one, and the lists of `preference`."""

    #: A shipped strategy, or the name of a plug-in's.
    default: Word = "cheapest_capable"
    #: By `task_type`: model ids, in order of preference.
    preference: dict[Word, tuple[Word, ...]] = {}
    #: Slots, and models, whose busy shares are in the same step of this width are used alike.
    utilisation_step_share: Annotated[float, Meta(ge=0.01, le=1.0)] = 0.10

    def resolve(self, task: TaskPending, lane: str | None) -> str:
        """Return the strategy of this task, in a lane with the strategy `lane` or none."""
        return task.strategy or lane or self.default

    def ranking(self, task: TaskPending) -> tuple[str, ...]:
        """Return the preferred models for the task's type; empty where there is no list."""
        return self.preference.get(task.task_type, ()) if task.task_type is not None else ()

    @property
    def fallback(self) -> str:
        """Return the strategy for tasks without a list, or without an available model of it."""
        return "cheapest_capable" if self.default == "preference" else self.default
