"""What the routes share: the settings, the tokens, the followed installation and the producer of events."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request, Response
from msgspec import Struct, field

from schemas.input import Unreadable
from schemas.refusals import RefusedError
from schemas.strict_json import parse_object
from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.operate.following import Following
from streams.operate.producer import EventProducer, Place
from streams.operate.send import records_of
from streams.settings import Settings
from streams.web.access import Caller, Tokens
from streams.web.problem import Problem, refused

#: The `ce_source` of events that came by HTTP.
SOURCE = "/slotwise/http"


class Lanes(Struct):
    """The audit's last answer about the lanes, and when it came, by the monotonic clock."""

    at_s: float = float("-inf")
    found: list[dict[str, Any]] | None = None
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
    #: The last lease of each slot that was freed here: the journal may not have it yet.
    freed: dict[tuple[str, str], int] = field(default_factory=dict)

    def require_state(self) -> Following:
        """Return the followed installation.

        Raises:
            Problem: its state is not known now.
        """
        if self.following.trouble is not None:
            raise Problem(503, f"The state is not known now: {self.following.trouble}", headers={"Retry-After": "1"})
        return self.following

    def records(self, topic: str, fields: dict[str, Any] | bytes) -> list[Any]:
        """Return the records of an event.

        Raises:
            Problem: the router would refuse it, with the sentence of its dead letter.
        """
        value = fields if isinstance(fields, bytes) else msgspec.json.encode(fields)
        found = records_of(self.settings, topic, value, source=SOURCE)
        if isinstance(found, Unreadable):
            raise refused(found.reason)
        return found

    async def send(self, topic: str, fields: dict[str, Any] | bytes) -> Place:
        """Send an event of one pool, and return its place when the broker has acknowledged it."""
        (place,) = await self.producer.send(self.records(topic, fields))
        return place


def web_of(request: Request) -> Web:
    """Return the parts of the application that a request came to."""
    web: Web = request.app.state.web
    return web


def caller_of(request: Request) -> Caller:
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


WebOf = Annotated[Web, Depends(web_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
ObjectOf = Annotated[dict[str, Any], Depends(object_of)]
