"""What takes a while to be asked, such as the audit's position: in the background, so that no page waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)

#: Who asks first waits so long at most.
FIRST_WAIT_S: Final = 0.1


class Probe(Generic[T]):
    """The last answer to one question, which is asked again when the answer is too old and is wanted."""

    def __init__(self, ask: Callable[[], Awaitable[T]], every_s: float) -> None:
        self._ask, self._every_s = ask, every_s
        self._asking: asyncio.Task[None] | None = None
        self._asked_s = self._found_s = float("-inf")
        self.found: T | None = None

    async def latest(self) -> T | None:
        """Return the last answer; None: there is none yet."""
        self._ask_when_due()
        if self.found is None and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=FIRST_WAIT_S)
        return self.found

    async def recent(self, age_s_max: float) -> T:
        """Return the last answer if it is no older, else the next; what asking raises then is raised here."""
        found = self.found
        if found is None or time.monotonic() - self._found_s > age_s_max:
            found = await self._ask()
            self.put(found)
        self._ask_when_due()
        return found

    def put(self, found: T) -> None:
        """Take an answer that came by another way."""
        self.found = found
        self._asked_s = self._found_s = time.monotonic()

    def _ask_when_due(self) -> None:
        if (self._asking is None or self._asking.done()) and time.monotonic() - self._asked_s > self._every_s:
            self._asking = asyncio.create_task(self._again())

    async def _again(self) -> None:
        try:
            self.put(await self._ask())
        except Exception as error:  # noqa: BLE001 -- the answer of before stands, and the page says how old things are
            _log.warning("a page could not ask: %s: %s", type(error).__name__, error)
        finally:
            self._asked_s = time.monotonic()
