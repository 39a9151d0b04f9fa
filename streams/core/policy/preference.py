"""By which strategy a task's slot is chosen, and which models a kind of work prefers."""

from __future__ import annotations

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Word


class StrategyPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The strategy where neither task nor lane names one, and the lists of `preference`."""

    #: A shipped strategy, or the name of a plug-in's.
    default: Word = "cheapest_capable"
    #: By `task_type`: model ids, the best liked first.
    preference: dict[Word, tuple[Word, ...]] = {}

    def resolve(self, task: TaskPending, lane: str | None) -> str:
        """The strategy of this task, in a lane that names `lane` or nothing."""
        return task.strategy or lane or self.default

    def ranking(self, task: TaskPending) -> tuple[str, ...]:
        """The models that the task's kind of work prefers; empty where there is no list."""
        return self.preference.get(task.task_type, ()) if task.task_type is not None else ()

    @property
    def fallback(self) -> str:
        """What chooses where no listed model can be had, or there is no list."""
        return "cheapest_capable" if self.default == "preference" else self.default
