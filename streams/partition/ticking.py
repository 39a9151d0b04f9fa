"""Ticks: when something falls due and no input comes, the worker sends itself a record that says what time it is.

The time that counts is the broker's, where the broker stamps records. A worker whose clock is ahead of it would send
tick after tick and wait in vain for its own time: what a tick says and how it was stamped shows the difference, and
the next one is sent when it is time by the broker.
"""

from __future__ import annotations

import logging
from typing import Final

from schemas.events import Tick
from schemas.vocabulary import Millis, from_millis, to_millis
from streams.clock import Clock
from streams.partition.clock_watch import ClockWatch
from streams.partition.ports import StateMachine, Ticks

_log = logging.getLogger(__name__)

#: A tick that has not come back is sent again after this.
TICK_RETRY_S: Final = 5.0
#: Ticks keep this distance, which doubles with each that came back and changed nothing, up to that one.
TICK_PAUSE_S: Final = 0.2
TICK_PAUSE_S_MAX: Final = 60.0
VAIN_MAX: Final = 10


class Ticking:
    """The ticks of one partition."""

    def __init__(self, partition: int, ticks: Ticks, clock: Clock, watch: ClockWatch) -> None:
        self._partition = partition
        self._ticks = ticks
        self._clock = clock
        self._watch = watch
        self._sent_seq = -1
        self._sent_s = float("-inf")
        #: When what the last tick was sent for was due.
        self._due_ms: Millis | None = None
        #: Ticks in a row that came back and left the same thing due.
        self._vain = 0
        #: How far our clock is ahead of the one that stamps ticks.
        self._ahead_ms = 0

    def came(self, tick: Tick, stamp_ms: int) -> None:
        """Take a tick that was delivered, and the time of its record."""
        if stamp_ms >= 0:
            ahead_ms = to_millis(tick.at) - stamp_ms
            # What is on its way takes time: a small difference the other way is none.
            self._ahead_ms = max(0, ahead_ms)
            self._watch.note(ahead_ms, self._clock.now_ms())

    async def send_if_due(self, machine: StateMachine, now_s: float) -> float | None:
        """Send a tick when something is due; return how long to wait for an input, in seconds, None: no limit.

        `now_s` is of any clock that does not jump.
        """
        due_ms = machine.due_ms()
        if due_ms is None:
            return None
        clock_ms = self._clock.now_ms()
        left_ms = due_ms - (clock_ms - self._ahead_ms)
        if left_ms > 0:
            return left_ms / 1000
        away, same = self._sent_seq == machine.seq, self._due_ms == due_ms
        vain = (self._vain if away else min(self._vain + 1, VAIN_MAX)) if same else 0
        pause_s = TICK_RETRY_S if away else min(TICK_PAUSE_S_MAX, TICK_PAUSE_S * 2**vain)
        if now_s - self._sent_s < pause_s:
            return self._sent_s + pause_s - now_s
        self._sent_seq, self._sent_s, self._due_ms, self._vain = machine.seq, now_s, due_ms, vain
        # The number of the next step makes the id: a tick sent twice for the same moment is one tick.
        tick = Tick(control_id=f"tick-{self._partition}-{machine.seq}", at=from_millis(clock_ms), by="lane")
        try:
            await self._ticks.send(tick, clock_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the tick is sent again
            _log.warning("partition %d: a tick was not sent, trying again: %s", self._partition, error)
        return TICK_RETRY_S
