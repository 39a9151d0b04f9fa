"""The result of `slotwise replay --verify` for people: a line a partition, and the first difference with both sides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table

from streams.commands.console import line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.replay.difference import Difference
    from streams.replay.partition_run import Verified
    from streams.replay.report import VerifyReport

#: More of a value is cut; `--json` has all of it.
SHOWN_CHARS_MAX: Final = 400


def render(report: VerifyReport) -> RenderableType:
    """Show what was verified; what differs comes last, next to the prompt."""
    return Group(_table(report), *map(line, _sentences(report)))


def _table(report: VerifyReport) -> Table:
    table = Table("partition", "steps", "same", "decisions", "not derived", "rules", "journal", box=None)
    for one in report.partitions:
        steps = "-" if one.first_seq is None or one.next_seq is None else f"{one.first_seq}-{one.next_seq - 1}"
        rules = ", ".join(f"{rule.policy[:8]} from {rule.seq}" for rule in one.rules)
        not_derived = one.followed + one.without_inputs
        row = (str(one.partition), steps, f"{one.steps:,}", f"{one.decisions:,}", f"{not_derived:,}", rules or "-")
        table.add_row(*map(line, (*row, one.journal_id or "-")))
    return table


def _sentences(report: VerifyReport) -> Iterator[str]:
    for one in report.partitions:
        if one.without_inputs:
            yield (
                f"Partition {one.partition}: {one.without_inputs:,} steps could not be derived, because retention has "
                "taken their inputs; they were followed as they are in the journal."
            )
        if one.stopped:
            yield (
                f"Partition {one.partition}: stopped before step {one.next_seq or 0}; with --resume "
                "the next run goes on there."
            )
    for one in report.partitions:
        if one.problem is not None:
            yield f"Partition {one.partition}: {one.problem}"
        if one.difference is not None:
            yield from _difference(report, one, one.difference)
    if report.stored is not None:
        stored = report.stored
        yield from stored.says
        shown = f" ({len(stored.says)} shown)" if stored.differing > len(stored.says) else ""
        yield (
            f"Compared with Postgres: {stored.compared:,} steps, and {stored.differing:,} are not the same{shown}; "
            f"{stored.absent:,} have no rows there, because the sink is behind or their days were dropped."
        )
    what = f"{report.steps:,} steps with {report.decisions:,} decisions"
    if earlier := sum(one.earlier_decisions for one in report.partitions):
        what += f" ({earlier:,} of them by earlier runs)"
    yield (
        f"{'The same, byte by byte' if report.same else 'Not the same'}: {what} derived again in "
        f"{report.seconds:,.1f} s ({report.decisions_per_s:,} decisions/s) by slotwise {report.slotwise}, policy "
        f"{report.policy}, catalogue {report.catalog}."
    )


def _difference(report: VerifyReport, one: Verified, found: Difference) -> Iterator[str]:
    inputs = ", ".join(
        f"{topic}@{first}" + (f"..{last}" if last > first else "") for topic, first, last in found.inputs
    )
    place = f"offset {found.offset} of the journal; inputs {inputs}"
    yield f"Partition {one.partition} differs first in step {found.seq} ({place})"
    if found.task_id is not None:
        yield f"  task       {found.task_id} of pool {found.pool}"
    yield f"  at         {found.path or 'the whole step'}"
    yield f"  journaled  {_shown(found.journaled)}"
    yield f"  derived    {_shown(found.derived)}"
    if found.is_of_rules:
        yield (
            f"  Policy {found.policy} (catalogue {found.catalog}) decided this step, and here are {report.policy} "
            f"({report.catalog}): name the files that decided with --policy and --catalog."
        )
    else:
        yield (
            f"  By its hashes, policy {found.policy} (catalogue {found.catalog}) decided this step. The journal does "
            f"not say which slotwise wrote it: if it was another than {report.slotwise}, whose rules differ, derive "
            "it with that one, or begin behind it with --from."
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}... ({len(text)} characters)"
