"""Where the arrivals of a simulation come from, and its runs: a recording as it stands, or many like it."""

from __future__ import annotations

from random import Random

from msgspec import Struct

from streams.simulate.trace import WINDOWS_A_RUN, Call, DemandWindow, drawn, resampled


class Recording(Struct, frozen=True, kw_only=True):
    """Calls with their times, or demand from which calls are drawn."""

    name: str
    calls: tuple[Call, ...] = ()
    #: Without calls: demand, and (input, output) tokens of a call to draw from.
    windows: tuple[DemandWindow, ...] = ()
    lengths: tuple[tuple[int, int], ...] = ()
    #: Calls are requests, and an agent's task is many of them: the mean task lasts so many seconds on the average slot
    #: of the fleet. None: a call is a task.
    task_s: float | None = None
    #: What a reader must know of how it was read.
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> frozenset[str]:
        """The titles of its tasks; empty where they have none."""
        return frozenset(call.task.title for call in self.calls if call.task is not None and call.task.title)

    @property
    def has_texts(self) -> bool:
        """Whether each call brings a task with a title."""
        return bool(self.calls) and all(call.task is not None and call.task.title for call in self.calls)

    def run(self, seed: int, count: int) -> list[Call]:
        """Return so many calls of the run of a seed: pieces of the recording by lot, or a day of demand."""
        chance = Random(f"{self.name} {seed}")  # noqa: S311 -- a simulation, no secret
        if self.calls:
            return resampled(self.calls, count, chance)
        days = max(1, len({window.start_s for window in self.windows}) // WINDOWS_A_RUN)
        return drawn(self.windows, self.lengths, lambda _: chance)(seed % days, days)[:count]

    def as_recorded(self, count: int) -> list[Call]:
        """Return its first calls as they stand; of demand the run of seed 0."""
        return list(self.calls[:count]) or self.run(0, count)
