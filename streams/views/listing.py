"""The tasks and slots of a moment as lists: what waits, what runs where, which slots there are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from schemas.decision import SlotRow, TaskRow
from schemas.vocabulary import FinishStatus, from_millis
from streams.core.router import Router
from streams.core.state.pool import Pool

#: The label of a task that names whose it is.
OWNER = "owner"


class TaskLine(Struct, frozen=True, kw_only=True):
    """A task that is not finished."""

    task_id: str
    pool: str
    title: str
    #: waiting, running or delayed.
    state: str
    #: Of a waiting task: its headline.
    headline: str | None
    priority: int
    ev: float | None
    attempt: int
    #: Since when it waits or runs.
    since: str
    #: Of a delayed task: until when.
    due: str | None
    slot_id: str | None
    lane: str | None
    tenant_id: str | None
    owner: str | None


class SlotLine(Struct, frozen=True, kw_only=True):
    """A registered slot."""

    slot_id: str
    pool: str
    model: str
    account: str | None
    #: free, leased or lost.
    state: str
    since: str
    task_id: str | None
    lease: int
    lease_ends: str | None
    #: It finishes its task and gets no other.
    retired: bool


class TaskEnd(Struct, frozen=True, kw_only=True):
    """The end of a task."""

    task_id: str
    pool: str
    #: `done`, or the way it ended without success.
    ended: str
    at: str


def word_of(status: FinishStatus) -> str:
    """Return the word for an end, as the routers remember it."""
    return "done" if status == "success" else status


def tasks(
    routers: Iterable[Router],
    *,
    pool: str | None = None,
    states: frozenset[str] = frozenset(),
    owner: str | None = None,
) -> list[TaskLine]:
    """Return the tasks, the longest-waiting first; of one pool, in these states (none: all), of one owner."""
    rows = (row for one in _pools(routers, pool) for row in one.tasks.values())
    found = (
        _task(row)
        for row in rows
        if (not states or row.status.state in states) and owner in (None, row.task.labels.get(OWNER))
    )
    return sorted(found, key=lambda one: (one.since, one.pool, one.task_id))


def slots(routers: Iterable[Router], *, pool: str | None = None) -> list[SlotLine]:
    """Return the slots by pool, model and id."""
    found = (_slot(row) for one in _pools(routers, pool) for row in one.slots.values())
    return sorted(found, key=lambda one: (one.pool, one.model, one.slot_id))


def lives(routers: Iterable[Router], task_id: str, pool: str | None = None) -> Iterator[TaskLine | TaskEnd]:
    """Return the present life of a task, or its last end, in each pool that knows it."""
    for one in _pools(routers, pool):
        if task_id in one.tasks:
            yield _task(one.tasks[task_id])
        elif task_id in one.finished:
            end = one.finished[task_id]
            yield TaskEnd(task_id=task_id, pool=one.name, ended=end.what, at=from_millis(end.at_ms))


def _pools(routers: Iterable[Router], pool: str | None) -> Iterator[Pool]:
    return (one for router in routers for name, one in router.state.pools.items() if pool in (None, name))


def _task(row: TaskRow) -> TaskLine:
    task, status = row.task, row.status
    return TaskLine(
        task_id=task.task_id,
        pool=task.pool,
        title=task.title,
        state=status.state,
        headline=str(status.headline) if status.headline is not None and status.state == "waiting" else None,
        priority=task.priority,
        ev=row.ev,
        attempt=status.attempt,
        since=from_millis(status.since_ms if status.state == "waiting" else status.accepted_ms),
        due=from_millis(status.due_ms) if status.due_ms is not None else None,
        slot_id=status.slot_id,
        lane=task.lane,
        tenant_id=task.tenant_id,
        owner=task.labels.get(OWNER),
    )


def _slot(row: SlotRow) -> SlotLine:
    return SlotLine(
        slot_id=row.slot_id,
        pool=row.pool,
        model=row.model,
        account=row.account,
        state=row.state,
        since=from_millis(row.since_ms),
        task_id=row.task_id,
        lease=row.lease,
        lease_ends=from_millis(row.lease_expires_at_ms) if row.lease_expires_at_ms is not None else None,
        retired=row.retired,
    )
