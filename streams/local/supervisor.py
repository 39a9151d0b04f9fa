"""Keeps the parts of one machine running, with their starts, deaths and restarts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from streams.backoff import Backoff
from streams.local.process import Part

#: The first restart of a part is immediate; after that it waits.
BACKOFF: Final = Backoff(first_s=0.5, longest_s=10.0)
#: A part that has run for so long is healthy again: its next death counts as the first.
STEADY_S: Final = 60.0


class Supervisor:
    """Starts, restarts and stops parts by name."""

    def __init__(self, report: Callable[[str], None], clock_s: Callable[[], float] = time.monotonic) -> None:
        """`report` receives a sentence for each part that is started or stopped; `clock_s` gives seconds."""
        self.parts: dict[str, Part] = {}
        #: Restarts by part; those of parts that were removed stay counted.
        self.restarts: Counter[str] = Counter()
        self._report = report
        self._clock_s = clock_s
        self._started_s: dict[str, float] = {}
        #: Deaths in a row.
        self._deaths: Counter[str] = Counter()
        self._restart_at_s: dict[str, float] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the parts that run."""
        return {name: part.pid for name, part in self.parts.items() if part.pid is not None}

    def start(self, **parts: Part) -> None:
        """Start new parts by name, side by side, and wait until each answers.

        Raises:
            EmbeddedError: one does not start.
        """
        for name, part in parts.items():
            self._report(f"Starting {part.name.removeprefix('The ')}.")
            self.parts[name] = part
            part.launch()
        for name, part in parts.items():
            part.wait_until_it_answers()
            self._started_s[name] = self._clock_s()

    def died(self) -> list[str]:
        """Return the parts that have ended by themselves and may be restarted now."""
        now_s = self._clock_s()
        found = []
        for name, part in self.parts.items():
            if part.alive():
                if now_s - self._started_s[name] > STEADY_S:
                    self._deaths.pop(name, None)
            elif self._restart_at_s.get(name, 0.0) <= now_s:
                found.append(name)
        return found

    def restart(self, name: str) -> None:
        """Start a part again.

        Raises:
            EmbeddedError: it does not start; `died` names it again once its back-off has passed.
        """
        part = self.parts[name]
        self._restart_at_s[name] = self._clock_s() + BACKOFF.pause_s(self._deaths[name])
        self._deaths[name] += 1
        self.restarts[name] += 1
        part.start()
        self._started_s[name] = self._clock_s()

    def stop(self, name: str) -> None:
        """Stop a part in good order, if it runs, and forget it."""
        part = self.parts.pop(name, None)
        if part is not None and part.alive():
            self._report(f"Stopping {part.name.removeprefix('The ')}.")
            part.stop()

    def kill(self, name: str) -> None:
        """End a part by force, if there is one of this name, and forget it."""
        part = self.parts.pop(name, None)
        if part is not None:
            part.kill()
