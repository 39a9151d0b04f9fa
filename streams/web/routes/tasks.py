"""`/tasks`: submit one or many, read one, wait for it, cancel it, and the next one of a slot."""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from schemas.codec import encode_event
from schemas.vocabulary import FLEET_CONTROL, TASK_PENDING, StopReason, from_millis
from streams.database.connection import Timeouts
from streams.operate.following import Decided, Following
from streams.views.explain import explain
from streams.web.access import open_to
from streams.web.description import body, of
from streams.web.parameters import ID
from streams.web.problem import Problem, refused
from streams.web.state import CallerOf, Web, WebOf, answer, web_of

router = APIRouter(prefix="/tasks", tags=["tasks"])

TASKS_MAX: Final = 1_000
WAIT_S_MAX: Final = 60.0

Id = Annotated[str, Path(pattern=ID, description="The task's id.")]
Pool = Annotated[str, Query(pattern=ID, description="The pool.")]
WaitS = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="Longest wait, in seconds.")]

_ONE: Final = of("TaskPending", optional=("at",))
_BODY: Final = {"oneOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1, "maxItems": TASKS_MAX}]}
_SUBMIT: Final = open_to("producer")
_SUBMIT["openapi_extra"] |= body(_BODY)


@router.post("", status_code=HTTPStatus.ACCEPTED, **_SUBMIT)
async def submit(request: Request) -> Response:
    """Submit one task, or a list of them; answered when the broker has acknowledged all.

    A task id that is known is ignored by the router, so a request may be sent again; give `at` yourself where a task
    that was given up must not be done again by that. `at` is now where it is missing. Of a list none is sent where one
    would be refused.
    """
    # Not as a dependency: each costs FastAPI as much as reading a task.
    web, content = web_of(request), await request.body()
    if not content.lstrip().startswith(b"["):
        place = await web.send(TASK_PENDING, content)
        return answer({"acknowledged": 1, "partitions": {str(place.partition): 1}}, HTTPStatus.ACCEPTED)
    records, refusals = [], []
    for number, one in enumerate(_items(content)):
        try:
            records += web.records(TASK_PENDING, one)
        except Problem as problem:
            refusals.append({"index": number, "detail": problem.detail})
    if refusals:
        first = refusals[0]
        raise refused(f"Task {first['index']} of the list: {first['detail']} Nothing was sent.", errors=refusals)
    partitions = await web.producer.send_all(records)
    return answer({"acknowledged": len(records), "partitions": partitions}, HTTPStatus.ACCEPTED)


@router.get(
    "/next",
    responses={
        200: {"description": "The task, as `task.routed` has it; or with `reason_code`: stop the work at hand."},
        204: {"description": "Neither yet."},
    },
    **open_to("dispatcher"),
)
async def following_task(
    web: WebOf,
    slot: Annotated[str, Query(pattern=ID, description="The slot's id.")],
    pool: Pool = "main",
    after: Annotated[int, Query(ge=0, description="Only a lease with a larger number.")] = 0,
    running: Annotated[
        int | None, Query(ge=1, description="The lease of the work at hand: only whether it is to stop.")
    ] = None,
    wait_s: WaitS = 30.0,
) -> Response:
    """Wait for the task of a slot: as long as the slot is leased it is answered again, with the lease as it ends now.

    204: none in this time, ask again. A lease that was freed here is not answered again. With `running` it waits until
    the work under that lease is to stop, because it was cancelled, or the lease or the slot is lost.
    """
    followed = web.require_state()
    if running is not None:
        return await _stopped(web, followed, pool, slot, running, wait_s)

    def found() -> bool:
        least = max(after, web.freed.get((pool, slot), 0))
        work = followed.work(pool, slot)
        return web.stop.is_set() or (work is not None and work.lease > least)

    await followed.until(found, wait_s)
    work = followed.work(pool, slot)
    if work is not None and work.lease > max(after, web.freed.get((pool, slot), 0)):
        return Response(encode_event(work), media_type="application/json", headers={"Cache-Control": "no-store"})
    if followed.slot(pool, slot) is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"Pool {pool} has no slot {slot}: announce it with POST /slots.")
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _stopped(web: Web, followed: Following, pool: str, slot: str, lease: int, wait_s: float) -> Response:
    def why() -> StopReason | None:
        return followed.stop_reason(pool, slot, lease)

    await followed.until(lambda: web.stop.is_set() or why() is not None, wait_s)
    reason = why()
    if reason is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return answer({"pool": pool, "slot_id": slot, "lease": lease, "reason_code": reason})


@router.get("/{task_id}", **open_to("producer", "dispatcher", "reader", "operator"))
async def read(
    web: WebOf,
    task_id: Id,
    pool: Pool = "main",
    wait_for: Annotated[
        Literal["known", "routed", "finished"], Query(description="What `wait_s` waits for.")
    ] = "known",
    wait_s: WaitS = 0.0,
) -> Response:
    """The state of a task, its latest decisions and its history; with `wait_s` as soon as it comes so far."""
    followed = web.require_state()
    await followed.until(lambda: web.stop.is_set() or _reached(followed, pool, task_id, wait_for), wait_s)
    row, end = followed.task(pool, task_id), followed.finished(pool, task_id)
    if row is None and end is None:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"Pool {pool} has no task {task_id} that is unfinished or ended lately; GET /tasks/{{id}}/decisions asks "
            "the audit.",
        )
    known = [decision_fields(one) for one in followed.decisions(pool, task_id)]
    found: dict[str, Any] = {"task_id": task_id, "pool": pool, "title": known[-1]["title"] if known else None}
    if row is not None:
        status = row.status
        found["title"] = row.task.title or None
        found |= {
            "state": status.state,
            "attempt": status.attempt,
            "since": from_millis(status.since_ms),
            "headline": status.headline,
            "due": None if status.due_ms is None else from_millis(status.due_ms),
            "slot_id": status.slot_id,
            "lease": status.lease,
            "cancelled": status.cancelled,
            "history": [
                {"at": from_millis(one.at_ms), "seq": one.seq, "what": one.what, "detail": one.detail}
                for one in status.history
            ],
        }
    elif end is not None:
        found |= {"state": "finished", "ended": end.what, "ended_at": from_millis(end.at_ms)}
    return answer({**found, "decision": known[-1] if known else None, "decisions": known})


@router.get("/{task_id}/decisions", **open_to("producer", "reader", "operator"))
async def decisions(
    web: WebOf,
    task_id: Id,
    pool: Annotated[str | None, Query(pattern=ID, description="Only this pool.")] = None,
) -> Response:
    """Every decision about a task with every model's verdict, oldest first, from the audit; it is a moment behind."""
    timeouts = Timeouts.of(web.settings)
    found = await asyncio.to_thread(explain, web.settings.database, task_id, pool=pool, timeouts=timeouts)
    return answer({"task_id": task_id, "decisions": found})


@router.delete("/{task_id}", status_code=HTTPStatus.ACCEPTED, **open_to("producer", "operator"))
async def cancel(web: WebOf, caller: CallerOf, task_id: Id, pool: Pool = "main") -> Response:
    """Cancel a task; answered when the broker has acknowledged it. A running one ends when its slot is freed."""
    control_id = str(uuid.uuid4())
    order = {"kind": "task.cancelled", "control_id": control_id, "by": caller.name, "pool": pool, "task_id": task_id}
    place = await web.send(FLEET_CONTROL, order)
    return answer({"control_id": control_id, "partition": place.partition, "offset": place.offset}, HTTPStatus.ACCEPTED)


def _items(content: bytes) -> list[bytes]:
    try:
        found = [bytes(one) for one in msgspec.json.decode(content, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise refused("value: is not JSON, a task or a list of tasks.") from None
    if not 0 < len(found) <= TASKS_MAX:
        raise refused(f"value: a list has 1 to {TASKS_MAX} tasks, and this one has {len(found)}.")
    return found


def _reached(followed: Following, pool: str, task_id: str, state: str) -> bool:
    if followed.finished(pool, task_id) is not None:
        return True
    row = followed.task(pool, task_id)
    return row is not None and (state == "known" or (state == "routed" and row.status.state == "running"))


def decision_fields(one: Decided) -> dict[str, Any]:
    """Return a decision as the API has it: times as text, money as dollars."""
    decision = one.decision
    return {
        "decision_id": decision.decision_id,
        "task_id": decision.task_id,
        "pool": decision.pool,
        "title": decision.title,
        "partition": one.step.partition,
        "seq": one.step.seq,
        "outcome": decision.outcome,
        "reason_code": decision.reason_code,
        "reason": decision.reason,
        "decided_at": from_millis(decision.decided_at_ms),
        "attempt": decision.attempt,
        "slot_id": decision.chosen_slot_id,
        "model": decision.chosen_model,
        "tier": decision.tier,
        "lease": decision.lease,
        "max_tokens": decision.max_tokens,
        "estimated_cost_usd": None if decision.estimated_cost_uusd is None else decision.estimated_cost_uusd / 1e6,
        "position": decision.position,
        "flags": decision.flags,
        "alternatives": decision.alternatives,
        "policy": one.step.policy,
        "catalog": one.step.catalog,
    }
