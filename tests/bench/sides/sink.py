"""Our side of (d): the audit sink as it is, stopped when all steps are in the database; prints how long it took.

Run: python -m tests.bench.sides.sink STEPS ROWS [PROFILE_FILE], settings in the environment.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import sys
import time
from typing import Final

import msgspec
from msgspec import Struct

from streams.settings import Settings, load
from streams.sinks.postgres import PostgresSink
from tests.bench.profile import write_profile

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


async def _main(settings: Settings, steps: int, rows: int) -> Sunk:
    sink = PostgresSink(settings)
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
    profile = cProfile.Profile()
    if len(sys.argv) > 3:
        profile.enable()
    sunk = asyncio.run(_main(load(os.environ), int(sys.argv[1]), int(sys.argv[2])))
    profile.disable()
    if len(sys.argv) > 3:
        write_profile(profile, sys.argv[3])
    sys.stdout.write(msgspec.json.encode(sunk).decode())


if __name__ == "__main__":
    main()
