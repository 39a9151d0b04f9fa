"""What the routes share: the settings, the tokens, the followed installation and the producer of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Request, Response
from msgspec import Struct, field

from schemas.input import Unreadable
from schemas.refusals import RefusedError
from schemas.strict_json import parse_object
from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.operate.following import Following
from streams.operate.lag import SharedLag
from streams.operate.parts import AuditReader
from streams.operate.producer import EventProducer, Place
from streams.operate.send import records_of
from streams.settings import Settings
from streams.views.lane_state import LaneLine
from streams.web.access import Caller, Tokens
from streams.web.answers import Answers
from streams.web.probe import Probe
from streams.web.problem import Problem, refused
from streams.web.sessions import Sessions

#: The `ce_source` of events that came by HTTP.
SOURCE = "/slotwise/http"

Answer = TypeVar("Answer")


class Lanes(Struct):
    """The audit's last answer about the lanes, and when it came, by the monotonic clock."""

    at_s: float = float("-inf")
    found: tuple[LaneLine, ...] | None = None
    problem: str | None = None


class Web(Struct, frozen=True):
    """One application's parts."""

    settings: Settings
    tokens: Tokens
    following: Following
    producer: EventProducer
    #: Set when the server is to end: who waits is answered now.
    stop: asyncio.Event
    lanes: Lanes = field(default_factory=Lanes)
    lag: SharedLag = field(default_factory=SharedLag)
    #: How far the audit is; asked by one probe.
    audit: AuditReader = field(default_factory=AuditReader)
    #: The latest answers of the audit about its numbers.
    answers: Answers = field(default_factory=Answers)
    #: The last lease of each slot that was freed here: the journal may not have it yet.
    freed: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Who has logged in to the pages.
    sessions: Sessions = field(default_factory=Sessions)
    #: What the pages ask broker and database in the background, by name; `probe` makes them.
    probes: dict[str, Probe[Any]] = field(default_factory=dict)

    def probe(self, name: str, ask: Callable[[], Awaitable[Answer]], every_s: float) -> Probe[Answer]:
        """Return the probe of that name; the first time it is made, to ask this question."""
        found: Probe[Answer] | None = self.probes.get(name)
        if found is None:
            found = self.probes[name] = Probe(ask, every_s)
        return found

    def require_state(self) -> Following:
        """Return the followed installation.

        Raises:
            Problem: its state is not known now.
        """
        if self.following.trouble is not None:
            raise Problem(503, f"The state is not known now: {self.following.trouble}", headers={"Retry-After": "1"})
        return self.following

    def records(self, topic: str, fields: dict[str, Any] | bytes) -> list[Any]:
        """Return the records of an event, with `at` now where it is missing.

        Raises:
            Problem: the router would refuse it, with the sentence of its dead letter.
        """
        value = fields if isinstance(fields, bytes) else msgspec.json.encode(fields)
        found = records_of(self.settings, topic, value, stamp=True, source=SOURCE)
        if isinstance(found, Unreadable):
            raise refused(found.reason)
        return found

    async def send(self, topic: str, fields: dict[str, Any] | bytes) -> Place:
        """Send an event of one pool, and return its place when the broker has acknowledged it."""
        (record,) = self.records(topic, fields)
        return await self.producer.send(record)


def web_of(request: Request) -> Web:
    """Return the parts of the application that a request came to."""
    web: Web = request.app.state.web
    return web


# Dependencies are coroutines: FastAPI hands functions to a thread, which costs more than the rest of a request.
async def _web_of(request: Request) -> Web:
    return web_of(request)


async def caller_of(request: Request) -> Caller:
    """Return who sent a request; the route's check has put it there."""
    caller: Caller = request.state.caller
    return caller


async def object_of(request: Request) -> dict[str, Any]:
    """Return the body as one JSON object, read as strictly as a record.

    Raises:
        Problem: it is none.
    """
    try:
        return parse_object(await request.body())
    except RefusedError as refusal:
        raise refused(str(refusal)) from None


def stamped(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event, with `at` where it is missing."""
    return fields if "at" in fields else {"at": from_millis(SystemClock().now_ms()), **fields}


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON; what is read now is of this moment only."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


WebOf = Annotated[Web, Depends(_web_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
ObjectOf = Annotated[dict[str, Any], Depends(object_of)]
