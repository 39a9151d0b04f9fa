"""A task that is not finished, and where it stands."""

from __future__ import annotations

from schemas.decision import Advice
from schemas.events import TaskPending
from schemas.vocabulary import to_millis


class Task:
    """A task that is not finished."""

    def __init__(self, event: TaskPending, advice: Advice | None, now_ms: int, behind_ms: int) -> None:
        """`behind_ms`: an older `at` counts as this old."""
        self.event, self.id, self.advice = event, event.task_id, advice
        self.ev = _ev(event, advice)
        self.state, self.attempt, self.failures, self.tier_min = "waiting", event.attempt, 0, 1
        self.since_ms = max(min(to_millis(event.at), now_ms), now_ms - behind_ms)
        self.due_ms = 0
        self.deadline_ms = to_millis(event.deadline) if event.deadline is not None else None
        self.cancelled = False
        #: What the tenant's budget holds back while it runs, and by which decision; None: nothing.
        self.reserved_uusd: int | None = None
        self.decision_id = ""
        if event.not_before is not None and (due_ms := to_millis(event.not_before)) > self.since_ms:
            self.since_ms = self.due_ms = due_ms
            self.state = "delayed" if due_ms > now_ms else "waiting"


def _ev(event: TaskPending, advice: Advice | None) -> float | None:
    if event.ev is not None:
        return event.ev
    if advice is not None and advice.ev is not None:
        return advice.ev
    parts = (event.importance, event.tractability, event.impact, event.estimated_cost)
    if None in parts or not event.estimated_cost:
        return None
    return parts[0] * parts[1] * parts[2] / parts[3]  # type: ignore[operator]  # none of them is None
