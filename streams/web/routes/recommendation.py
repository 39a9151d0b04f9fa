"""`/route`: where a task would go now; the router decides on the present state, and nothing is recorded."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from schemas.codec import read_event
from schemas.events import SlotFreed
from schemas.input import Unreadable
from schemas.refusals import RefusedError, describe
from schemas.strict_json import parse_object
from schemas.vocabulary import LAST_MS, SLOT_FREED, Millis, from_millis, to_millis
from streams.core.router import Router
from streams.operate.recommend import fleet_router, recommendation
from streams.shipped import file_rulebook
from streams.web.access import open_to
from streams.web.description import body, of
from streams.web.problem import refused
from streams.web.state import Web, WebOf, answer

router = APIRouter(tags=["route"])

SLOTS_MAX: Final = 1_000
#: The default pool, and the time of a fleet in the body where the task has none.
MAIN: Final = "main"
NO_TIME: Final = from_millis(Millis(0))

_TASK: Final = of("TaskPending", optional=("task_id", "pool", "at"))
_SLOT: Final = of("SlotFreed", without=("pool", "at", "lease", "outcome", "state"))
_ROUTE: Final = open_to("producer", "dispatcher", "reader", "operator")
_ROUTE["openapi_extra"] |= body(
    {
        "type": "object",
        "required": ["task"],
        "properties": {
            "task": _TASK,
            "fleet": {
                "type": "array",
                "items": {**_SLOT, "required": ["model"]},
                "minItems": 1,
                "maxItems": SLOTS_MAX,
                "description": "Free slots to decide about instead of the present state.",
            },
        },
    }
)


@router.post("/route", **_ROUTE)
async def route(request: Request, web: WebOf) -> Response:
    """Decide about one task without recording anything: where it would go, and why.

    The same state and body give the same bytes: time is that of the pool's latest input. With `fleet` no state is
    needed, and time is the task's `at`, by default the beginning of 1970.
    """
    content = await request.body()
    try:
        given = parse_object(content)
    except RefusedError as refusal:
        raise refused(str(refusal)) from None
    task = given.get("task")
    if not isinstance(task, dict):
        raise refused(f"field task: is {describe(task)}, not an object with the fields of a task.")
    pool = task.get("pool", MAIN)
    if not isinstance(pool, str):
        raise refused(f"field task.pool: is {describe(pool)}, not a text.")
    fleet = given.get("fleet")
    if fleet is None:
        asked = _present(web, pool)
        now_ms = asked.now_ms
    else:
        now_ms = _time(task.get("at", NO_TIME))
        asked = fleet_router(file_rulebook(web.settings), _slots(fleet, pool, now_ms), now_ms)
    task_id = _free_id(asked, pool, content)
    at = task.get("at", from_millis(now_ms))
    found = await recommendation(asked, pool, {**task, "task_id": task_id, "pool": pool, "at": at}, now_ms)
    state = (
        None if fleet is not None else {"partition": asked.state.number, "seq": asked.seq, "at": from_millis(now_ms)}
    )
    return answer({"recorded": False, "state": state, "decision": found})


def _present(web: Web, pool: str) -> Router:
    found = web.require_state().router(pool)
    known = None if found is None else found.state.pools.get(pool)
    if found is None or known is None or not known.slots:
        raise refused(f"Pool {pool} has no slots: announce some with POST /slots, or send a `fleet` with the task.")
    return found


def _time(text: Any) -> Millis:
    try:
        at_ms = to_millis(text)
    except (TypeError, ValueError):
        raise refused(f"field task.at: is {describe(text)}, not a time as 2026-11-21T10:05:00.000Z.") from None
    if not 0 <= at_ms <= LAST_MS:
        raise refused("field task.at: is out of range.")
    return at_ms


def _slots(fleet: Any, pool: str, now_ms: Millis) -> list[SlotFreed]:
    if not isinstance(fleet, list) or not 0 < len(fleet) <= SLOTS_MAX:
        raise refused(f"field fleet: is {describe(fleet)}, not a list of 1 to {SLOTS_MAX} slots.")
    found = []
    for number, one in enumerate(fleet):
        if not isinstance(one, dict):
            raise refused(f"field fleet[{number}]: is {describe(one)}, not an object with the fields of a slot.")
        fields = {"slot_id": f"slot-{number + 1}", **one, "pool": pool, "at": from_millis(now_ms)}
        slot = read_event(SLOT_FREED, pool.encode(), msgspec.json.encode(fields), ())
        if isinstance(slot, Unreadable):
            raise refused(f"field fleet[{number}]: {slot.reason}")
        if isinstance(slot, SlotFreed):
            found.append(slot)
    return found


def _free_id(asked: Router, pool: str, content: bytes) -> str:
    """Return an id that depends on the body, and that no task of the pool has or had."""
    known, found = asked.state.pools.get(pool), f"route-{hashlib.sha256(content).hexdigest()[:32]}"
    while known is not None and (found in known.tasks or found in known.finished or found in known.cancels):
        found += "-"
    return found
