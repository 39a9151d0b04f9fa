"""`/events`: a stream of what happens, as server-sent events: routed, waiting, ended and finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from schemas.vocabulary import from_millis
from streams.operate.following import Decided, Happened
from streams.web.access import open_to
from streams.web.problem import Problem
from streams.web.routes.tasks import ID, decision_fields
from streams.web.state import Web, WebOf

router = APIRouter(tags=["events"])

STREAMS_MAX: Final = 100
#: Events that a reader may be behind; a slower one is cut off, and reads the state again.
BEHIND_MAX: Final = 10_000
#: A line so often keeps proxies from closing a silent stream.
SILENCE_S_MAX: Final = 10.0


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"description": "Until either side ends it.", "content": {"text/event-stream": {}}}},
    **open_to("producer", "dispatcher", "reader", "operator"),
)
async def stream(
    web: WebOf,
    pool: Annotated[str | None, Query(pattern=ID, description="Only this pool.")] = None,
    kind: Annotated[
        Literal["routed", "waiting", "ended", "finished"] | None, Query(description="Only these events.")
    ] = None,
) -> StreamingResponse:
    """What is decided and finished from now on. It begins with `ready`; after `behind` the reader has missed some."""
    web.require_state()
    if web.following.listeners >= STREAMS_MAX:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, f"There are {STREAMS_MAX} streams already.", headers={"Retry-After": "5"}
        )
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(web, pool, kind), media_type="text/event-stream", headers=headers)


async def _lines(web: Web, pool: str | None, kind: str | None) -> AsyncIterator[bytes]:
    waiting: asyncio.Queue[bytes] = asyncio.Queue(BEHIND_MAX)

    def put(happened: Happened) -> None:
        for name, fields in _events(happened):
            if pool in (None, fields["pool"]) and kind in (None, name) and not waiting.full():
                waiting.put_nowait(_line(name, fields))

    web.following.listen(put)
    ending = asyncio.ensure_future(web.stop.wait())
    try:
        yield _line("ready", {})
        while not ending.done() and not waiting.full():
            one = asyncio.ensure_future(waiting.get())
            await asyncio.wait({one, ending}, timeout=SILENCE_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if one.done():
                yield one.result()
            else:
                one.cancel()
                yield b": nothing happened\n\n"
        behind = waiting.full()
        while not waiting.empty():
            yield waiting.get_nowait()
        if behind:
            yield _line("behind", {})
    finally:
        ending.cancel()
        web.following.leave(put)


def _events(happened: Happened) -> Iterator[tuple[str, dict[str, Any]]]:
    for decision in happened.decisions:
        name = decision.outcome if decision.outcome in ("routed", "waiting") else "ended"
        yield name, decision_fields(Decided(decision, happened.step))
    for end in happened.finished:
        yield (
            "finished",
            {"task_id": end.task_id, "pool": end.pool, "ended": end.what, "ended_at": from_millis(end.at_ms)},
        )


def _line(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(fields))
