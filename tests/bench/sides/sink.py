"""Our side of (d): the audit sink as it is, stopped when all steps are in the database; prints how long it took.

With `--journal` it reads the records from memory: what is left is the sink without the broker.

Run: python -m tests.bench.sides.sink STEPS ROWS [--journal FILE] [--profile FILE], settings in the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import sys
import time
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from streams.clock import SystemClock
from streams.database.connection import connect_async
from streams.settings import Settings, load
from streams.sinks.follow import JournalFollower
from streams.sinks.lag import SinkStatus
from streams.sinks.postgres import PostgresSink, PostgresStore
from tests.bench.profile import write_profile
from tests.support.memory_sink import HandClock, MemoryRecords

POLL_S: Final = 0.005
SECONDS_MAX: Final = 300.0


class Sunk(Struct, frozen=True, kw_only=True):
    """What was reached."""

    rows: int
    #: From the first commit to the last.
    seconds: float
    rows_per_s: float
    #: Of this process, from start to end.
    cpu_us_per_row: float


class Sink(Protocol):
    """What is measured: the sink, or the part of it that knows no broker."""

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until a signal stops it."""

    def status(self) -> SinkStatus:
        """Say how far it is."""


def _in_memory(settings: Settings, journal: Path) -> Sink:
    records = MemoryRecords(HandClock())
    partitions = msgspec.msgpack.decode(journal.read_bytes(), type=tuple[tuple[bytes, ...], ...])
    records.logs = {partition: [] for partition in range(len(partitions))}
    records.first = dict.fromkeys(records.logs, 0)
    records.assigned = frozenset(records.logs)
    for partition, values in enumerate(partitions):
        records.append(*values, partition=partition)
    store = PostgresStore(
        lambda: connect_async(settings.database),
        journal="bench",
        name="the database",
        transaction_s_max=settings.database_statement_timeout_s,
    )
    return JournalFollower(records, store, SystemClock(), lambda: 1.0, rows_max=settings.sink_rows_max)


async def _main(settings: Settings, steps: int, rows: int, journal: str) -> Sunk:
    sink: Sink = _in_memory(settings, Path(journal)) if journal else PostgresSink(settings)
    stop = asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    seen: list[tuple[float, int]] = []
    deadline_s = time.monotonic() + SECONDS_MAX
    cpu_s = time.process_time()
    while time.monotonic() < deadline_s and not running.done():
        written = sink.status().steps
        if written and (not seen or written > seen[-1][1]):
            seen.append((time.monotonic(), written))
        if written >= steps:
            break
        await asyncio.sleep(POLL_S)
    stop.set()
    await running
    (begun_s, begun), (ended_s, ended) = seen[0], seen[-1]
    if ended < steps:
        raise SystemExit(f"The sink wrote {ended} of {steps} steps in {SECONDS_MAX:.0f} s.")
    share = (ended - begun) / steps
    return Sunk(
        rows=rows,
        seconds=round(ended_s - begun_s, 3),
        rows_per_s=round(share * rows / (ended_s - begun_s), 1),
        cpu_us_per_row=round((time.process_time() - cpu_s) / rows * 1e6, 1),
    )


def main() -> None:
    """Run until all is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int)
    parser.add_argument("rows", type=int)
    parser.add_argument("--journal", default="")
    parser.add_argument("--profile", default="")
    given = parser.parse_args()
    profile = cProfile.Profile()
    if given.profile:
        profile.enable()
    sunk = asyncio.run(_main(load(os.environ), given.steps, given.rows, given.journal))
    profile.disable()
    if given.profile:
        write_profile(profile, given.profile)
    sys.stdout.write(msgspec.json.encode(sunk).decode())


if __name__ == "__main__":
    main()
