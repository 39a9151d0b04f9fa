"""What a task's score is to favour: its own word, else its lane's, else by the kind of work, else by how hard it is."""

from __future__ import annotations

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Objective, Word


class ObjectivePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which objective a task has when neither it nor its lane names one."""

    default: Objective = "balanced"
    by_task_type: dict[Word, Objective] = {}
    #: Looked at after the kind of work: refactoring is `quality` only where it is hard.
    by_complexity: dict[Complexity, Objective] = {}

    def resolve(self, task: TaskPending, complexity: Complexity | None, lane: Objective | None) -> Objective:
        """The objective of this task, of this class, in a lane that names `lane` or nothing."""
        return (
            task.objective
            or lane
            or (self.by_task_type.get(task.task_type) if task.task_type is not None else None)
            or (self.by_complexity.get(complexity) if complexity is not None else None)
            or self.default
        )
