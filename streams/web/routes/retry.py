"""`/tasks/{id}/retry`: an operator has a task that has ended run again."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any, Final

import aiokafka.errors
import kafka.errors
import msgspec
from fastapi import APIRouter, Response

from schemas.events import TaskRetried
from streams.operate.retry import RetryError, find_ended, run_again
from streams.web.access import open_to
from streams.web.problem import Problem, broker_silent
from streams.web.routes.tasks import Id, Pool
from streams.web.state import CallerOf, WebOf, answer, stamped

router = APIRouter(prefix="/tasks", tags=["orders"])

#: How long the router has to take the order.
WAIT_S: Final = 10.0


@router.post("/{task_id}/retry", **open_to("operator"))
async def retry(web: WebOf, caller: CallerOf, task_id: Id, pool: Pool = "main") -> Response:
    """Run a task that has ended again, under its id, with attempts counted from 1; its event is taken from the broker.

    200: its event was sent again, `sent` says where. 202: no worker has taken the order yet, and nothing was sent; ask
    again. 409: it waits or runs, is not known, or its event is gone.
    """
    fields: dict[str, Any] = {"control_id": str(uuid.uuid4()), "by": caller.name, "pool": pool, "task_id": task_id}
    try:
        task = await find_ended(web.settings, task_id, pool)
        found = await run_again(web.settings, task, TaskRetried(**stamped(fields)), wait_s=WAIT_S)
    except RetryError as refusal:
        raise Problem(HTTPStatus.CONFLICT, str(refusal)) from None
    except (aiokafka.errors.KafkaError, kafka.errors.KafkaError, OSError) as error:
        raise broker_silent(web.settings.broker, error, "ask again") from error
    if found.order.refused:
        raise Problem(HTTPStatus.CONFLICT, str(found.order.refused[0].reason))
    return answer(msgspec.to_builtins(found), HTTPStatus.OK if found.sent is not None else HTTPStatus.ACCEPTED)
