"""The client for programs without an event loop: the same calls, which return when they are done."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, Unpack

from schemas.events import TaskFinished, TaskRouted
from schemas.vocabulary import StopReason
from streams.client.fields import OutcomeFields, TaskFields
from streams.client.loop import run
from streams.client.slots import NOT_REPORTED, AsyncSlot, AsyncWork, Cancelled
from streams.client.tasks import AsyncClient, Task


class Client:
    """Submits tasks and waits for them, from any thread; `with` connects and disconnects. Details: `AsyncClient`."""

    def __init__(self, *, bootstrap_servers: str | None = None, **settings: object) -> None:
        self.client = AsyncClient(bootstrap_servers=bootstrap_servers, **settings)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Connect."""
        run(self.client.start())

    def stop(self) -> None:
        """Disconnect; what was submitted is with the broker."""
        run(self.client.stop())

    def submit(self, *, pool: str, task_id: str | None = None, **fields: Unpack[TaskFields]) -> Task:
        """Send a task and return its name when the broker has it; without `task_id` an id is made.

        An id counts once: submitted again it is a duplicate, unless it ended without success.

        Raises:
            NotAccepted: the router would refuse it; the message is the sentence of its dead letter.
            NotSent: the broker did not acknowledge it; submitted again with the same id it counts once.
        """
        return run(self.client.submit(pool=pool, task_id=task_id, **fields))

    def wait(self, task: Task, timeout: float | None = None) -> TaskFinished:
        """Return how a task ended: status, attempts, slot, model, cost, and why it ended without success.

        A task that is over already is found, for as long as the topic keeps its end. `timeout` in seconds; None: wait
        without end.

        Raises:
            NotFinished: it was not over in that time; it goes on, and may be waited for again.
        """
        return run(self.client.wait(task, timeout))

    def cancel(self, task: Task, *, by: str = "client") -> None:
        """Ask that a task be not done: one that waits ends, one that runs is stopped. `by` stands in the audit.

        Raises:
            AccessDenied: this login may not write orders (`fleet.control`), which a producer need not be allowed to.
        """
        run(self.client.cancel(task, by=by))


class Work:
    """Work of a `Slot`. As `with` block it is a success at its end, and a failure by an exception, which goes on."""

    def __init__(self, work: AsyncWork) -> None:
        self._work = work

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, Cancelled):
            self.stopped()
            return True
        if not self._work.reported:
            if kind is None:
                self.succeed()
            else:
                self.fail(kind.__name__)
        return False

    @property
    def task(self) -> TaskRouted:
        """What was routed: title, ref, labels, tenant, model, max_tokens, attempt, reason and lease."""
        return self._work.task

    @property
    def task_id(self) -> str:
        """Id of the task."""
        return self._work.task_id

    @property
    def payload(self) -> Any:
        """What the task's producer sent as payload, as Python has it; None: nothing."""
        return self._work.payload

    @property
    def reason(self) -> StopReason | None:
        """Why the work must stop; None: it need not."""
        return self._work.reason

    @property
    def cancelled(self) -> bool:
        """Whether the work must stop: the task was cancelled, or its lease was lost and it may run elsewhere."""
        return self._work.cancelled

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Wait until the work must stop, at most so many seconds; return whether it must."""
        return run(self._work.cancelled_within(timeout))

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` where the work must stop; a `with` block of the work takes it as the end."""
        self._work.raise_if_cancelled()

    def used(self, **outcome: Unpack[OutcomeFields]) -> None:
        """Note tokens, cost, quality and the like, which are reported with the end; what is given later counts."""
        self._work.used(**outcome)

    def succeed(self, **outcome: Unpack[OutcomeFields]) -> None:
        """Report the work as done, and return when the broker has it: the slot is free."""
        run(self._work.succeed(**outcome))

    def fail(self, error_class: str | None = None, **outcome: Unpack[OutcomeFields]) -> None:
        """Report that the work failed: the task is tried again, as its `on_failure` says.

        `error_class` is your word; `rate_limited`, `overloaded` and `quota` are no attempt: with `retry_at` the product
        gets nothing until then.
        """
        run(self._work.fail(error_class, **outcome))

    def stopped(self, **outcome: Unpack[OutcomeFields]) -> None:
        """Report that work which must stop has stopped, with what it used; of other work: give the task up, for others.

        A cancelled task is over by it; one whose lease was lost is pending again.
        """
        run(self._work.stopped(**outcome))


class Slot:
    """One slot in service for the length of a `with` block; iterate it for its tasks, one after the other.

        with Slot("haiku-1", pool="agents", model="haiku") as slot:
            for work in slot:
                with work:
                    ...

    Its lease is renewed in the background while the work runs. Details: `AsyncSlot`.
    """

    def __init__(
        self,
        slot_id: str,
        *,
        pool: str,
        model: str,
        account: str | None = None,
        ttl_s: float | None = None,
        client: Client | None = None,
        bootstrap_servers: str | None = None,
        **settings: object,
    ) -> None:
        """Describe it; `client` names the installation, or address and settings as those of a client."""

        async def made() -> AsyncSlot:
            return AsyncSlot(
                slot_id,
                pool=pool,
                model=model,
                account=account,
                ttl_s=ttl_s,
                client=None if client is None else client.client,
                bootstrap_servers=bootstrap_servers,
                **settings,
            )

        self._slot = run(made())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(NOT_REPORTED if kind is None else kind.__name__)

    def start(self) -> None:
        """Connect and announce the slot."""
        run(self._slot.start())

    def stop(self, error_class: str = NOT_REPORTED) -> None:
        """Leave: what is not reported is a failure, what was not begun is pending again."""
        run(self._slot.stop(error_class))

    def end(self) -> None:
        """Let the iteration end, once the present work is over; for another thread."""

        async def end() -> None:
            self._slot.end()

        run(end())

    def next(self, timeout: float | None = None) -> Work | None:
        """Return the next task; None: none came within the seconds, or the slot is to end.

        The one before must have been reported; it is a failure otherwise.
        """
        found = run(self._slot.next(timeout))
        return None if found is None else Work(found)

    def __iter__(self) -> Iterator[Work]:
        while (work := self.next()) is not None:
            yield work
