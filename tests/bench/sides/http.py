"""Our side: the HTTP API as it is, `slotwise web`, with its own health page.

Run: python -m tests.bench.sides.http [--profile FILE], settings in the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import signal

from streams.settings import Settings, load
from streams.web.run import run, tokens_of
from tests.bench.profile import write_profile


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run(settings, tokens_of(settings), stop, lambda _address: None)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile")
    options = parser.parse_args()
    profile = cProfile.Profile()
    signal.signal(signal.SIGPROF, lambda *_: profile.enable())
    asyncio.run(_main(load(os.environ)))
    profile.disable()
    if options.profile:
        write_profile(profile, options.profile)


if __name__ == "__main__":
    main()
