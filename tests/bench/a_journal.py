"""(a) Events a second from the input topics to an acknowledged journal, against a bare aiokafka loop.

Both read the same events with the same codec, decide with the same router and append the same steps; neither tells
the outputs. Ours also guards, fences, recovers, keeps its tables and serves its pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.race import journaling, race
from tests.bench.report import Finding, of_pair, of_run

if TYPE_CHECKING:
    from tests.bench.bench import Bench


def measure(bench: Bench) -> list[Finding]:
    """Race the two; then ours once more without its tables, to tell what those cost."""
    load = bench.load()
    ours = journaling("worker, silent", "worker", "--silent", pages=True)
    pair = race(bench.stage, load, ours, journaling("bare aiokafka", "bare"), bench.options.repeat, bench.tell)
    bench.stage.clear()
    lean = journaling("worker, silent, no tables", "worker", "--silent", "--without-tables", pages=True)
    run = lean(bench.stage, load)
    bench.tell_run(run)
    if file := bench.profile_file("a_worker"):
        profiled = journaling(
            "worker, profiled", "worker", "--silent", "--profile", str(file), pages=True, profile=True
        )
        profiled(bench.stage, load)
        bench.tell(f"profile of the worker: {file}")
    return [
        of_pair("a", "Events to journal, against a bare aiokafka loop", pair),
        of_run("a.without_tables", "The same without our tables (no goal)", run),
    ]
