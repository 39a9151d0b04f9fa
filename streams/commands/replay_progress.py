"""Progress of verifying on a terminal: how much of the journals is read, and decisions a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.commands.console import err
from streams.replay.recorded_files import UNKNOWN_END

if TYPE_CHECKING:
    from streams.commands.replay_processes import Done
    from streams.operate.verifying import Extent


@contextmanager
def verifying(extents: Sequence[Extent], *, quiet: bool) -> Iterator[Callable[[Done], None]]:
    """Show a bar for all partitions, while inside; give what is called with how far one of them is."""
    known = [one for one in extents if one.end < UNKNOWN_END]
    firsts = {one.partition: one.first for one in extents}
    done: dict[int, Done] = {}
    columns = (TextColumn("Verifying"), BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"),
               TimeRemainingColumn())  # fmt: skip
    shown = Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
    total = sum(one.end - one.first for one in known) if len(known) == len(extents) else None
    task = shown.add_task("", total=total)
    begun_s = time.monotonic()

    def report(one: Done) -> None:
        done[one.partition] = one
        decisions = sum(each.decisions for each in done.values())
        rate = decisions / max(time.monotonic() - begun_s, 1e-3)
        shown.update(
            task,
            completed=sum(each.offset - firsts[number] for number, each in done.items()),
            description=f"{decisions:,} decisions, {rate:,.0f}/s",
        )

    with shown:
        yield report
