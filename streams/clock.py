"""The time of day: the port that is that code takes as an argument, and the clock of this machine behind it."""

from __future__ import annotations

import time
from typing import Final, Protocol

from schemas.vocabulary import Millis

#: Clocks that differ by more than this are reported to a person.
DIFFERENCE_MS_MAX: Final = 3_000


class Clock(Protocol):
    """A clock."""

    def now_ms(self) -> Millis:
        """Return milliseconds since the epoch."""


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> Millis:
        """Return milliseconds since the epoch."""
        return Millis(time.time_ns() // 1_000_000)
