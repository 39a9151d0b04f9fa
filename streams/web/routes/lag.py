"""`/api/lag`: how far every reader of the topics is behind."""

from __future__ import annotations

from fastapi import APIRouter, Response

from streams.web.access import open_to
from streams.web.lag_probe import AGE_S_MAX, lag_probe
from streams.web.state import WebOf, answer

router = APIRouter(tags=["reads"])


@router.get("/api/lag", **open_to("reader", "operator"))
async def lag(web: WebOf) -> Response:
    """What `slotwise lag --json` prints, as of `at`, 10 s ago at most; a request begins another look after 2 s."""
    web.require_state()
    return answer(await lag_probe(web).recent(AGE_S_MAX))
