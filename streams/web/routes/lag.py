"""`/api/lag`: how far every reader of the topics is behind."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from streams.operate.handled import handled_of
from streams.web.access import open_to
from streams.web.state import WebOf, answer

router = APIRouter(tags=["reads"])


@router.get("/api/lag", **open_to("reader", "operator"))
async def lag(web: WebOf) -> Response:
    """What `slotwise lag --json` prints; the rates are those since the last look, and absent where that is long ago."""
    following = web.require_state()
    return answer(await asyncio.to_thread(web.lag.report, web.settings, lambda: handled_of(following)))
