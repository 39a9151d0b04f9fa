"""`/decisions`: the latest decisions of all tasks, as this process has followed them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from schemas.vocabulary import DecisionOutcome
from streams.operate.following import LATEST_MAX
from streams.web.access import open_to
from streams.web.routes.tasks import ID, decision_fields
from streams.web.state import WebOf, answer

router = APIRouter(prefix="/decisions", tags=["reads"])


@router.get("", **open_to("reader", "operator"))
async def read(
    web: WebOf,
    pool: Annotated[str | None, Query(pattern=ID, description="Only this pool.")] = None,
    outcome: Annotated[DecisionOutcome | None, Query(description="Only this outcome.")] = None,
    limit: Annotated[int, Query(ge=1, le=LATEST_MAX, description="Most decisions.")] = 100,
) -> Response:
    """The newest decisions first; older ones are in the audit."""
    found = [
        decision_fields(one)
        for one in reversed(web.require_state().latest)
        if pool in (None, one.decision.pool) and outcome in (None, one.decision.outcome)
    ]
    return answer({"decisions": found[:limit]})
