"""`/fleet` and `/waiting`: pools with their models, marks, quotas and budgets; and the tasks that wait."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.operate.following import partitions_with
from streams.views.overview import overview
from streams.web.access import open_to
from streams.web.parameters import ID
from streams.web.routes.tasks import Pool
from streams.web.state import WebOf, answer

router = APIRouter(tags=["reads"])


@router.get("/fleet", **open_to("reader", "operator"))
async def fleet(
    web: WebOf, pool: Annotated[str | None, Query(pattern=ID, description="Only this pool.")] = None
) -> Response:
    """What `slotwise check --json` prints: every pool's slots, marks, quotas, budgets and waits, and the problems."""
    return answer(overview(partitions_with(web.require_state(), pool), SystemClock().now_ms(), pool))


@router.get("/waiting", **open_to("reader", "operator"))
async def waiting(
    web: WebOf,
    pool: Pool = "main",
    limit: Annotated[int, Query(ge=1, le=1000, description="Most tasks.")] = 100,
) -> Response:
    """The tasks of a pool that wait or are delayed, the longest wait first."""
    found = web.require_state().router(pool)
    known = None if found is None else found.state.pools.get(pool)
    rows = [] if known is None else [row for row in known.tasks.values() if row.status.state != "running"]
    rows.sort(key=lambda row: (row.status.since_ms, row.task.task_id))
    tasks = [
        {
            "task_id": row.task.task_id,
            "title": row.task.title,
            "state": row.status.state,
            "headline": row.status.headline,
            "since": from_millis(row.status.since_ms),
            "due": None if row.status.due_ms is None else from_millis(row.status.due_ms),
            "attempt": row.status.attempt,
            "priority": row.task.priority,
            "ev": row.ev,
            "lane": row.task.lane,
            "tenant_id": row.task.tenant_id,
        }
        for row in rows[:limit]
    ]
    return answer({"pool": pool, "total": len(rows), "tasks": tasks})
