"""How tasks ended, for who waits: `task.finished` followed from a client's start on, and looked up before that."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, TypeAlias

from msgspec import Struct

from schemas.codec import read_output
from schemas.events import TaskFinished
from schemas.vocabulary import TASK_FINISHED
from streams.client.wire import Places, Wire

#: Ends that are remembered; one that was forgotten is looked up in the topic.
REMEMBERED_MAX: Final = 20_000

Key: TypeAlias = tuple[str, str]


class _Waiting(Struct, eq=False):
    """One who waits for the end of a task."""

    key: Key
    counts: Callable[[TaskFinished], bool]
    future: asyncio.Future[TaskFinished]


class Ends:
    """Ends of tasks on one wire. It follows the topic as soon as someone waits, from the place of `start` on."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._places: Places = {}
        #: The latest end of each task, by pool and id; the one that came first is forgotten first.
        self._known: OrderedDict[Key, TaskFinished] = OrderedDict()
        #: Whether ends were forgotten.
        self._forgot = False
        self._waiting: set[_Waiting] = set()
        self._sought: set[_Waiting] = set()
        self._following: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Note where the topic ends now."""
        self._places = await self._wire.ends((TASK_FINISHED,))

    async def stop(self) -> None:
        """Follow no longer."""
        parts = [part for part in (self._following, self._looking) if part is not None]
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)

    async def wait(
        self, pool: str, task_id: str, counts: Callable[[TaskFinished], bool], *, look_back: bool
    ) -> TaskFinished:
        """Return the end of a task: one that has happened, or the next one; `counts` says which ends are meant.

        `look_back`: it may have happened before the start.
        """
        key = (pool, task_id)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        known = self._known.get(key)
        if known is not None and counts(known):
            return known
        waiting = _Waiting(key, counts, asyncio.get_running_loop().create_future())
        self._waiting.add(waiting)
        if look_back or self._forgot:
            self._sought.add(waiting)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_back())
        try:
            return await waiting.future
        finally:
            self._waiting.discard(waiting)
            self._sought.discard(waiting)

    async def _follow(self) -> None:
        try:
            async with aclosing(self._wire.read(self._places)) as records:
                async for topic, value in records:
                    event = read_output(topic, value)
                    if isinstance(event, TaskFinished):
                        self._take(event)
        except Exception as error:
            self._fail(error, self._waiting)
            raise

    def _take(self, event: TaskFinished) -> None:
        key = (event.pool, event.task_id)
        self._known.pop(key, None)
        self._known[key] = event
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
            self._forgot = True
        for waiting in self._waiting:
            if waiting.key == key and not waiting.future.done() and waiting.counts(event):
                waiting.future.set_result(event)

    async def _look_back(self) -> None:
        """Look for all that is sought now, in one reading of each partition; what is sought meanwhile, in the next."""
        while self._sought:
            sought, self._sought = self._sought, set()
            try:
                for pool in {waiting.key[0] for waiting in sought}:
                    await self._look_in(pool, [one for one in sought if one.key[0] == pool])
            except Exception as error:
                self._fail(error, sought)
                raise

    async def _look_in(self, pool: str, sought: list[_Waiting]) -> None:
        found: dict[_Waiting, TaskFinished] = {}
        async with aclosing(self._wire.past(TASK_FINISHED, pool)) as values:
            async for value in values:
                event = read_output(TASK_FINISHED, value)
                if isinstance(event, TaskFinished):
                    key = (event.pool, event.task_id)
                    found.update((one, event) for one in sought if one.key == key and one.counts(event))
        for one, event in found.items():
            if not one.future.done():
                one.future.set_result(event)

    def _fail(self, error: BaseException, waiting: set[_Waiting]) -> None:
        for one in waiting:
            if not one.future.done():
                one.future.set_exception(error)
