"""A slot for programs with an event loop: announce it, take its tasks one by one, report each, leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, Self, Unpack

import msgspec

from schemas.events import Outcome, SlotFreed, TaskRouted
from schemas.vocabulary import SLOT_FREED, OutcomeStatus, StopReason
from streams.client.conversation import SlotSpec, Start
from streams.client.conversation import Work as LeasedWork
from streams.client.dispatcher import Dispatcher
from streams.client.fields import OutcomeFields, outcome_of, record_of
from streams.client.tasks import AsyncClient

_log = logging.getLogger(__name__)

#: The error class of work that was neither reported as done nor as failed.
NOT_REPORTED: Final = "not_reported"


class Cancelled(Exception):
    """Work must stop; `reason` is that of `task.cancelled`."""

    def __init__(self, task_id: str, reason: StopReason) -> None:
        super().__init__(f"task {task_id} must stop: {reason}")
        self.reason = reason


class Assigned:
    """A task on a slot, and what is to be reported of it."""

    def __init__(self, leased: LeasedWork) -> None:
        self._leased = leased
        self._outcome: OutcomeFields = {}
        #: Why it must stop; None: it need not.
        self.reason: StopReason | None = None
        #: Whether its end was reported.
        self.reported = False

    @property
    def task(self) -> TaskRouted:
        """What was routed: title, ref, labels, tenant, model, max_tokens, attempt, reason and lease."""
        return self._leased.task

    @property
    def task_id(self) -> str:
        """Id of the task."""
        return self.task.task_id

    @property
    def payload(self) -> Any:
        """What the task's producer sent as payload, as Python has it; None: nothing."""
        return None if self.task.payload is None else msgspec.json.decode(self.task.payload)

    @property
    def cancelled(self) -> bool:
        """Whether the work must stop: the task was cancelled, or its lease was lost and it may run elsewhere."""
        return self.reason is not None

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` where the work must stop; a `with` block of the work takes it as the end."""
        if self.reason is not None:
            raise Cancelled(self.task_id, self.reason)

    def used(self, **outcome: Unpack[OutcomeFields]) -> None:
        """Note tokens, cost, quality and the like, which are reported with the end; what is said later counts."""
        # Checked here, where the mistake is.
        self._merge(outcome)

    def _merge(self, outcome: OutcomeFields) -> OutcomeFields:
        merged: OutcomeFields = {**self._outcome, **outcome}
        self._checked("success", None, merged)
        self._outcome = merged
        return merged

    def _checked(self, status: OutcomeStatus, error_class: str | None, outcome: OutcomeFields) -> Outcome:
        """Return the outcome, once the router would take it.

        Raises:
            NotAccepted: it would not.
        """
        found = outcome_of(self.task_id, status, error_class, outcome)
        task = self.task
        # The time is only there to be read: that of the report is later.
        event = SlotFreed(slot_id=task.slot_id, pool=task.pool, at=task.decided_at, lease=task.lease, outcome=found)
        record_of(SLOT_FREED, event, "checked", 0)
        return found


class AsyncWork(Assigned):
    """Work of an `AsyncSlot`. As `async with` block it is a success at its end, a failure by an exception.

    Within the block the work is cancelled at its next `await` when it must stop, and the block ends there.
    """

    def __init__(self, leased: LeasedWork, dispatcher: Dispatcher) -> None:
        super().__init__(leased)
        self._dispatcher = dispatcher
        self._stopped = asyncio.Event()
        #: Whether it was handed out.
        self.taken = False
        #: The task that is in the `async with` block.
        self._within: asyncio.Task[Any] | None = None
        self._interrupted = False

    async def __aenter__(self) -> Self:
        self._within = asyncio.current_task()
        if self.cancelled:
            # At the block's first `await`: a task that cancels itself is also cancelled behind the block.
            asyncio.get_running_loop().call_soon(self._interrupt)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        within, self._within = self._within, None
        ours = isinstance(error, Cancelled)
        if self._interrupted and within is not None:
            ours = within.uncancel() == 0 and (ours or isinstance(error, asyncio.CancelledError))
        if ours or isinstance(error, asyncio.CancelledError):
            await self.stopped()
        elif not self.reported:
            await (self.succeed() if kind is None else self.fail(kind.__name__))
        return ours

    async def wait_cancelled(self) -> None:
        """Return when the work must stop."""
        await self._stopped.wait()

    async def cancelled_within(self, seconds: float | None) -> bool:
        """Wait until the work must stop, at most so many seconds; return whether it must."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self.cancelled

    async def succeed(self, **outcome: Unpack[OutcomeFields]) -> None:
        """Report the work as done, and return when the broker has it: the slot is free."""
        await self._end("success", None, outcome)

    async def fail(self, error_class: str | None = None, **outcome: Unpack[OutcomeFields]) -> None:
        """Report that the work failed: the task is tried again, as its `on_failure` says.

        `error_class` is your word; `rate_limited`, `overloaded` and `quota` are no attempt: with `retry_at` the product
        gets nothing until then.
        """
        await self._end("failure", error_class, outcome)

    async def stopped(self, **outcome: Unpack[OutcomeFields]) -> None:
        """Report that work which must stop has stopped, with what it used; of other work: give the task up, for others.

        A cancelled task is over by it; one whose lease was lost is pending again.
        """
        if self.reason == "cancelled":
            await self._end("cancelled", None, outcome)
        elif not self.reported:
            self.reported = True
            await self._dispatcher.end(self._leased, None)

    async def _end(self, status: OutcomeStatus, error_class: str | None, outcome: OutcomeFields) -> None:
        if self.reported:
            raise RuntimeError(f"The end of task {self.task_id} was reported already: an attempt has one.")
        found = self._checked(status, error_class, self._merge(outcome))
        self.reported = True
        await self._dispatcher.end(self._leased, found)

    def _stop(self, reason: StopReason) -> None:
        self.reason = reason
        self._stopped.set()
        if self._within is not None and not self.reported:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._within is not None and not self._interrupted:
            self._interrupted = True
            self._within.cancel()


class AsyncSlot:
    """One slot in service for the length of an `async with` block; iterate it for its tasks, one after the other.

        async with AsyncSlot("haiku-1", pool="agents", model="haiku") as slot:
            async for work in slot:
                async with work:
                    ...

    Its lease is renewed while the work runs. `ttl_s`: the slot is lost when this process is silent for so long. When
    the block ends, the slot is out of its pool. One process has a slot at a time.
    """

    def __init__(
        self,
        slot_id: str,
        *,
        pool: str,
        model: str,
        account: str | None = None,
        ttl_s: float | None = None,
        client: AsyncClient | None = None,
        bootstrap_servers: str | None = None,
        **settings: object,
    ) -> None:
        """Describe it; `client` names the installation, or address and settings as those of a client."""
        self.spec = SlotSpec(slot_id=slot_id, pool=pool, model=model, account=account, ttl_s=ttl_s)
        client = client or AsyncClient(bootstrap_servers=bootstrap_servers, **settings)
        self._dispatcher = Dispatcher(client.connect())
        #: Work, an error that ended the listening, or None to look whether the slot is to end.
        self._came: asyncio.Queue[AsyncWork | BaseException | None] = asyncio.Queue()
        self._ending = False
        #: The work that came last.
        self._work: AsyncWork | None = None
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.stop(NOT_REPORTED if kind is None else kind.__name__)

    async def start(self) -> None:
        """Connect and announce the slot.

        Raises:
            NotAccepted: there can be no such slot.
            SlotwiseError: as `AsyncClient.start`.
        """
        now = SlotFreed(
            slot_id=self.spec.slot_id,
            pool=self.spec.pool,
            at="1970-01-01T00:00:00Z",
            model=self.spec.model,
            account=self.spec.account,
            ttl_s=self.spec.ttl_s,
        )
        record_of(SLOT_FREED, now, "checked", 0)
        await self._dispatcher.start()
        self._listening = asyncio.create_task(self._listen())
        await self._dispatcher.announce(self.spec)

    async def stop(self, error_class: str = NOT_REPORTED) -> None:
        """Leave: what is not reported is a failure, what was not begun is pending again."""
        self.end()
        if self._listening is not None:
            work = self._work
            if work is not None and not work.reported:
                await self._give_back(work, error_class)
            await self._dispatcher.leave(self.spec)
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._dispatcher.stop()

    def end(self) -> None:
        """Let the iteration end, once the present work is over."""
        self._ending = True
        self._came.put_nowait(None)

    async def next(self, timeout: float | None = None) -> AsyncWork | None:  # noqa: ASYNC109 - as `Slot.next`
        """Return the next task; None: none came within the seconds, or the slot is to end.

        The one before must have been reported; it is a failure otherwise.
        """
        if self._work is not None and self._work.taken and not self._work.reported:
            _log.warning("Task %s was not reported: it counts as failed.", self._work.task_id)
            await self._give_back(self._work, NOT_REPORTED)
        while not self._ending:
            try:
                async with asyncio.timeout(timeout):
                    found = await self._came.get()
            except TimeoutError:
                return None
            if isinstance(found, BaseException):
                # Also for who asks again.
                self._came.put_nowait(found)
                raise found
            if found is None:
                continue
            if found.cancelled:
                # It was over before it was begun.
                await found.stopped()
                continue
            found.taken = True
            return found
        return None

    async def __aiter__(self) -> AsyncIterator[AsyncWork]:
        """Give the tasks of the slot, until it is to end."""
        while (work := await self.next()) is not None:
            yield work

    async def _give_back(self, work: AsyncWork, error_class: str) -> None:
        if work.cancelled or not work.taken:
            await work.stopped()
        else:
            await work.fail(error_class)

    async def _listen(self) -> None:
        try:
            async for action in self._dispatcher:
                if isinstance(action, Start):
                    self._work = AsyncWork(action.work, self._dispatcher)
                    self._came.put_nowait(self._work)
                elif self._work is not None and self._work.task.lease == action.work.task.lease:
                    self._work._stop(action.reason)  # noqa: SLF001 - of this file
        except Exception as error:  # noqa: BLE001 - it belongs to who waits for work
            self._came.put_nowait(error)
