"""What the audit answers to one question, asked once however many ask at a time, and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: An answer is given again for so long after its question was asked; sums by the hour change little meanwhile.
FRESH_S: Final = 5.0
#: Questions that are remembered.
ANSWERS_MAX: Final = 100


class Answers:
    """The latest answers, by question; for one event loop."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        #: When each was asked, and its answer as it comes; the one asked first is the first.
        self._latest: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def of(self, question: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer to a question; where it is not known, `ask` is called in a thread.

        What `ask` raises is raised to all who wait for it, and not kept.
        """
        now_s = self._clock_s()
        self._latest = {one: given for one, given in self._latest.items() if now_s - given[0] < FRESH_S}
        known = self._latest.get(question)
        if known is None:
            asked = asyncio.ensure_future(asyncio.to_thread(ask))
            asked.add_done_callback(lambda done: self._forget(question, done))
            while len(self._latest) >= ANSWERS_MAX:
                del self._latest[next(iter(self._latest))]
            known = self._latest[question] = (now_s, asked)
        # Who goes away does not take the answer from the others.
        found: T = await asyncio.shield(known[1])
        return found

    def _forget(self, question: Hashable, done: asyncio.Future[Any]) -> None:
        latest = self._latest.get(question)
        if (done.cancelled() or done.exception() is not None) and latest is not None and latest[1] is done:
            del self._latest[question]
