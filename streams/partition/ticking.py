"""Ticks: when something falls due and no input comes, the worker sends itself a record that says what time it is."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from schemas.events import Tick
from schemas.vocabulary import from_millis
from streams.clock import Clock
from streams.partition.ports import StateMachine, Ticks

_log = logging.getLogger(__name__)

#: A tick that has not come back is sent again after this.
TICK_RETRY_S: Final = 5.0
#: Ticks keep this distance when the broker's clock is behind ours, so that waiting for it is no busy loop.
TICK_PAUSE_S: Final = 0.2


class Ticking:
    """The ticks of one partition."""

    def __init__(self, partition: int, ticks: Ticks, clock: Clock) -> None:
        self._partition = partition
        self._ticks = ticks
        self._clock = clock
        self._sent_seq = -1
        self._sent_s = float("-inf")

    async def send_if_due(self, machine: StateMachine) -> float | None:
        """Send a tick when something is due; return how long to wait for an input, in seconds, None: no limit."""
        due_ms = machine.due_ms()
        if due_ms is None:
            return None
        now_ms = self._clock.now_ms()
        if due_ms > now_ms:
            return (due_ms - now_ms) / 1000
        now_s = asyncio.get_running_loop().time()
        pause_s = TICK_RETRY_S if self._sent_seq == machine.seq else TICK_PAUSE_S
        if now_s - self._sent_s < pause_s:
            return self._sent_s + pause_s - now_s
        self._sent_seq, self._sent_s = machine.seq, now_s
        # The number of the next step makes the id: a tick sent twice for the same moment is one tick.
        tick = Tick(control_id=f"tick-{self._partition}-{machine.seq}", at=from_millis(now_ms), by="lane")
        try:
            await self._ticks.send(tick, now_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the tick is sent again
            _log.warning("partition %d: a tick was not sent, trying again: %s", self._partition, error)
        return TICK_RETRY_S
