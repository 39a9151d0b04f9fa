"""The live board in the terminal: tasks, decisions a second, waits, tier mix, money, percentiles, the last decisions.

It draws the values that it is given. Without a terminal it prints them in one line.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.local.watch import Counts
from streams.sample.play import SampleProgress
from streams.text import printable
from streams.views.dead_letters import NewDeadLetters
from streams.views.journal_stats import JournalStats

TIER_STYLE = {1: "green", 2: "yellow", 3: "magenta"}
TIER_NAME = {1: "cheap", 2: "middle", 3: "premium"}
BAR_WIDTH = 30


def line(
    stats: JournalStats, counts: Counts | None, progress: SampleProgress | None, rate_per_s: float, new: NewDeadLetters
) -> str:
    """Return the present state in one line, for logs and pipes."""
    status = stats.status
    sent = f"{progress.sent}/{progress.tasks} sent, " if progress else ""
    behind = stats.decisions_total - counts.audit_decisions if counts else stats.decisions_total
    return (
        f"tasks: {sent}{status['waiting']} waiting, {status['running']} running, {stats.work['success']} done; "
        f"decisions: {stats.decisions_total} ({rate_per_s:.0f}/s), audit {max(0, behind)} behind; "
        f"wait p50 {_seconds(stats.wait_ms(0.5))}, p95 {_seconds(stats.wait_ms(0.95))}; "
        f"saved ${stats.saved_vs_premium_uusd / 1e6:.2f} against always-premium"
        + (f". {printable(new.sentence())}" if new.count else "")
        + "".join(f". Counting stopped: {printable(str(error))}" for error in stats.stopped.values())
    )


def board(
    stats: JournalStats,
    counts: Counts | None,
    progress: SampleProgress | None,
    *,
    rate_per_s: float,
    new: NewDeadLetters,
    title: str,
    notes: list[str],
) -> RenderableType:
    """Return the board for a terminal."""
    top = Table.grid(expand=True, padding=(0, 2))
    top.add_column(ratio=1)
    top.add_column(ratio=1)
    top.add_row(_numbers(stats, counts, progress, rate_per_s, new), _slots(stats))
    stopped = [f"Counting stopped: {error}" for error in stats.stopped.values()]
    return Panel(Group(top, Text(), _tiers(stats), Text(), _latest(stats), *map(_note, stopped + notes)), title=title)


def _numbers(
    stats: JournalStats, counts: Counts | None, progress: SampleProgress | None, rate_per_s: float, new: NewDeadLetters
) -> Table:
    grid = Table.grid(padding=(0, 2))
    status = stats.status
    if progress is not None:
        grid.add_row("sent", f"{progress.sent} of {progress.tasks} tasks of the sample")
    grid.add_row("tasks", f"{status['waiting']} waiting, {status['running']} running")
    grid.add_row("done", f"{stats.work['success']} succeeded, {stats.work['failure']} failed attempts")
    grid.add_row("decisions", f"{stats.decisions_total} in {stats.steps} steps, {rate_per_s:.0f}/s")
    behind = max(0, stats.decisions_total - counts.audit_decisions) if counts else stats.decisions_total
    grid.add_row("in Postgres", f"{counts.audit_decisions if counts else 0} rows, {behind} behind")
    waits = (_seconds(stats.wait_ms(share)) for share in (0.5, 0.95, 1.0))
    grid.add_row("wait", "p50 {}, p95 {}, longest {}".format(*waits))
    grid.add_row("EV", f"P50 {_number(stats.p50)}, P90 {_number(stats.p90)}")
    grid.add_row("cost", f"${stats.estimated_uusd / 1e6:.2f} estimated")
    grid.add_row(
        "saved",
        Text.assemble(
            (f"${stats.saved_vs_premium_uusd / 1e6:.2f}", "bold green"),
            " against always-premium, ",
            f"${stats.saved_vs_next_free_uusd / 1e6:.2f} against next-free",
        ),
    )
    if new.newest is not None:
        what = f"{new.count} new: {printable(new.newest.reason)}"
        grid.add_row("dead letters", Text(what, style="bold red", no_wrap=True, overflow="ellipsis"))
    elif stats.dead_letters:
        grid.add_row("dead letters", Text(f"{stats.dead_letters}, none new", style="dim"))
    return grid


def _slots(stats: JournalStats) -> Table:
    grid = Table.grid(padding=(0, 1))
    for model, (busy, total) in stats.busy_by_model().items():
        grid.add_row(model, Text("■" * busy, style="cyan") + Text("□" * (total - busy), style="dim"))
    for reason, count in stats.headlines.most_common(4):
        grid.add_row(Text(reason, style="dim"), Text(f"{count} waiting", style="dim"))
    return grid


def _tiers(stats: JournalStats) -> RenderableType:
    total = stats.tiers.total()
    bar = Text("tiers  ")
    for tier in (1, 2, 3):
        count = stats.tiers[tier]
        share = count / total if total else 0.0
        bar.append("█" * round(share * BAR_WIDTH), style=TIER_STYLE[tier])
        bar.append(f" {TIER_NAME[tier]} {share:.0%}  ", style=TIER_STYLE[tier])
    return bar


def _latest(stats: JournalStats) -> Table:
    table = Table(box=None, padding=(0, 1), expand=True, show_edge=False, header_style="dim")
    table.add_column("task", ratio=4, no_wrap=True, overflow="ellipsis")
    table.add_column("slot", ratio=2, no_wrap=True)
    table.add_column("waited", ratio=1, justify="right", no_wrap=True)
    table.add_column("why", ratio=5, no_wrap=True, overflow="ellipsis")
    for routed in list(stats.latest):
        table.add_row(
            Text(printable(routed.title or routed.task_id)),
            Text(routed.slot_id, style=TIER_STYLE.get(routed.tier, "")),
            _seconds(routed.wait_ms),
            Text(printable(routed.reason), style="dim"),
        )
    return table


def _note(note: str) -> Text:
    return Text(note, style="dim")


def _seconds(wait_ms: int | None) -> str:
    return "-" if wait_ms is None else f"{wait_ms / 1000:.1f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
