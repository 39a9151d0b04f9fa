"""The command behind `make bench`: measure side by side, print a table, keep the numbers as JSON.

Ends with 0 when it could measure, even where a goal is not met; with 1 under `--check` where one is not; with 2 when a
measurement failed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from streams.local.process import EmbeddedError
from tests.bench import a_journal, b_outputs, c_plain_faust, d_sink, e_router, f_latency, g_http, h_replay, i_pages
from tests.bench.bench import Bench, Options
from tests.bench.report import Finding, read_budget, short, table, write_json
from tests.bench.stage import BenchError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURES: Final[dict[str, Callable[[Bench], list[Finding]]]] = {
    "a": a_journal.measure,
    "b": b_outputs.measure,
    "c": c_plain_faust.measure,
    "d": d_sink.measure,
    "e": e_router.measure,
    "f": f_latency.measure,
    "g": g_http.measure,
    "h": h_replay.measure,
    "i": i_pages.measure,
}
DIRECTORY: Final = Path(".slotwise/bench")
QUICK_EVENTS: Final = 8_000

#: Of the table in a file or a build's log.
WIDTH: Final = 130

EXIT_OK: Final = 0
EXIT_SHORT: Final = 1
EXIT_FAILED: Final = 2


def read_options(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure slotwise against its budget.")
    parser.add_argument("--only", default="", metavar="a,b", help=f"measure these of {', '.join(MEASURES)} only")
    parser.add_argument("--json", default="", metavar="FILE", help=f"where to keep the numbers (default: {DIRECTORY}/)")
    parser.add_argument(
        "--events", type=int, default=80_000, metavar="N", help="events of (a), (b) and (d); (c) takes half, (h) more"
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="pairs of runs; the median ratio counts")
    parser.add_argument("--broker", choices=["tansu", "kafka"], default="tansu", help="kafka needs Java")
    parser.add_argument("--quick", action="store_true", help="small and once: to see that it works, not how fast")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal is not met")
    parser.add_argument("--profile", action="store_true", help="keep cProfile tables beside the numbers")
    given = parser.parse_args(arguments)
    only = tuple(filter(None, given.only.split(",")))
    if unknown := set(only) - MEASURES.keys():
        parser.error(f"--only: no measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    return Options(
        only=only or tuple(MEASURES),
        json=given.json,
        events=min(given.events, QUICK_EVENTS) if given.quick else given.events,
        repeat=1 if given.quick else given.repeat,
        broker=given.broker,
        quick=given.quick,
        check=given.check,
        profile=given.profile,
    )


def main() -> int:
    """Measure what was asked for."""
    options = read_options()
    # Topics that are a moment old have no leader yet; the clients find out and try again.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    budget = read_budget()
    findings: list[Finding] = []
    failed = False
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, Stage(options.broker) as stage:
        bar = progress.add_task("", total=len(options.only))
        bench = Bench(options, stage, lambda text: progress.console.print(f"  {text}", highlight=False), DIRECTORY)
        for name in options.only:
            measure = MEASURES[name]
            title = (sys.modules[measure.__module__].__doc__ or "").splitlines()[0]
            progress.update(bar, description=f"measuring ({name})")
            progress.console.print(title, style="bold", highlight=False)
            try:
                findings += measure(bench)
            except (BenchError, EmbeddedError) as error:
                failed = True
                progress.console.print(f"({name}) could not be measured: {error}", style="red", markup=False)
            progress.advance(bar)
    console.print(table(findings, budget))
    file = Path(options.json or DIRECTORY / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json")
    write_json(file, findings, budget, msgspec.to_builtins(options))
    console.print(f"The numbers are in {file}.", highlight=False)
    if failed:
        return EXIT_FAILED
    missed = short(findings, budget)
    if options.check and missed:
        console.print(f"Short of the goal: {', '.join(missed)}.", style="red")
        return EXIT_SHORT
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
