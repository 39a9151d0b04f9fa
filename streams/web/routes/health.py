"""`/health`: whether this process lives, whether it knows the state, and how each lane fares."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fastapi import APIRouter, Response

from streams.database.connection import Timeouts
from streams.errors import SlotwiseError
from streams.topics import name_in_audit
from streams.views.lane_state import LANE_STATES
from streams.views.lanes import lanes
from streams.web.access import ROLES, open_to
from streams.web.state import WebOf, answer

router = APIRouter(prefix="/health", tags=["health"])

#: The audit is asked again after this time.
ASKED_AGAIN_S: Final = 2.0


@router.get("/live", **open_to())
async def live() -> Response:
    """Whether the process answers; what it needs may be away."""
    return answer({"live": True})


@router.get("/startup", **open_to())
async def startup(web: WebOf) -> Response:
    """Whether the state of every partition was read once since the start."""
    started = len(web.following.partitions) == web.settings.partitions
    return answer({"started": started}, 200 if started else 503)


@router.get("/ready", **open_to())
async def ready(web: WebOf) -> Response:
    """Whether the state of every partition is known and kept up to date."""
    return answer({"ready": web.following.ready}, 200 if web.following.ready else 503)


@router.get("", **open_to(*ROLES))
async def health(web: WebOf) -> Response:
    """The state of each lane in the last hour, by the audit: healthy, elevated_fallback, degraded or idle."""
    cache = web.lanes
    if time.monotonic() - cache.at_s > ASKED_AGAIN_S:
        try:
            cache.found = await asyncio.to_thread(
                lanes, web.settings.database, name_in_audit(web.settings), Timeouts.of(web.settings)
            )
            cache.problem = None
        except SlotwiseError as error:
            cache.found, cache.problem = None, str(error)
        cache.at_s = time.monotonic()
    states = [one.state for one in cache.found or ()]
    return answer(
        {
            "state": max(states, key=LANE_STATES.index, default="idle") if cache.found is not None else None,
            "lanes": cache.found,
            "journal": {"ready": web.following.ready, "problem": web.following.trouble},
            "audit": {"ready": cache.found is not None, "problem": cache.problem},
        }
    )
