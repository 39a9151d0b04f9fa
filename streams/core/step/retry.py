"""A task that has ended is to be run again: its end is forgotten, so that its event is done when it comes again."""

from __future__ import annotations

from schemas.decision import TaskRow
from schemas.events import TaskRetried
from streams.core.step.draft import PoolDraft


def retry(draft: PoolDraft, event: TaskRetried) -> str | None:
    """Let a task that has ended be done again when its event comes again."""
    row = draft.task(event.task_id)
    if row is not None:
        return not_ended(row)
    if draft.end_of(event.task_id) is None and draft.early_cancel(event.task_id) is None:
        draft.count("unknown_retry")
    else:
        draft.retry(event.task_id)
        draft.count("retried_task")
    return None


def not_ended(row: TaskRow) -> str:
    """Say where a task stands that cannot be run again."""
    where = f"running on {row.status.slot_id}" if row.status.state == "running" else row.status.state
    return f"task {row.task.task_id} is {where}: only a task that has ended is run again."
