"""The local emergency model: a fallback, eligible only when no other model is, or when the task asks for it.

While it is closed its verdict is `boundary`. It is open as soon as no other model of the fleet passes every gate for
the task; then its own gates decide. It does not count as a cheaper model for the premium reserve: an emergency is no
reason to refuse a task the models of ordinary times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.events import TaskPending
from schemas.vocabulary import GATES, Gate
from streams.core.policy.case import Case
from streams.core.policy.catalog import Model

ROLE: Final = "local emergency"
#: The verdict of a closed model; what a gate before this one said of it stands.
_CLOSED: Final[Gate] = "boundary"
_BEFORE: Final = frozenset(GATES[: GATES.index(_CLOSED)])

MEANING: Final = "is the fallback for emergencies, and another model was admissible."
REMEDY: Final = "send the task with local_only, or name it in the policy's preference list of the task_type."


def is_fallback(model: Model) -> bool:
    """Whether the model has the role."""
    return ROLE in model.roles


def is_kept_back(model: Model, task: TaskPending, listed: Sequence[str]) -> bool:
    """Whether the model waits for an emergency of this task, which neither wants local models only nor lists it."""
    return is_fallback(model) and not task.local_only and model.id not in listed


def is_closed(model: Model, case: Case) -> bool:
    """Whether the model is closed to this task: another one, that is not kept back itself, is admissible."""
    if not is_kept_back(model, case.task, case.listed):
        return False
    return any(not is_kept_back(other, case.task, case.listed) for other in case.admissible)


def closes(gates: Sequence[Gate | None], kept_back: int) -> bool:
    """The same of a group's cells: whether one that is not in the mask `kept_back` is admissible."""
    return any(gate is None for i, gate in enumerate(gates) if not kept_back >> i & 1)


def close(gates: list[Gate | None], kept_back: int) -> None:
    """Close the cells in the mask."""
    for i, gate in enumerate(gates):
        if kept_back >> i & 1 and gate not in _BEFORE:
            gates[i] = _CLOSED
