"""A stream that says when something has changed, at most once a second, so that open pages are made again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from schemas.decision import Step
from streams.web.guard import PREFIX
from streams.web.pages.page import PageOf, seen_by
from streams.web.problem import Problem
from streams.web.routes.events import STREAMS_MAX
from streams.web.state import Web

router = APIRouter(prefix=PREFIX)

#: Pages are made again so often at most, and at least.
EVERY_S_MIN: Final = 1.0
EVERY_S_MAX: Final = 5.0


@router.get("/changes", **seen_by("reader", "operator"))
async def changes(page: PageOf) -> StreamingResponse:
    """Server-sent events `changed`, without data: what has changed stands on the page."""
    if page.web.following.feed.listeners >= STREAMS_MAX:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"There are {STREAMS_MAX} streams already.")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(page.web), media_type="text/event-stream", headers=headers)


async def _events(web: Web) -> AsyncIterator[bytes]:
    changed = asyncio.Event()

    def put(_: Step | None) -> None:
        changed.set()

    web.following.feed.listen(put)
    ending = asyncio.ensure_future(web.stop.wait())
    try:
        while not ending.done():
            yield b"event: changed\ndata: \n\n"
            changed.clear()
            await asyncio.wait({ending}, timeout=EVERY_S_MIN)
            one = asyncio.ensure_future(changed.wait())
            await asyncio.wait({one, ending}, timeout=EVERY_S_MAX - EVERY_S_MIN, return_when=asyncio.FIRST_COMPLETED)
            one.cancel()
    finally:
        ending.cancel()
        web.following.feed.leave(put)
