"""A worker that waits for a time sends few ticks, whatever its clock says; all clocks are moved by hand."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from schemas.vocabulary import Millis
from streams import metrics
from streams.partition.clock_watch import ClockWatch
from streams.partition.memory import ManualClock
from streams.partition.ticking import TICK_PAUSE_S_MAX, Ticking
from tests.support.builders import START_MS

if TYPE_CHECKING:
    from schemas.events import Tick

HOUR_MS = 3_600_000


class Partition:
    """A broker that stamps ticks by its own clock, and a state machine that waits for a time."""

    def __init__(self, ahead_ms: int, due_in_ms: int = 0, watch: ClockWatch | None = None) -> None:
        self.clock = ManualClock(START_MS + ahead_ms)
        self.broker_ms = START_MS
        self.due: int | None = START_MS + due_in_ms
        self.stuck = False
        self.seq = 0
        self.now_s = 0.0
        #: Broker's time of each tick.
        self.ticks: list[int] = []
        self.ticking = Ticking(0, self, self.clock, watch or ClockWatch())

    def due_ms(self) -> Millis | None:
        """When something falls due."""
        return None if self.due is None else Millis(self.due)

    async def send(self, tick: Tick, now_ms: Millis) -> None:
        """Stamp the tick and give it back at once: a step that does what is due."""
        del now_ms
        self.ticks.append(self.broker_ms)
        self.ticking.came(tick, self.broker_ms)
        self.seq += 1
        if self.due is not None and self.broker_ms >= self.due and not self.stuck:
            self.due = None

    async def run(self, seconds: float) -> None:
        """Let time pass, in steps as the worker waits for them."""
        end_s = self.now_s + seconds
        machine: Any = self
        while self.now_s < end_s:
            wait_s = await self.ticking.send_if_due(machine, self.now_s)
            step_s = min(0.1 if wait_s is None else max(wait_s, 0.001), end_s - self.now_s, 0.1)
            self.now_s += step_s
            self.clock.advance(round(step_s * 1000))
            self.broker_ms += round(step_s * 1000)


async def test_a_worker_an_hour_ahead_ticks_when_it_is_time_by_the_broker() -> None:
    """One tick shows the difference; the next one is sent when the broker's time has come, and does the work."""
    one = Partition(HOUR_MS, due_in_ms=60_000)
    await one.run(120)
    assert len(one.ticks) == 2
    assert one.due is None
    assert one.ticks[-1] - START_MS in range(60_000, 60_200)


async def test_a_worker_that_is_behind_ticks_when_its_own_time_has_come() -> None:
    """Nothing is due before."""
    one = Partition(-10_000)
    await one.run(30)
    assert one.ticks == [START_MS + 10_000]
    assert one.due is None


async def test_ticks_that_change_nothing_get_rare() -> None:
    """Whatever the reason is: ten minutes of an idle worker are no more than a handful of steps."""
    one = Partition(0)
    one.stuck = True
    await one.run(600)
    assert len(one.ticks) < 20
    assert max(b - a for a, b in zip(one.ticks, one.ticks[1:], strict=False)) / 1000 <= TICK_PAUSE_S_MAX + 0.2


async def test_things_that_fall_due_one_after_the_other_are_done_on_time() -> None:
    """The pause grows for the same thing only."""
    one = Partition(0, due_in_ms=500)
    for _ in range(20):
        await one.run(1)
        assert one.due is None
        one.due = one.broker_ms + 500
    assert len(one.ticks) == 20


async def test_a_difference_of_clocks_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """By all partitions of a process together; again when it had gone and comes back; a moment is none."""
    watch = ClockWatch()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await Partition(HOUR_MS, watch=watch).run(1)
        assert [one.getMessage().split(" is ")[1] for one in caplog.records] == [
            "3600.0 s ahead of the broker's, by which things fall due: set both by NTP"
        ]
        assert metrics.REGISTRY.get_sample_value("router_clock_ahead_seconds") == 3600.0
        await Partition(900, watch=watch).run(1)
        assert len(caplog.records) == 1
        await Partition(HOUR_MS, watch=watch).run(1)
    assert len(caplog.records) == 2
