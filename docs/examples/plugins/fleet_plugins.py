"""Three plug-ins to start from: what a task is worth, which model to try first, and which it must not use."""

from __future__ import annotations

from collections.abc import Sequence

from streams.plugins import Model, TaskPending

WORTH = {"security": 100.0, "bug": 40.0, "feature": 20.0, "docs": 5.0}


def worth(task: TaskPending) -> float | None:
    """A scorer: what such work is worth to us, more where it is urgent; None leaves it unknown."""
    known = WORTH.get(task.task_type or "")
    return None if known is None else known * (1 + task.priority / 100)


def fastest_first(task: TaskPending, models: Sequence[Model]) -> list[str]:  # noqa: ARG001 - the same for every task
    """A strategy: the model that writes fastest, whatever it costs."""
    return [model.id for model in sorted(models, key=lambda model: -(model.speed_tps or 0.0))]


class OwnMachines:
    """A rule, as a class because it has data: these layers never leave our own machines."""

    def __init__(self) -> None:
        self.layers = frozenset({"legal", "payroll"})

    def __call__(self, task: TaskPending, model: Model) -> str | None:
        """The sentence that every decision about the task will show, or None."""
        if task.layer in self.layers and not model.local:
            return f"Tasks of {task.layer} stay on our own machines, and {model.id} does not run there."
        return None
