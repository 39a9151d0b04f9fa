"""Work in portions, in an event loop that has other work as well: after each a rest of the same length."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Portion:
    """The present portion of work; it begins when it is made, and again after each rest."""

    def __init__(
        self,
        longest_s: float,
        now_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._longest_s, self._now_s, self._sleep = longest_s, now_s, sleep
        self._begun_s = now_s()

    @property
    def used_up(self) -> bool:
        """Whether the work has taken so long that others have their turn."""
        return self._now_s() - self._begun_s >= self._longest_s

    async def rest(self) -> None:
        """Leave the loop to others for as long as the work has taken."""
        await self._sleep(self._now_s() - self._begun_s)
        self._begun_s = self._now_s()
