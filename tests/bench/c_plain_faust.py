"""(c) Events a second, outputs published, against the plain Faust app that a user would write first.

Ours does all that it does: requirements, prices, the premium floor, reasons, journal, tables, outputs. The plain app is
measured by its own count of events handled, which is not yet durable then; ours by when the journal and outputs are.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.bench.race import Run, journaling, race, wait_for
from tests.bench.report import Finding, of_pair
from tests.bench.stage import BenchError, Side, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.bench import Bench
    from tests.bench.stage import Stage
    from tests.bench.workload import Load

#: The plain app is slow, and needs no more to show it.
EVENTS_SHARE = 0.5
HANDLED_S_MAX = 300.0


def measure(bench: Bench) -> list[Finding]:
    """Race the two."""
    load = bench.load(EVENTS_SHARE)
    ours = journaling("worker, with outputs", "worker", pages=True, outputs=True)
    pair = race(bench.stage, load, ours, Plain(None), bench.options.repeat, bench.tell)
    if file := bench.profile_file("c_plain_faust"):
        Plain(file)(bench.stage, load)
        bench.tell(f"profile of the plain app: {file}")
    return [of_pair("c", "Events to outputs, against a plain Faust app with tables", pair)]


class Plain:
    """How the plain app is run and measured."""

    def __init__(self, profile_file: Path | None) -> None:
        self._profile_file = profile_file

    def __call__(self, stage: Stage, load: Load) -> Run:
        """Run it once."""
        settings = stage.settings("plain")
        progress = stage.directory / f"{settings.group}.progress"
        arguments = [str(progress)] + ([str(self._profile_file)] if self._profile_file else [])
        side = Side(settings, stage.directory, "plain_faust", *arguments)
        # Its pages are Faust's own: no request comes, but they need a port.
        side.settings = replace(settings, web_port=side.port)
        asyncio.run(write(settings, load.first))
        side.start()
        try:
            first = len(load.first)
            self._wait(side, progress, first)
            side.hold()
            asyncio.run(write(settings, load.measured))
            cpu_s = side.cpu_s()
            if self._profile_file:
                side.profile()
            side.go_on()
            resumed_s = time.time()
            self._wait(side, progress, first + len(load.measured))
            cpu_s = side.cpu_s() - cpu_s
        finally:
            side.go_on()
            side.stop()
        times = [(handled, at_s) for handled, at_s in _progress(progress) if at_s > resumed_s]
        (begun, begun_s), (ended, ended_s) = times[0], times[-1]
        return Run(
            side="plain Faust",
            events=ended - first,
            seconds=round(ended_s - begun_s, 3),
            events_per_s=round((ended - begun) / (ended_s - begun_s), 1),
            cpu_us_per_event=round(cpu_s / (ended - first) * 1e6, 1),
        )

    @staticmethod
    def _wait(side: Side, progress: Path, handled: int) -> None:
        # The count is reported every few hundred events; what is missing at the end does not matter.
        if not wait_for(lambda: any(at > handled - 250 for at, _ in _progress(progress)), side, HANDLED_S_MAX):
            raise BenchError(f"The plain Faust app did not handle {handled} events in {HANDLED_S_MAX:.0f} s.")


def _progress(file: Path) -> list[tuple[int, float]]:
    if not file.exists():
        return []
    lines = [line.split() for line in file.read_text().splitlines()]
    return [(int(line[0]), float(line[1])) for line in lines if len(line) == 2 and "." in line[1]]
