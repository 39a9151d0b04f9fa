"""What `slotwise audit` shows on a terminal: a line a partition with a journal, each problem, what was not checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.text import printable

if TYPE_CHECKING:
    from streams.audit.problem import Problem
    from streams.audit.report import Report


def render(report: Report) -> RenderableType:
    """Lay out a report."""
    table = Table(
        "partition", "journal", "steps", "fenced", "skipped", "inputs", "decisions", "live tasks", "rederived", box=None
    )
    for one in report.partitions:
        if one.first_seq is None:
            continue
        rederived = "" if one.derived is None else str(one.derived)
        numbers = (
            one.steps,
            one.fenced,
            one.skipped,
            sum(one.inputs.values()),
            sum(one.decisions.values()),
            one.live_tasks,
        )
        table.add_row(str(one.partition), printable(one.journal_id or "-"), *map(str, numbers), rederived)
    parts: list[RenderableType] = [table, Text()]
    parts += [Text(_line(one), style="red") for one in report.problems]
    if report.problems_total > len(report.problems):
        parts.append(Text(f"... and {report.problems_total - len(report.problems)} more.", style="red"))
    parts += [Text(printable(note), style="dim") for note in report.notes]
    if report.sound:
        parts.append(Text(f"Nothing is wrong with the journal {printable(report.journal)}.", style="green"))
    else:
        parts.append(
            Text(f"{report.problems_total} problems in the journal {printable(report.journal)}.", style="bold")
        )
    return Group(*parts)


def _line(problem: Problem) -> str:
    where = "" if problem.partition is None else f" partition {problem.partition}"
    where += "" if problem.seq is None else f" step {problem.seq}"
    return f"{problem.promise}:{where}{':' if where else ''} {printable(problem.says)}"
