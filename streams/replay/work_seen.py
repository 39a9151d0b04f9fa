"""A piece of work that ended, with what is needed to say how long such work takes and how it ends."""

from __future__ import annotations

from msgspec import Struct

from schemas.decision import Decision
from schemas.events import Outcome, TaskPending


class WorkSeen(Struct, frozen=True, array_like=True):
    """Work on an attempt of a task."""

    pool: str
    task_id: str
    attempt: int
    #: By what work is alike: its class, else its type.
    kind: str
    model: str
    #: From the decision to the step that handled its end.
    taken_ms: int
    outcome: Outcome


def work_kind(of: Decision | TaskPending) -> str:
    """Return by what work is alike: its class, else its type."""
    return of.complexity or of.task_type or ""
