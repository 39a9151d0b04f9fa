"""`/events`: a stream of what happens, as server-sent events: routed, waiting, ended, cancelled and finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from msgspec import Struct

from schemas.decision import Decision, Step
from schemas.events import TaskFinished, WorkCancelled
from streams.operate.feed import Happened, What, events_of
from streams.operate.following import Decided, Following
from streams.web.access import open_to
from streams.web.parameters import ID
from streams.web.problem import Problem
from streams.web.routes.tasks import decision_fields
from streams.web.state import Web, WebOf

router = APIRouter(tags=["events"])

STREAMS_MAX: Final = 100
#: Events that a reader may be behind; a slower one is cut off, and reads the state again.
BEHIND_MAX: Final = 10_000
#: A line so often keeps proxies from closing a silent stream.
SILENCE_S_MAX: Final = 10.0

Kind = Literal["routed", "waiting", "ended", "cancelled", "finished"]


class Wanted(Struct, frozen=True):
    """The events that a reader asked for; None: any."""

    pool: str | None
    kind: str | None
    slot: str | None

    def of(self, name: str, what: What) -> bool:
        """Whether it asked for this one."""
        slot = what.chosen_slot_id if isinstance(what, Decision) else what.slot_id
        return self.pool in (None, what.pool) and self.kind in (None, name) and self.slot in (None, slot)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"description": "Until either side ends it.", "content": {"text/event-stream": {}}}},
    **open_to("producer", "dispatcher", "reader", "operator"),
)
async def stream(
    web: WebOf,
    pool: Annotated[str | None, Query(pattern=ID, description="Only this pool.")] = None,
    kind: Annotated[Kind | None, Query(description="Only these events.")] = None,
    slot: Annotated[str | None, Query(pattern=ID, description="Only what concerns this slot.")] = None,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.", max_length=128)] = None,
) -> StreamingResponse:
    """What is decided, stopped and finished, from now on or after `Last-Event-ID`; it begins with `ready`.

    `cancelled` is what `task.cancelled` has, `finished` what `task.finished` has. After `behind` the reader has missed
    some: it reads the state.
    """
    followed = web.require_state()
    if followed.feed.listeners >= STREAMS_MAX:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, f"There are {STREAMS_MAX} streams already.", headers={"Retry-After": "5"}
        )
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = _lines(web, followed, Wanted(pool, kind, slot), last_event_id)
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


async def _lines(web: Web, followed: Following, wanted: Wanted, last: str | None) -> AsyncIterator[bytes]:
    feed = followed.feed
    waiting: asyncio.Queue[bytes] = asyncio.Queue(BEHIND_MAX)
    behind = False

    def take(events: Iterable[Happened]) -> None:
        nonlocal behind
        for one in events:
            name = _name(one.what)
            if wanted.of(name, one.what):
                behind = behind or waiting.full()
                if not behind:
                    waiting.put_nowait(_line(name, _fields(one), feed.place(one)))

    def put(step: Step | None) -> None:
        nonlocal behind
        if step is None:
            behind = True
        else:
            take(events_of(step))

    # Nothing can happen between the two: they do not wait.
    missed = None if last is None else feed.since(last, None if wanted.pool is None else followed.home(wanted.pool))
    feed.listen(put)
    ending = asyncio.ensure_future(web.stop.wait())
    try:
        yield _line("ready", {}, None if missed else feed.end())
        if last is not None and missed is None:
            yield _line("behind", {}, None)
        take(missed or ())
        while not ending.done() and not behind:
            one = asyncio.ensure_future(waiting.get())
            await asyncio.wait({one, ending}, timeout=SILENCE_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if one.done():
                yield one.result()
            else:
                one.cancel()
                yield _silence(feed.end() if waiting.empty() else None)
        with suppress(asyncio.QueueEmpty):
            while True:
                yield waiting.get_nowait()
        if behind:
            yield _line("behind", {}, None)
    finally:
        ending.cancel()
        feed.leave(put)


def _name(what: What) -> Kind:
    match what:
        case WorkCancelled():
            return "cancelled"
        case TaskFinished():
            return "finished"
        case Decision(outcome="routed" | "waiting" as outcome):
            return outcome
        case _:
            return "ended"


def _fields(one: Happened) -> Any:
    return decision_fields(Decided(one.what, one.step)) if isinstance(one.what, Decision) else one.what


def _line(name: str, fields: Any, place: str | None) -> bytes:
    id_line = b"" if place is None else b"id: %s\n" % place.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (id_line, name.encode(), msgspec.json.encode(fields))


def _silence(place: str | None) -> bytes:
    """Return a line that is no event; who comes back after it has missed nothing before it."""
    return b": nothing happened\n\n" if place is None else b": nothing happened\nid: %s\n\n" % place.encode()
