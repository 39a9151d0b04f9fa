"""`slotwise lag`: how far every reader of the topics is behind, and when it has caught up; it changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.commands.console import err, line, out, print_json
from streams.commands.control import PANEL, SETTINGS
from streams.commands.options import Json, takes
from streams.errors import FAILED, UNREACHABLE
from streams.settings import Settings
from streams.views.lag import BASES, LagReport, Progress, beyond, drained_in

app = typer.Typer()

#: `--partitions` says here what is shown; how many there are is a variable, as everywhere.
_SETTINGS: Final = tuple(name for name in SETTINGS if name != "partitions")
_DATABASE: Final = ("database", "database_connect_timeout_s", "database_statement_timeout_s", "journal")


@app.command("lag", epilog="Example: slotwise lag --partitions --max-seconds 60", rich_help_panel=PANEL)
@takes(*_SETTINGS, *_DATABASE, join=True)
def lag(
    settings: Settings,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="Also each partition.")] = False,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Exit code 1 when a reader is further behind, in seconds or by age.")
    ] = None,
    max_records: Annotated[
        int | None, typer.Option(min=0, help="Exit code 1 when a reader is further behind, in records.")
    ] = None,
    interval_s: Annotated[
        float, typer.Option("--interval-s", min=0.2, max=3600.0, help="Time that the rates are measured over.")
    ] = 2.0,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, or until a threshold is passed.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far workers, publisher, tables and sinks are behind, in records and seconds, and when they catch up.

    Seconds behind is the time of the newest record less that of the first one that is not read; the age of that one is
    by the clock of this machine. A position is that of the truth: the journal for the workers' inputs, Postgres for the
    sink, committed offsets for the others. Exit code 1: a threshold is passed; 3: a part does not answer.
    With --watch and --json each look is one line.
    """
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along

    check_topics(settings)
    passed: list[str] = []
    unknown = False
    with _display(partitions=partitions, watch=watch, as_json=as_json) as show:

        def look(found: LagReport) -> bool:
            nonlocal passed, unknown
            show(found)
            passed = list(beyond(found, records_max=max_records, seconds_max=max_seconds))
            unknown = bool(found.unknown)
            return watch and not passed

        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_follow(settings, interval_s, look))
    for sentence in passed:
        err.print(line(sentence))
    if passed:
        raise typer.Exit(FAILED)
    if unknown:
        raise typer.Exit(UNREACHABLE)


async def _follow(settings: Settings, interval_s: float, look: Callable[[LagReport], bool]) -> None:
    """Hand each report to `look`, until it has seen enough."""
    from streams.operate.lag import lag_reports  # noqa: PLC0415 - brings the clients of both servers along

    async with aclosing(lag_reports(settings, interval_s)) as reports:
        async for found in reports:
            if not look(found):
                return


@contextlib.contextmanager
def _display(*, partitions: bool, watch: bool, as_json: bool) -> Iterator[Callable[[LagReport], None]]:
    """Return what shows a report: a table, in place when watched on a terminal, or JSON."""
    if as_json:
        yield (lambda found: typer.echo(msgspec.json.encode(found))) if watch else print_json
    elif watch and out.is_terminal:
        # A console of its own, which breaks what is too wide instead of letting the terminal do so.
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda found: live.update(Group(_table(found, partitions=partitions), *_lines(found)), refresh=True)
    else:

        def show(found: LagReport) -> None:
            out.print(_table(found, partitions=partitions))
            for one in _lines(found):
                out.print(one)

        yield show


def _lines(found: LagReport) -> list[Text]:
    over = f" Rates are over {found.interval_s:.1f} s." if found.interval_s is not None else ""
    return [line(f"{found.says}{over}")]


def _table(found: LagReport, *, partitions: bool) -> Table:
    grid = Table(box=None)
    for name in ("reader", "topic"):
        grid.add_column(name, no_wrap=True)
    for name in ("behind", "seconds", "age", "in/s", "out/s", "drained in"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("by", no_wrap=True)
    for one in found.readers:
        who = one.group if one.reader in ("lines", "shadow") else one.reader
        grid.add_row(*map(line, (who, one.topic, *_numbers(one), BASES[one.basis])))
        for part in one.partitions if partitions else ():
            at = f"  partition {part.partition} at {part.position} of {part.end}"
            grid.add_row("", line(at), *map(line, _numbers(part)), "")
    for lost in found.unknown:
        grid.add_row(*map(line, (lost.reader, lost.topic, *["?"] * 6, BASES[lost.basis])))
    return grid


def _numbers(one: Progress) -> tuple[str, ...]:
    expired = f" (+{one.expired} expired)" if one.expired else ""
    return (
        f"{one.records}{expired}",
        f"{one.seconds:.1f}",
        f"{one.age_s:.1f}",
        "?" if one.in_per_s is None else f"{one.in_per_s:.1f}",
        "?" if one.out_per_s is None else f"{one.out_per_s:.1f}",
        drained_in(one),
    )
