"""The live board in the terminal: tasks, decisions a second, waits, tier mix, money, percentiles, the last decisions.

It draws the values that it is given, in as many columns and lines as there are: the legend and what to type next stay,
and of the last decisions as many are shown as fit. Without a terminal it prints the values in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.local.watch import Counts
from streams.sample.play import SampleProgress
from streams.text import printable
from streams.views.dead_letters import NewDeadLetters
from streams.views.journal_stats import JournalStats, Routed

TIER_STYLE: Final = {1: "green", 2: "yellow", 3: "magenta"}
TIER_NAME: Final = {1: "cheap", 2: "middle", 3: "premium"}
BAR_WIDTH: Final = 30
#: From this width on counters and slots stand side by side, one on a line.
WIDE: Final = 100
#: The panel's border: columns with the space beside it, and lines.
BORDER_COLUMNS: Final = 4
BORDER_LINES: Final = 2
#: More slots of one model are a number.
BLOCKS_MAX: Final = 12
LEGEND: Final = (
    "■ busy slot, □ free; EV: worth of a task; P50, P90: of the last hour's EVs; lifted: above P90, goes first"
)


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
        f"wait p50 {_seconds(stats.wait_ms(50))}, p95 {_seconds(stats.wait_ms(95))}; "
        f"saved ${stats.saved_vs_premium_uusd / 1e6:.2f} against always-premium"
        + (f". {printable(new.sentence())}" if new.count else "")
        + "".join(f". Counting stopped: {printable(str(error))}" for error in stats.stopped.values())
    )


class Board(Struct, frozen=True, kw_only=True):
    """The board; it fits itself to the terminal that it is drawn on."""

    stats: JournalStats
    counts: Counts | None
    progress: SampleProgress | None
    rate_per_s: float
    new: NewDeadLetters
    title: str
    notes: list[str]
    #: What a command needs to find this installation, beside its name.
    option: str = ""
    #: Where its pages are, and the key that opens them where one does.
    pages: str = ""
    key: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; what does not fit is left out, the least important first."""
        height = (options.height or options.max_height) - BORDER_LINES
        inner = options.update(width=options.max_width - BORDER_COLUMNS, height=None)

        def lines(*parts: RenderableType) -> int:
            return len(console.render_lines(Group(*parts), inner, pad=False))

        wide = options.max_width >= WIDE
        stopped = [_note(f"Counting stopped: {error}") for error in self.stats.stopped.values()]
        numbers, tiers = self._wide() if wide else self._narrow(), _tiers(self.stats, inner.max_width)
        bottom = [*stopped, Text(self.next(), style="bold"), _note(LEGEND)]
        notes = [_note(note) for note in self.notes]
        # 1. Notes give way to a line of decisions and its head.
        left = height - lines(numbers, tiers, *bottom)
        while notes and lines(*notes) > left - 2:
            notes.pop(0)
        left -= lines(*notes) if notes else 0
        # 2. As many of the last decisions as there is room for, the newest at the end.
        latest = list(self.stats.latest)
        while latest and lines(self._latest(latest, inner.max_width)) > left:
            latest.pop(0)
        shown = [self._latest(latest, inner.max_width)] if latest else []
        left -= lines(*shown) if shown else 0
        # 3. What room there is now separates them. A terminal too small for all shows what stands above.
        space = [Text()] if left > 1 else []
        body = [numbers, *space, tiers, *space, *shown, *bottom, *notes]
        high = options.height or min(lines(*body), height) + BORDER_LINES
        way = f"{self.key}: open {self.pages} in a browser" if self.key else f"pages: {self.pages}"
        yield Panel(Group(*body), title=self.title, subtitle=way if self.pages else None, height=high)

    def next(self) -> str:
        """Say what to type next, for who sees nothing yet, something, or the end."""
        stats, progress = self.stats, self.progress
        known = [one.task_id for one in stats.latest]
        if progress is not None and progress.all_sent and not stats.live_tasks and known:
            return f"The sample is done. In another terminal: slotwise explain {printable(known[-1])}{self.option}"
        if known:
            return f"Why did a task go there? In another terminal: slotwise explain TASK{self.option}"
        if progress is not None:
            return "The sample is about to send its first tasks."
        if not stats.slots:
            slot = '{"slot_id":"haiku-1","pool":"main","model":"haiku"}'
            return f"No slot yet. In another terminal: echo '{slot}' | slotwise send slot --now{self.option}"
        if not stats.live_tasks:
            task = '{"task_id":"t-1","pool":"main","title":"Fix typo"}'
            return f"No task yet. In another terminal: echo '{task}' | slotwise send task --now{self.option}"
        return f"What do they wait for? In another terminal: slotwise tasks --waiting{self.option}"

    def _wide(self) -> RenderableType:
        """Counters beside the slots, one on a line."""
        numbers, slots = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 1))
        for name, value in self._numbers():
            numbers.add_row(name, value)
        for model, blocks in _slots(self.stats):
            slots.add_row(model, blocks)
        for reason, count in self.stats.headlines.most_common(4):
            slots.add_row(Text(reason, style="dim"), Text(f"{count} waiting", style="dim"))
        side = Table.grid(expand=True, padding=(0, 2))
        side.add_column(ratio=1)
        side.add_column(ratio=1)
        side.add_row(numbers, slots)
        return side

    def _narrow(self) -> RenderableType:
        """The same as running text."""
        parts: list[Text] = []
        for name, value in self._numbers():
            parts.append(Text.assemble((f"{name} ", "dim"), value))
        waits = ", ".join(f"{count} {reason}" for reason, count in self.stats.headlines.most_common(2))
        if waits:
            parts.append(Text.assemble(("waiting for ", "dim"), waits))
        slots = [Text.assemble((f"{model} ", ""), blocks) for model, blocks in _slots(self.stats)]
        return Group(*filter(None, (_joined(parts, "  "), _joined(slots, "  "))))

    def _numbers(self) -> Iterable[tuple[str, Text]]:
        stats, status = self.stats, self.stats.status
        rows = self.counts.audit_decisions if self.counts else 0
        waits = (_seconds(stats.wait_ms(percent)) for percent in (50, 95, 100))
        if self.progress is not None:
            yield "sent", Text(f"{self.progress.sent} of {self.progress.tasks} tasks of the sample")
        yield "tasks", Text(f"{status['waiting']} waiting, {status['running']} running")
        yield "done", Text(f"{stats.work['success']} succeeded, {stats.work['failure']} failed attempts")
        yield "decisions", Text(f"{stats.decisions_total} in {stats.steps} steps, {self.rate_per_s:.0f}/s")
        yield "in Postgres", Text(f"{rows} rows, {max(0, stats.decisions_total - rows)} behind")
        yield "wait", Text("p50 {}, p95 {}, longest {}".format(*waits))
        yield "EV", Text(f"P50 {_number(stats.p50)}, P90 {_number(stats.p90)}")
        yield "cost", Text(f"${stats.estimated_uusd / 1e6:.2f} estimated")
        saved = (f"${stats.saved_vs_premium_uusd / 1e6:.2f}", "bold green")
        next_free = f"${stats.saved_vs_next_free_uusd / 1e6:.2f} against next-free"
        yield "saved", Text.assemble(saved, " against always-premium, ", next_free)
        if self.new.newest is not None:
            what = f"{self.new.count} new: {printable(self.new.newest.reason)}"
            yield "dead letters", Text(what, style="bold red", no_wrap=True, overflow="ellipsis")
        elif stats.dead_letters:
            yield "dead letters", Text(f"{stats.dead_letters}, none new", style="dim")

    def _latest(self, latest: Iterable[Routed], width: int) -> Table:
        """The last decisions; an id is never cut, because `slotwise explain` takes it."""
        wide = width + BORDER_COLUMNS >= WIDE
        table = Table(box=None, padding=(0, 1), expand=True, show_edge=False, header_style="dim")
        table.add_column("task", no_wrap=False, overflow="fold", max_width=width // 2)
        if wide:
            table.add_column("title", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("slot", no_wrap=True, overflow="ellipsis", max_width=width // 4)
        table.add_column("waited", justify="right", no_wrap=True)
        table.add_column("why", ratio=4, no_wrap=True, overflow="ellipsis")
        for routed in latest:
            title = [Text(printable(routed.title))] if wide else []
            table.add_row(
                Text(printable(routed.task_id)),
                *title,
                Text(printable(routed.slot_id), style=TIER_STYLE.get(routed.tier, "")),
                _seconds(routed.wait_ms),
                Text(printable(routed.reason), style="dim"),
            )
        return table


@contextmanager
def showing(screen: Console) -> Iterator[Callable[[Board], None]]:
    """Return what draws a board over the whole terminal; the last one stays in the terminal's own lines at the end."""
    last: list[Board] = []
    try:
        # The other screen of the terminal: every frame covers all of it, so that a resize leaves no rest of old ones.
        with Live(console=screen, auto_refresh=False, screen=True) as live:

            def show(board: Board) -> None:
                last[:] = [board]
                live.update(board, refresh=True)

            yield show
    finally:
        for board in last:
            screen.print(board)


def _slots(stats: JournalStats) -> Iterable[tuple[str, Text]]:
    for model, (busy, total) in stats.busy_by_model().items():
        if total > BLOCKS_MAX:
            yield model, Text(f"{busy} of {total}", style="cyan")
        else:
            yield model, Text("■" * busy, style="cyan") + Text("□" * (total - busy), style="dim")


def _tiers(stats: JournalStats, width: int) -> Text:
    total = stats.tiers.total()
    bar = Text("tiers  ")
    # Beside the bar there are the names: on a narrow terminal it is shorter.
    bar_width = max(5, min(BAR_WIDTH, width - 50))
    for tier in (1, 2, 3):
        count = stats.tiers[tier]
        share = count / total if total else 0.0
        bar.append("█" * round(share * bar_width), style=TIER_STYLE[tier])
        bar.append(f" {TIER_NAME[tier]} {share:.0%}  ", style=TIER_STYLE[tier])
    return bar


def _joined(parts: list[Text], gap: str) -> Text | None:
    """The parts in a row, which breaks where it must."""
    if not parts:
        return None
    row = Text(overflow="fold")
    for number, one in enumerate(parts):
        row.append(gap if number else "")
        row.append_text(one)
    return row


def _note(note: str) -> Text:
    return Text(note, style="dim")


def _seconds(wait_ms: int | None) -> str:
    return "-" if wait_ms is None else f"{wait_ms / 1000:.1f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
