"""Two sides, the same events, the same broker, one after the other: how many a second each takes.

A side is started, given the fleet and a backlog, and held still (SIGSTOP) while the events to measure are written. So
its start is not measured, and writing the events costs it nothing. The clock runs from the first journal record that
holds a measured event to the last one, by the records' own timestamps; events of the first record do not count.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from tests.bench.journaled import Journaled, ends_of
from tests.bench.stage import PARTITIONS, Side, Stage, now_ms, write
from tests.bench.workload import Load, duration_ms, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schemas.decision import Accepted
    from streams.settings import Settings

#: Slots of a pool, of which each partition has one. As many as a step has inputs at most: see `workload.load`.
SLOTS: Final = 1000


class Run(Struct, frozen=True, kw_only=True):
    """One side, once."""

    side: str
    events: int
    seconds: float
    events_per_s: float
    #: Of the side's own process, all that it did in that time.
    cpu_us_per_event: float
    #: Of the broker, likewise.
    broker_us_per_event: float = 0.0
    steps: int = 0
    bytes_per_event: float = 0.0
    decisions: int = 0
    routed: int = 0
    #: Slots that came free and held nothing: the two sides should not differ in it.
    stale: int = 0


class Runner(Protocol):
    """How one side is started and measured."""

    def __call__(self, stage: Stage, load: Load) -> Run:
        """Run it once on fresh topics."""


class Pair(Struct, frozen=True, kw_only=True):
    """Both sides, a number of times."""

    ours: tuple[Run, ...]
    theirs: tuple[Run, ...]

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, of each pair."""
        return [a.events_per_s / b.events_per_s for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def events_per_s(self) -> float:
        """The median of ours."""
        return median(run.events_per_s for run in self.ours)

    @property
    def ratio(self) -> float:
        """The median of them."""
        return median(self.ratios)


def make_load(events: int) -> Load:
    """So many events to measure, that end now."""
    start_ms = now_ms() - duration_ms(events, partitions=PARTITIONS, slots=SLOTS)
    return load(events, partitions=PARTITIONS, slots=SLOTS, start_ms=start_ms)


def race(stage: Stage, load: Load, ours: Runner, theirs: Runner, repeat: int, tell: Callable[[str], None]) -> Pair:
    """Run both sides in turn, the one that begins changing, on a broker that is new for each pair."""
    runs: tuple[list[Run], list[Run]] = ([], [])
    for number in range(repeat):
        stage.clear()
        sides = [(ours, runs[0]), (theirs, runs[1])]
        for runner, done in sides if number % 2 == 0 else reversed(sides):
            run = runner(stage, load)
            done.append(run)
            tell(f"{run.side}: {run.events_per_s:,.0f} events/s, {run.cpu_us_per_event:.0f} us of its processor each")
    return Pair(ours=tuple(runs[0]), theirs=tuple(runs[1]))


def journaling(
    name: str, program: str, *arguments: str, pages: bool = False, outputs: bool = False, profile: bool = False
) -> Runner:
    """A side that writes a journal: a program of `sides/`, whose outputs are part of the work or not."""

    def run(stage: Stage, load: Load) -> Run:
        settings = stage.settings(program)
        side = Side(settings, stage.directory, program, *arguments, pages=pages)
        return asyncio.run(_journaled(name, stage, side, settings, load, outputs=outputs, profile=profile))

    return run


async def _journaled(
    name: str, stage: Stage, side: Side, settings: Settings, load: Load, *, outputs: bool, profile: bool
) -> Run:
    await write(settings, load.first)
    first = ends_of(load.first)
    side.start()
    try:
        async with Journaled(settings) as journal:
            await journal.until(side, first)
            side.hold()
            await write(settings, load.measured)
            cpu_s, broker_s = side.cpu_s(), stage.cpu_s()
            if profile:
                side.profile()
            side.go_on()
            await journal.until(side, ends_of((*load.first, *load.measured)))
            cpu_s, broker_s = side.cpu_s() - cpu_s, stage.cpu_s() - broker_s
            lines = [
                line
                for line in journal.lines
                if any(_is_measured(one, line.partition, first) for one in line.step.inputs)
            ]
            begun_ms = min(line.at_ms for line in lines)
            ended_ms = max(line.at_ms for line in lines)
            if outputs:
                ended_ms = max(ended_ms, await journal.last_output_ms())
    finally:
        side.go_on()
        side.stop()
    counted = [
        (line.at_ms, sum(_is_measured(one, line.partition, first) for one in line.step.inputs)) for line in lines
    ]
    inputs = sum(count for _, count in counted)
    events = sum(count for at_ms, count in counted if at_ms > begun_ms)
    seconds = (ended_ms - begun_ms) / 1000
    decisions = [one.outcome for line in lines for one in line.step.decisions]
    return Run(
        side=name,
        events=inputs,
        seconds=round(seconds, 3),
        events_per_s=round(events / seconds, 1),
        cpu_us_per_event=round(cpu_s / inputs * 1e6, 1),
        broker_us_per_event=round(broker_s / inputs * 1e6, 1),
        steps=len(lines),
        bytes_per_event=round(sum(line.size for line in lines) / inputs, 1),
        decisions=len(decisions),
        routed=decisions.count("routed"),
        stale=sum(line.step.counts.get("stale_free", 0) for line in lines),
    )


def _is_measured(one: Accepted, partition: int, first: Mapping[tuple[int, int], int]) -> bool:
    """Whether this is one of the events to measure; ticks are none."""
    return (one.topic, partition) in first and one.offset >= first[one.topic, partition]


def wait_for(done: Callable[[], bool], side: Side, seconds_max: float, poll_s: float = 0.1) -> bool:
    """Wait for something that a side does; False: it did not do it in time."""
    deadline_s = time.monotonic() + seconds_max
    while time.monotonic() < deadline_s:
        side.require_alive()
        if done():
            return True
        time.sleep(poll_s)
    return False
