"""Our side: the worker as it is; `--silent` leaves out what follows the journal to the output topics.

`--without-tables` leaves out the Faust tables as well, to tell what they cost.

Run: python -m tests.bench.sides.worker [--silent] [--without-tables] [--profile FILE], settings in the environment.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import streams.app
from streams import worker
from streams.settings import load
from streams.tables import Tables
from tests.bench.profile import write_profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.decision import Step
    from streams.partition.ports import JournalPosition, Raw


class Silent:
    """A follower that does nothing."""

    def __init__(self, *_: Any) -> None:
        """Take what the publisher takes."""

    async def start(self, base: JournalPosition, end: JournalPosition) -> None:
        """Begin."""

    def offer(self, offset: int, step: Step) -> bool:  # noqa: ARG002 - of the interface
        """Take a step."""
        return True

    async def room(self) -> None:
        """There is always room."""

    async def failed(self) -> None:
        """It never fails."""

    async def stop(self) -> None:
        """End."""


async def nothing(_self: Tables, _partition: int, _records: Sequence[Raw]) -> None:
    """Project nothing."""


def main() -> int:
    """Run the worker until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--without-tables", action="store_true")
    parser.add_argument("--profile")
    options = parser.parse_args()
    if options.silent:
        vars(streams.app)["Publisher"] = Silent
    if options.without_tables:
        setattr(Tables, "project", nothing)  # noqa: B010 - mypy rightly minds the other way
    profile = cProfile.Profile()
    signal.signal(signal.SIGPROF, lambda *_: profile.enable())
    code = worker.run(load(os.environ))
    profile.disable()
    if options.profile:
        write_profile(profile, options.profile)
    return code


if __name__ == "__main__":
    sys.exit(main())
