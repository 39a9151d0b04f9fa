"""`/ui/tasks`: the tasks that run, or that may not be served yet; those that wait have a page of their own."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from fastapi import APIRouter, Response
from msgspec.structs import asdict

from streams.views.listing import tasks
from streams.views.units import many
from streams.web.guard import PREFIX
from streams.web.pages.page import Id, PageOf, Skip, Text, seen_by
from streams.web.pages.tables import SEND_A_TASK, Column, Table, to_task

router = APIRouter(prefix=PREFIX)

ROWS_MAX: Final = 60
TaskState: TypeAlias = Literal["running", "delayed"]
_SAYS: Final[dict[TaskState, tuple[str, str]]] = {
    "running": ("runs", "run"),
    "delayed": ("may not be served yet", "may not be served yet"),
}


@router.get("/tasks", **seen_by("reader", "operator"))
async def show(
    page: PageOf, pool: Id = None, state: TaskState = "running", owner: Text = None, skip: Skip = 0
) -> Response:
    """The tasks of all pools, or of one, in that state; the longest there first."""
    routers = [one.router for one in page.web.following.partitions.values()]
    found = tasks(routers, pool=pool, states=frozenset((state,)), owner=owner)
    return page.show(
        "tasks.html",
        title="Tasks",
        tables=(
            Table(
                name="tasks",
                title="Tasks",
                columns=(
                    Column("title", "task", "title", href=to_task),
                    Column("task_id", "id", "id"),
                    Column("pool", "pool", "id", href=lambda row: page.link(pool=row["pool"], skip=None)),
                    Column("slot_id", "slot", "id"),
                    Column("since", "since", "time"),
                    Column("due", "not before", "time"),
                    Column("attempt", "attempt", "number"),
                    Column("priority", "priority", "number"),
                    Column("ev", "EV", "number"),
                    Column("lane", "lane"),
                    Column("tenant_id", "tenant"),
                    Column("owner", "owner", href=lambda row: page.link(owner=row["owner"], skip=None)),
                ),
                rows=[asdict(one) for one in found],
                window=(skip, ROWS_MAX),
                leads=to_task,
                empty="No such task. Send one and see where it goes:",
                command=SEND_A_TASK,
            ),
        ),
        says=f"{many(len(found), 'task')} {_SAYS[state][len(found) != 1]}.",
        state=state,
        pool=pool,
        owner=owner,
    )
