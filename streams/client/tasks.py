"""A producer's side for programs with an event loop: submit tasks, wait for their ends, cancel them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Final, Self, Unpack

from msgspec import Struct

from schemas.events import TaskCancelled, TaskFinished
from schemas.vocabulary import FLEET_CONTROL, TASK_PENDING, from_millis, to_millis
from streams.client.connection import connection
from streams.client.ends import Ends
from streams.client.fields import TaskFields, record_of, task_pending
from streams.client.wire import Wire
from streams.errors import SlotwiseError

#: For so long the router knows a success by its id, as the shipped policy has it (`attempts.finished_memory_s`).
REMEMBERED_MS: Final = 86_400_000


class NotFinished(SlotwiseError, TimeoutError):
    """A task was not over within the time that was given."""


class Task(Struct, frozen=True):
    """A task by its name: what `submit` returns, and how a task of another program is named."""

    pool: str
    task_id: str
    #: When it was submitted; None: by another program.
    at: str | None = None
    #: Whether the id was made for it; one that a program gives may have been used before.
    new: bool = False

    def __str__(self) -> str:
        return self.task_id

    def counts(self, end: TaskFinished) -> bool:
        """Whether an end is the one of this task, and not of an earlier life of its id."""
        if self.at is None:
            return True
        ended_ms, at_ms = to_millis(end.at), to_millis(self.at)
        # A success of that id makes it a duplicate, for as long as it is remembered.
        return ended_ms >= at_ms or (end.status == "success" and at_ms - ended_ms < REMEMBERED_MS)


class AsyncClient:
    """Submits tasks and waits for them; `async with` connects and disconnects.

    Without `bootstrap_servers` the installation is found as the commands find it: by `SLOTWISE_BROKER` and the other
    variables of docs/settings.md, else by `.slotwise/up.json` of a running `slotwise up`. `settings` are those of
    docs/settings.md by name, such as `kafka_security="SSL"`.
    """

    def __init__(self, *, bootstrap_servers: str | None = None, **settings: object) -> None:
        #: Makes a connection to the installation; a slot has one of its own.
        self.connect: Callable[[], Wire] = connection(bootstrap_servers, settings)
        self._wire: Wire | None = None
        self._ends: Ends | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect.

        Raises:
            SlotwiseError: no broker answers, it refuses, or it has no topics of slotwise; one sentence with what to do.
        """
        wire = self.connect()
        await wire.start()
        ends = Ends(wire)
        try:
            await ends.start()
        except BaseException:
            await wire.stop()
            raise
        self._wire, self._ends = wire, ends

    async def stop(self) -> None:
        """Disconnect; what was submitted is with the broker."""
        wire, ends = self._wire, self._ends
        self._wire = self._ends = None
        if ends is not None:
            await ends.stop()
        if wire is not None:
            await wire.stop()

    async def submit(self, *, pool: str, task_id: str | None = None, **fields: Unpack[TaskFields]) -> Task:
        """Send a task and return its name when the broker has it; without `task_id` an id is made.

        An id counts once: submitted again it is a duplicate, unless it ended without success.

        Raises:
            NotAccepted: the router would refuse it; the message is the sentence of its dead letter.
            NotSent: the broker did not acknowledge it; submitted again with the same id it counts once.
        """
        wire = self._connected()
        event = task_pending(pool, task_id or uuid.uuid4().hex, wire.now_ms(), fields)
        await wire.send(TASK_PENDING, record_of(TASK_PENDING, event, uuid.uuid4().hex, wire.now_ms()))
        return Task(pool, event.task_id, event.at, new=task_id is None)

    async def wait(self, task: Task, timeout: float | None = None) -> TaskFinished:  # noqa: ASYNC109 - as `Client.wait`
        """Return how a task ended: status, attempts, slot, model, cost, and why it ended without success.

        A task that is over already is found, for as long as the topic keeps its end. `timeout` in seconds; None: wait
        without end.

        Raises:
            NotFinished: it was not over in that time; it goes on, and may be waited for again.
        """
        if self._ends is None:
            self._connected()
        assert self._ends is not None  # noqa: S101 - for mypy: connected
        try:
            async with asyncio.timeout(timeout):
                return await self._ends.wait(task.pool, task.task_id, task.counts, look_back=not task.new)
        except TimeoutError:
            raise NotFinished(
                f"Task {task.task_id} of pool {task.pool} was not over after {timeout:g} s: wait again, or see what it "
                f"waits for with `slotwise explain {task.task_id}`."
            ) from None

    async def cancel(self, task: Task, *, by: str = "client") -> None:
        """Ask that a task be not done, and return when the broker has it; one that runs is asked to stop.

        `by` stands in the audit. Its end is waited for with `wait`.

        Raises:
            AccessDenied: this login may not write orders (`fleet.control`), which a producer need not be allowed to.
        """
        wire = self._connected()
        event = TaskCancelled(
            control_id=uuid.uuid4().hex, at=from_millis(wire.now_ms()), by=by, pool=task.pool, task_id=task.task_id
        )
        await wire.send(FLEET_CONTROL, record_of(FLEET_CONTROL, event, event.control_id, wire.now_ms()))

    def _connected(self) -> Wire:
        if self._wire is None:
            raise RuntimeError("The client is not connected: use it within its `with` block, or call start() before.")
        return self._wire
