"""How far this process's clock is ahead of the broker's, for a person and as a metric."""

from __future__ import annotations

import logging

from schemas.vocabulary import Millis, from_millis
from streams import metrics
from streams.clock import DIFFERENCE_MS_MAX

_log = logging.getLogger(__name__)


class ClockWatch:
    """The difference of two clocks. All partitions of a process report to one."""

    def __init__(self) -> None:
        self._reported = False

    def note(self, ahead_ms: int, clock_ms: Millis) -> None:
        """Take the difference, negative where our clock is behind; a large one is logged once, until it has gone."""
        metrics.CLOCK_AHEAD.set(ahead_ms / 1000)
        large = abs(ahead_ms) > DIFFERENCE_MS_MAX
        if large and not self._reported:
            _log.warning(
                "this machine's clock (%s) is %.1f s %s the broker's, by which things fall due: set both by NTP",
                from_millis(clock_ms), abs(ahead_ms) / 1000, "ahead of" if ahead_ms > 0 else "behind",
            )  # fmt: skip
        self._reported = large
