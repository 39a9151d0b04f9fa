"""How far every reader is, for all who ask: a look takes a while, so it goes on while the last one is shown."""

from __future__ import annotations

import asyncio
from typing import Final

from streams.operate.handled import handled_of
from streams.views.lag import LagReport
from streams.web.probe import Probe
from streams.web.state import Web

#: Who asks begins another look where the last one is older.
EVERY_S: Final = 2.0
#: An older look is not given: who asks waits for another.
AGE_S_MAX: Final = 10.0


def lag_probe(web: Web) -> Probe[LagReport]:
    """Return the probe of `slotwise lag`."""

    async def ask() -> LagReport:
        return await asyncio.to_thread(web.lag.report, web.settings, lambda: handled_of(web.following))

    return web.probe("lag", ask, EVERY_S)
