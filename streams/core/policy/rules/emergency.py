"""The local emergency model: a fallback, eligible only when no other model is, or when the task asks for it.

While it is closed its verdict is `boundary`. It opens as soon as no other model with a slot in service passes every
gate for the task; then its own gates decide. It does not count as a cheaper model for the gate `premium`: a model that
is only for emergencies must not close the premium models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.events import TaskPending
from schemas.vocabulary import GATES, Gate
from streams.core.policy.case import Case
from streams.core.policy.catalog import Model

ROLE: Final = "local emergency"
#: The verdict on a closed model; a refusal by an earlier gate stays.
_CLOSED: Final[Gate] = "boundary"
_BEFORE: Final = frozenset(GATES[: GATES.index(_CLOSED)])

MEANING: Final = "is the fallback for emergencies, and another model was admissible."
REMEDY: Final = "send the task with local_only, or name it in the policy's preference list of the task_type."


def is_emergency(model: Model) -> bool:
    """Whether the model has the role."""
    return ROLE in model.roles


def is_emergency_only(model: Model, task: TaskPending, listed: Sequence[str]) -> bool:
    """Whether the model is for emergencies of this task only: the task is not `local_only` and does not list it."""
    return is_emergency(model) and not task.local_only and model.id not in listed


def is_closed(model: Model, case: Case) -> bool:
    """Whether the model is closed to this task: another model that is not for emergencies is admissible."""
    if not is_emergency_only(model, case.task, case.listed):
        return False
    return any(not is_emergency_only(other, case.task, case.listed) for other in case.admissible)


def closes(gates: Sequence[Gate | None], emergency_mask: int, in_service: int) -> bool:
    """The same for a group's cells: whether one outside the mask `emergency_mask` is admissible and has slots."""
    regular = in_service & ~emergency_mask
    return any(gate is None for i, gate in enumerate(gates) if regular >> i & 1)


def close(gates: list[Gate | None], emergency_mask: int) -> None:
    """Close the cells in the mask."""
    for i, gate in enumerate(gates):
        if emergency_mask >> i & 1 and gate not in _BEFORE:
            gates[i] = _CLOSED
