"""`/controls`: orders of operators, checked, sent and followed by the code of the command line."""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus
from typing import Annotated, Any, Final, get_args

import aiokafka.errors
import kafka.errors
import msgspec
from fastapi import APIRouter, Query, Response

from schemas.codec import read_event
from schemas.events import FleetControl, Tick
from schemas.input import Unreadable
from schemas.vocabulary import FLEET_CONTROL
from streams.operate.orders import Submitted, check, submit
from streams.web.access import Caller, open_to
from streams.web.description import body, of
from streams.web.problem import broker_silent, refused
from streams.web.state import CallerOf, ObjectOf, Web, WebOf, answer, stamped

router = APIRouter(prefix="/controls", tags=["orders"])

_KINDS: Final = [kind.__name__ for kind in get_args(FleetControl) if kind is not Tick]
_ORDER: Final = open_to("operator")
_ORDER["openapi_extra"] |= body({"oneOf": [of(kind, optional=("at", "control_id", "by")) for kind in _KINDS]})


@router.post("", **_ORDER)
async def order(
    web: WebOf,
    caller: CallerOf,
    fields: ObjectOf,
    wait_s: Annotated[float, Query(ge=0, le=60, description="How long to wait for the router, in seconds.")] = 10.0,
) -> Response:
    """Give an order: drain a model, mark a product as exhausted, credit a tenant, cancel a task, retire a slot, ...

    `by` is the name of the token. The answer says of each partition whether it is in force: 200 when it is in all of
    them, 202 when some have not taken it yet, 422 when it was refused. The same `control_id` twice is one order.
    """
    found = await give(web, event_of(fields, caller), wait_s)
    if found.refused:
        raise refused(str(found.refused[0].reason), order=msgspec.to_builtins(found))
    return answer(found, HTTPStatus.ACCEPTED if found.open else HTTPStatus.OK)


def event_of(fields: dict[str, Any], caller: Caller) -> FleetControl:
    """Return the event of an order that someone gives.

    Raises:
        Problem: the router would not read it.
    """
    order = {"control_id": str(uuid.uuid4()), **stamped(fields), "by": caller.name}
    pool = order.get("pool")
    key = pool.encode() if isinstance(pool, str) else None
    event: Any = read_event(FLEET_CONTROL, key, msgspec.json.encode(order), ())
    if isinstance(event, Unreadable):
        raise refused(event.reason)
    if isinstance(event, Tick):
        raise refused("field kind: a `tick` is sent by slotwise to itself.")
    read: FleetControl = event
    return read


async def give(web: Web, event: FleetControl, wait_s: float) -> Submitted:
    """Check an order, send it, and wait so long until the router has taken it.

    Raises:
        ControlError: the router would refuse it.
        Problem: the broker does not answer.
    """
    try:
        await check(web.settings, event)
        return await asyncio.to_thread(submit, web.settings, event, wait_s=wait_s or None)
    except (aiokafka.errors.KafkaError, kafka.errors.KafkaError, OSError) as error:
        then = f"give the order again with control_id {event.control_id}, so that it counts once"
        raise broker_silent(web.settings.broker, error, then) from error
