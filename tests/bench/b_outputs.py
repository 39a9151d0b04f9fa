"""(b) Events a second from the input topics to the last record of `task.routed` and `task.await_slot`, on both sides.

As (a), with the outputs published: a record for each decision, made by the same function on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.race import journaling, race
from tests.bench.report import Finding, of_pair

if TYPE_CHECKING:
    from tests.bench.bench import Bench


def measure(bench: Bench) -> list[Finding]:
    """Race the two."""
    ours = journaling("worker, with outputs", "worker", pages=True, outputs=True)
    theirs = journaling("bare aiokafka, with outputs", "bare", "--publish", outputs=True)
    pair = race(bench.stage, bench.load(), ours, theirs, bench.options.repeat, bench.tell)
    bench.events_per_s = pair.events_per_s
    if file := bench.profile_file("b_worker"):
        journaling("worker, profiled", "worker", "--profile", str(file), pages=True, outputs=True, profile=True)(
            bench.stage, bench.load()
        )
        bench.tell(f"profile of the worker: {file}")
    return [of_pair("b", "Events to outputs, against a bare aiokafka loop", pair)]
