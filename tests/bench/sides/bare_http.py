"""Their side: the endpoint that a user would write first, FastAPI in front of an aiokafka producer.

One task or a list, checked by a pydantic model with the fields of a task; keyed by pool, sent, and answered when the
broker has acknowledged all. No tokens, limits, strict JSON, refusal sentences, headers, state or other routes.

Run: python -m tests.bench.sides.bare_http, settings in the environment.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from pydantic import BaseModel, Field

from schemas.vocabulary import TASK_PENDING
from streams.settings import Settings, load
from streams.topics import names

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]


class Task(BaseModel):
    """The fields of a task that the workload has."""

    task_id: Id
    pool: Id
    at: str
    title: str = ""
    ev: Annotated[float, Field(ge=0)] | None = None
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    requires: dict[str, Annotated[int, Field(ge=0, le=10)]] = {}
    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] | None = None
    layer: str | None = None
    lane: str | None = None
    tenant_id: str | None = None
    agent_role: str | None = None
    task_type: str | None = None


def application(settings: Settings) -> FastAPI:
    """Make it."""
    topic = names(settings).of(TASK_PENDING)
    producers: list[AIOKafkaProducer] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AIOKafkaProducer(bootstrap_servers=settings.broker, acks="all") as producer:
            producers.append(producer)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/tasks", status_code=202)
    async def submit(tasks: Task | list[Task]) -> dict[str, Any]:
        """Send one task or many."""
        (producer,) = producers
        sent = [
            await producer.send(topic, one.model_dump_json(exclude_unset=True).encode(), key=one.pool.encode())
            for one in (tasks if isinstance(tasks, list) else [tasks])
        ]
        return {"acknowledged": len(await asyncio.gather(*sent))}

    @app.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Whether it serves."""
        return {"ready": True}

    return app


def main() -> None:
    """Serve until SIGTERM."""
    settings = load(os.environ)
    uvicorn.run(application(settings), port=settings.http_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
