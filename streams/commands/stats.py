"""`slotwise stats`: what the fleet did since a time, by role, lane, tenant, layer, provider, model or tier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from streams.clock import SystemClock
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.options import Json, takes
from streams.errors import MISTAKE, SlotwiseError
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.views.stats import Stats, StatsLine

app = typer.Typer()

#: Lines of the table; all are in `--json`.
LINES_MAX = 40


class NoSuchKeyError(SlotwiseError):
    """The numbers are not kept by that; the message says by what."""

    exit_code = MISTAKE


@app.command("stats", epilog="Example: slotwise stats --by model --since 24h")
@takes(
    *("database", "database_connect_timeout_s", "database_statement_timeout_s", "journal", "topic_prefix"), join=True
)
def stats(
    settings: Settings,
    *,
    by: Annotated[str, typer.Option(help="role, lane, tenant, layer, provider, model or tier.")] = "model",
    since: Annotated[str, typer.Option(help="24h, 7d, 2026-11-21T15:00:00Z or 'today 09:00'; whole hours.")] = "24h",
    pool: Annotated[str | None, typer.Option(help="Only this pool. Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Show decisions, waits, fallbacks, failures, tokens, money and savings, from the audit in Postgres.

    docs/analytics.md says what each number means.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.operate.moments import ago  # noqa: PLC0415 - as all of the command's parts
    from streams.topics import name_in_audit  # noqa: PLC0415
    from streams.views import stats as view  # noqa: PLC0415

    if by not in view.BY:
        raise NoSuchKeyError(f"{by!r} is nothing that the numbers are kept by: use {', '.join(view.BY)}.")
    with busy("Asking the audit", quiet=as_json):
        found = view.stats(
            settings.database,
            name_in_audit(settings),
            by=(by,),
            since=ago(since, SystemClock().now_ms()),
            pool=pool,
            timeouts=Timeouts.of(settings),
        )
    if as_json:
        print_json(found)
    else:
        _print(found, by)


def _print(found: Stats, by: str) -> None:
    out.print(line(found.headline))
    if found.total is None:
        of = f" of pool {found.pool}" if found.pool is not None else ""
        out.print(
            line(
                f"Look further back with --since 7d. The audit has decisions{of} when worker and sink run and tasks "
                "were sent: `slotwise send task`, or `slotwise up --sample` to see some."
            )
        )
    else:
        out.print(_table(found, by))
        more = len(found.by[by]) - LINES_MAX
        if more > 0:
            out.print(f"and {more} more: --json has all of them.")
        out.print(line(f"Saved: ${found.total.saved_vs_premium_usd:,.2f} against always-premium, "
                       f"${found.total.saved_vs_next_free_usd:,.2f} against next-free."))  # fmt: skip
        for assumption in found.assumptions:
            out.print(line(f"  {assumption}"))
    if found.steps_behind:
        err.print(line(f"{found.steps_behind} steps of the audit are not in these numbers: run `slotwise db migrate`."))


def _table(found: Stats, by: str) -> Table:
    grid = Table(box=None)
    grid.add_column(by)
    for name in (
        *("decisions", "routed", "wait p50", "p95", "max", "fallback", "failed", "tokens in", "out"),
        *("spent", "$/1M", "vs premium", "vs next-free"),
    ):
        grid.add_column(name, justify="right")
    for one in (*found.by[by][:LINES_MAX], found.total):
        if one is not None:
            grid.add_row(*map(line, _row(one)))
    return grid


def _row(one: StatsLine) -> tuple[str, ...]:
    return (
        one.key[0] if one.key else "all",
        f"{one.decisions:,}",
        f"{one.routed:,}",
        *map(_seconds, (one.wait_p50_s, one.wait_p95_s, one.wait_max_s)),
        *map(_share, (one.fallback_share, one.failed_share)),
        *map(_count, (one.input_tokens, one.output_tokens)),
        f"${one.spent_usd:,.2f}",
        "" if one.usd_per_million_tokens is None else f"${one.usd_per_million_tokens:,.2f}",
        f"${one.saved_vs_premium_usd:,.2f}",
        f"${one.saved_vs_next_free_usd:,.2f}",
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} s"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _count(value: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return str(value)
