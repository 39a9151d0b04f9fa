"""The clock of this machine, passed to code that takes its clock as an argument."""

from __future__ import annotations

import time


class SystemClock:
    """The time of day of this machine."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
