"""The step `shadow` of a proposal: its rules decide beside the live ones for a while, and what differs is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING

from streams.commands.run import until_signal
from streams.core.policy.rulebook import Rulebook
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.shadow.report import ShadowReport

#: Differences that a proposal reads; `slotwise shadow diff` has all of them.
DIFFERENCES_MAX = 20


def beside(
    settings: Settings, name: str, rulebook: Rulebook, seconds: float, progress: Callable[[int], None]
) -> ShadowReport:
    """Run a shadow of that name for so long from when it follows, or until Ctrl-C; return what it found.

    The settings are those of the live rules. `progress` is given the seconds that it has followed. Its run is over
    then; what it found stays.

    Raises:
        SlotwiseError: it cannot follow, or ended by itself; the message says why.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the clients along, as what follows
    from streams.shadow.report import end, report  # noqa: PLC0415

    timeouts = Timeouts.of(settings)
    late = f"The broker at {settings.broker} or the database does not answer, and the shadow ends without it."
    try:
        asyncio.run(until_signal(lambda stop: _follow(settings, name, rulebook, seconds, stop, progress), late=late))
    finally:
        end(settings.database, name, forget=False, timeouts=timeouts)
    return report(settings.database, name, limit=DIFFERENCES_MAX, timeouts=timeouts)


async def _follow(
    settings: Settings,
    name: str,
    rulebook: Rulebook,
    seconds: float,
    stop: asyncio.Event,
    progress: Callable[[int], None],
) -> None:
    from streams.shadow.run import follow  # noqa: PLC0415 - brings the clients along

    ready = asyncio.Event()
    following = asyncio.ensure_future(follow(settings, name, rulebook, stop, lambda _: ready.set()))
    waiting = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait({following, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for second in range(1, ceil(seconds) + 1):
            if following.done() or stop.is_set():
                break
            await asyncio.wait({following}, timeout=min(1.0, seconds - second + 1))
            progress(second)
    finally:
        waiting.cancel()
        stop.set()
        await following
