"""The local emergency model: in the line only when nothing else is admissible, or when it was asked for."""

from __future__ import annotations

from typing import Final

from schemas.events import TaskPending
from streams.core.policy.catalog import Model

ROLE: Final = "local emergency"


def is_reserve(model: Model) -> bool:
    """Whether the model waits for an emergency."""
    return ROLE in model.roles


def is_asked_for(task: TaskPending, model: Model, ranking: tuple[str, ...]) -> bool:
    """Whether the task may use it like any other: it wants local models only, or its list names it."""
    return task.local_only or model.id in ranking
