"""`/api/stats` and `/api/routing-matrix`: the numbers of the audit, by one thing, and models by layers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response

from streams.clock import SystemClock
from streams.database.connection import Timeouts
from streams.topics import name_in_audit
from streams.views import stats as view
from streams.web.access import open_to
from streams.web.parameters import ID
from streams.web.state import Web, WebOf, answer

router = APIRouter(prefix="/api", tags=["reads"])

#: A year.
HOURS_MAX = 8_784

Hours = Annotated[int, Query(ge=1, le=HOURS_MAX, description="Whole hours back from now.")]
PoolOnly = Annotated[str | None, Query(pattern=ID, description="Only this pool.")]


@router.get("/stats", **open_to("reader", "operator"))
async def stats(
    web: WebOf,
    by: Annotated[view.By, Query(description="By what the numbers are kept.")] = "model",
    hours: Hours = 24,
    pool: PoolOnly = None,
) -> Response:
    """Decisions, waits, rates, tokens, money and savings, as `slotwise stats --json` prints them."""
    return answer(await _stats(web, by, hours, pool))


@router.get("/routing-matrix", **open_to("reader", "operator"))
async def routing_matrix(web: WebOf, hours: Hours = 24, pool: PoolOnly = None) -> Response:
    """Which models did the work of each layer: tasks, share of the layer, $ a finished task."""
    return answer(view.matrix(await _stats(web, view.MATRIX, hours, pool)))


async def _stats(web: Web, by: str, hours: int, pool: str | None) -> view.Stats:
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
    ask = partial(
        view.stats,
        web.settings.database,
        name_in_audit(web.settings),
        by=(by,),
        since=now - timedelta(hours=hours),
        pool=pool,
        timeouts=Timeouts.of(web.settings),
    )
    return await web.answers.of(("stats", by, hours, pool), ask)
