"""The live step as the shadow takes it into its state: the fleet's moves are the live ones, what was said is its own.

Work, slots, ends, money and marks are what happened. The shadow's own are what it has announced of waiting tasks, the
allowance of announcements, EV percentiles, and the spend that its caps count: they follow from its policy.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import Step, TaskChanged, TaskRow, TaskStatus
from schemas.vocabulary import ReasonCode
from streams.core.router import Router


def own_step(router: Router, live: Step, shadow: Step) -> Step:
    """Return the step that the shadow applies; `router` is at the state before it, and `shadow` is its own step."""
    said: dict[tuple[str, str], ReasonCode | None] = {
        (one.pool, one.task_id): one.reason_code if one.outcome == "waiting" else None for one in shadow.decisions
    }
    touched = {(row.pool, row.task_id) for row in live.finished}

    def own(pool: str, task_id: str, status: TaskStatus) -> TaskStatus:
        touched.add((pool, task_id))
        if status.state != "waiting" or status.headline is None:
            return status
        headline = said[pool, task_id] if (pool, task_id) in said else _before(router.task(pool, task_id), status)
        return status if headline in (None, status.headline) else replace(status, headline=headline)

    def accepted(row: TaskRow) -> TaskRow:
        status = own(row.task.pool, row.task.task_id, row.status)
        return row if status is row.status else replace(row, status=status)

    tasks = tuple([accepted(row) for row in live.tasks])
    changed = [replace(row, status=own(row.pool, row.task_id, row.status)) for row in live.tasks_changed]
    # What only the shadow announced, of tasks that the live side left as they were.
    for (pool, task_id), headline in said.items():
        row = router.task(pool, task_id)
        if (
            headline is not None
            and (pool, task_id) not in touched
            and row is not None
            and row.status.state == "waiting"
        ):
            changed.append(TaskChanged(pool=pool, task_id=task_id, status=replace(row.status, headline=headline)))
    return replace(
        live,
        activated=None,
        tasks=tasks,
        tasks_changed=tuple(changed),
        percentiles=shadow.percentiles,
        spent=shadow.spent,
        unannounced=shadow.unannounced,
        announced=shadow.announced,
    )


def _before(row: TaskRow | None, status: TaskStatus) -> ReasonCode | None:
    """Return what the shadow had announced of the same wait; None: nothing."""
    if row is None or row.status.state != "waiting" or row.status.accepted_ms != status.accepted_ms:
        return None
    return row.status.headline
