"""The objective of a task's score: its own, else its lane's, else by type of work, else by complexity class."""

from __future__ import annotations

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Objective, Word


class ObjectivePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Objectives of tasks where neither task nor lane names one."""

    default: Objective = "balanced"
    by_task_type: dict[Word, Objective] = {}
    #: Used after the type of work: refactoring is `quality` only where it is hard.
    by_complexity: dict[Complexity, Objective] = {}

    def resolve(self, task: TaskPending, complexity: Complexity | None, lane: Objective | None) -> Objective:
        """Return the objective of this task, of this class, in a lane with the objective `lane` or none."""
        return (
            task.objective
            or lane
            or (self.by_task_type.get(task.task_type) if task.task_type is not None else None)
            or (self.by_complexity.get(complexity) if complexity is not None else None)
            or self.default
        )
