"""`/slots`: announce a slot, free it with the outcome of its work, renew its lease, and list those there are."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response

from schemas.vocabulary import SLOT_FREED, from_millis
from streams.web.access import open_to
from streams.web.description import body, of
from streams.web.parameters import ID
from streams.web.problem import refused
from streams.web.routes.tasks import Pool
from streams.web.state import ObjectOf, Web, WebOf, answer

router = APIRouter(prefix="/slots", tags=["slots"])

#: Slots of which the last freed lease is remembered.
FREED_MAX: Final = 10_000
Id = Annotated[str, Path(pattern=ID, description="The slot's id.")]

_ANNOUNCE: Final = open_to("dispatcher")
_ANNOUNCE["openapi_extra"] |= body(of("SlotFreed", optional=("at",), without=("lease", "outcome", "state")))
_FREED: Final = open_to("dispatcher")
_FREED["openapi_extra"] |= body(of("SlotFreed", optional=("at",), without=("slot_id", "state")))
_IDLE: Final = open_to("dispatcher")
_IDLE["openapi_extra"] |= body(of("SlotFreed", optional=("at",), without=("slot_id", "lease", "outcome", "state")))
_RENEW: Final = open_to("dispatcher")
_RENEW["openapi_extra"] |= body(of("SlotFreed", optional=("at",), without=("slot_id", "state", "outcome")))


@router.post("", status_code=HTTPStatus.ACCEPTED, **_ANNOUNCE)
async def announce(web: WebOf, fields: ObjectOf) -> Response:
    """Announce a slot: it is there and free. Of a slot with a task this says that it was started again."""
    if extra := {"lease", "outcome"} & fields.keys():
        raise refused(f"field {min(extra)}: a slot that announces itself has none; see POST /slots/{{id}}/freed.")
    return await _report(web, {**fields, "state": "free"})


@router.post("/{slot_id}/freed", status_code=HTTPStatus.ACCEPTED, **_FREED)
async def freed(web: WebOf, slot_id: Id, fields: ObjectOf) -> Response:
    """The work of a lease is over: its outcome, and the slot is free again."""
    if not isinstance(fields.get("lease"), int):
        raise refused("field lease: missing; a slot that is freed names the lease that ends.")
    found = await _report(web, {**_of_path(fields, slot_id), "state": "free"})
    while len(web.freed) >= FREED_MAX:
        del web.freed[next(iter(web.freed))]
    key = (fields["pool"], slot_id)
    web.freed[key] = max(web.freed.pop(key, 0), fields["lease"])
    return found


@router.post("/{slot_id}/renew", status_code=HTTPStatus.ACCEPTED, **_RENEW)
async def renew(web: WebOf, slot_id: Id, fields: ObjectOf) -> Response:
    """The slot works on: its lease ends later. `current` says whether it still has that lease, as far as is known.

    `stop` says why the work is not wanted any more, as `task.cancelled` does: cancelled, lease_lost or slot_retired.
    """
    return await _report(web, {**_of_path(fields, slot_id), "state": "working"})


@router.post("/{slot_id}/idle", status_code=HTTPStatus.ACCEPTED, **_IDLE)
async def idle(web: WebOf, slot_id: Id, fields: ObjectOf) -> Response:
    """The slot still is free: the heartbeat of a slot that was announced with `ttl_s`. It never ends a lease.

    With its model it announces a slot that the router does not know, as after the loss of a broker in memory.
    """
    if extra := {"lease", "outcome"} & fields.keys():
        raise refused(f"field {min(extra)}: a slot that is idle has none; see POST /slots/{{id}}/freed.")
    return await _report(web, {**_of_path(fields, slot_id), "state": "idle"})


@router.get("", **open_to("reader", "dispatcher", "operator"))
async def read(
    web: WebOf,
    pool: Pool = "main",
    limit: Annotated[int, Query(ge=1, le=1000, description="Most slots.")] = 1000,
) -> Response:
    """The slots of a pool by id, with their leases."""
    found = web.require_state().router(pool)
    known = None if found is None else found.state.pools.get(pool)
    rows = [] if known is None else sorted(known.slots.values(), key=lambda one: one.slot_id)
    slots = [
        {
            "slot_id": one.slot_id,
            "model": one.model,
            "account": one.account,
            "state": one.state,
            "since": from_millis(one.since_ms),
            "task_id": one.task_id,
            "lease": one.lease,
            "lease_expires_at": None if one.lease_expires_at_ms is None else from_millis(one.lease_expires_at_ms),
            "renewals_left": one.renewals_left,
            "retired": one.retired,
        }
        for one in rows[:limit]
    ]
    return answer({"pool": pool, "total": len(rows), "slots": slots})


def _of_path(fields: dict[str, Any], slot_id: str) -> dict[str, Any]:
    if fields.get("slot_id", slot_id) != slot_id:
        raise refused(f"field slot_id: is not {slot_id}, the slot of the address.")
    return {**fields, "slot_id": slot_id}


async def _report(web: Web, fields: dict[str, Any]) -> Response:
    place = await web.send(SLOT_FREED, fields)
    found: dict[str, Any] = {"partition": place.partition, "offset": place.offset}
    lease, pool, slot_id = fields.get("lease"), fields["pool"], fields["slot_id"]
    if lease is not None:
        slot = web.following.slot(pool, slot_id)
        current = None if slot is None else slot.state == "leased" and slot.lease == lease
        found["current"] = current
        if fields["state"] == "working":
            found["stop"] = web.following.stop_reason(pool, slot_id, lease)
    return answer(found, HTTPStatus.ACCEPTED)
