"""A dispatcher for any number of slots in one process: the conversation on a wire, with its clock and its repetitions.

    async with Dispatcher(KafkaWire(settings)) as dispatcher:
        await dispatcher.announce(SlotSpec(slot_id="h-1", pool="agents", model="haiku"))
        async for action in dispatcher:            # `Start` and `Stop`, as they come; `next()` gives one
            match action:
                case Start(work): ...              # begin it in the background: work.task, work.slot
                case Stop(work, reason): ...       # end it; it may take its time
        ...
        await dispatcher.end(work, outcome)        # of each work that was begun; None of one that was stopped without

Renewals and heartbeats are sent without being asked for. What must arrive is sent again until the broker has it, so
`announce`, `end`, `withdraw` and `leave` return only then; `trouble` says meanwhile why they wait. A slot that is
withdrawn ends with what it works on. One that leaves gives that up: its task is pending again a second later. Neither
gets a task until it is announced again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Self

from schemas.codec import read_output, write_event
from schemas.events import Outcome, TaskRouted, WorkCancelled
from schemas.input import Unreadable
from schemas.vocabulary import SLOT_FREED, TASK_CANCELLED, TASK_ROUTED
from streams.client.conversation import Action, Conversation, Send, SlotSpec, Start, Stop, Work
from streams.client.fields import SOURCE
from streams.client.wire import PAUSE, NotSent, Wire

_log = logging.getLogger(__name__)


class Dispatcher:
    """See the module. It belongs to the event loop in which it is started."""

    def __init__(self, wire: Wire) -> None:
        """Use a wire, which the dispatcher starts and stops."""
        self._wire = wire
        self._conversation = Conversation()
        #: What is to be done, or the error that ended the reading.
        self._actions: asyncio.Queue[Start | Stop | BaseException] = asyncio.Queue()
        #: Reports of one slot leave in order, one after the other.
        self._leaving: dict[tuple[str, str], asyncio.Lock] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._parts: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        #: Why reports do not arrive at the moment; None: they do.
        self.trouble: str | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect, and be at the end of what the router sends: slots may be announced from now on.

        Raises:
            SlotwiseError: there is no broker, or it refuses; one sentence with what to do.
        """
        await self._wire.start()
        try:
            places = await self._wire.ends((TASK_ROUTED, TASK_CANCELLED))
        except BaseException:
            await self._wire.stop()
            raise

        async def read() -> None:
            async with aclosing(self._wire.read(places)) as records:
                async for topic, value in records:
                    self._take(topic, value)

        self._parts = [asyncio.create_task(read()), asyncio.create_task(self._keep_time())]
        for part in self._parts:
            part.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Disconnect; reports that are under way are given up. `end` all work before."""
        running = [*self._parts, *self._sending]
        for part in running:
            part.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._parts = []
        await self._wire.stop()

    async def announce(self, slot: SlotSpec) -> None:
        """Bring a slot into service and return when the broker has it. Work that it had is forgotten: end it first."""
        await self._do(self._conversation.announce(slot, self._wire.now_ms()))

    async def leave(self, slot: SlotSpec) -> None:
        """Take a slot out of service, and return when the broker has it; its work, if not ended, is given up."""
        await self._do(self._conversation.leave(slot, self._wire.now_ms()))

    async def withdraw(self, slot: SlotSpec) -> None:
        """Take a slot out of service, and return when the broker knows: it finishes what it has, and takes no more."""
        await self._do(self._conversation.withdraw(slot, self._wire.now_ms()))

    async def end(self, work: Work, outcome: Outcome | None = None) -> None:
        """Free the slot with the outcome, and return when the broker has it; None: the work was stopped without one.

        Of work that was not to stop, None gives it up: its task is pending again.
        """
        await self._do(self._conversation.end(work, outcome, self._wire.now_ms()))

    async def next(self) -> Start | Stop:
        """Return what is to be done next.

        Raises:
            SlotwiseError: the broker does not let this process read or write any more.
        """
        found = await self._actions.get()
        if isinstance(found, BaseException):
            self._actions.put_nowait(found)
            raise found
        return found

    async def __aiter__(self) -> AsyncIterator[Start | Stop]:
        """Give what is to be done, without end."""
        while True:
            yield await self.next()

    # From the wire, and from the clock --------------------------------------------------------------------------

    def _take(self, topic: str, value: bytes | None) -> None:
        event = read_output(topic, value)
        if isinstance(event, Unreadable):
            _log.warning("A record is passed over: %s.", event.reason)
        elif isinstance(event, TaskRouted):
            self._begin(self._conversation.routed(event, self._wire.now_ms()))
        elif isinstance(event, WorkCancelled):
            self._begin(self._conversation.cancelled(event))

    async def _keep_time(self) -> None:
        while True:
            self._begin(self._conversation.due(self._wire.now_ms()))
            self._changed.clear()
            due_ms = self._conversation.due_ms()
            waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._changed.wait())]
            if due_ms is not None:
                waiting.append(asyncio.ensure_future(self._wire.sleep_until(due_ms)))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()

    def _ended(self, part: asyncio.Task[None]) -> None:
        """Hand an error of a part to who asks for actions."""
        if not part.cancelled() and (error := part.exception()) is not None:
            self._actions.put_nowait(error)

    # To the wire ------------------------------------------------------------------------------------------------

    def _begin(self, actions: Iterable[Action]) -> list[asyncio.Task[None]]:
        """Hand on what is to be done, and send what is to be sent, in the background."""
        sending = []
        for action in actions:
            if isinstance(action, Send):
                task = asyncio.create_task(self._send(action))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
                task.add_done_callback(self._ended)
                sending.append(task)
            else:
                self._actions.put_nowait(action)
        self._changed.set()
        return sending

    async def _do(self, actions: Iterable[Action]) -> None:
        for sending in self._begin(actions):
            await asyncio.shield(sending)

    async def _send(self, send: Send) -> None:
        event = send.event
        lock = self._leaving.setdefault((event.pool, event.slot_id), asyncio.Lock())
        async with lock:
            failures = 0
            while True:
                record = write_event(SLOT_FREED, event, ce_id=send.ce_id, source=SOURCE, time_ms=self._wire.now_ms())
                try:
                    await self._wire.send(SLOT_FREED, record)
                except NotSent as error:
                    self.trouble = str(error)
                    if not send.again:
                        return
                    await asyncio.sleep(PAUSE.pause_s(failures))
                    failures += 1
                else:
                    self.trouble = None
                    self._conversation.acknowledged(send)
                    self._changed.set()
                    return
