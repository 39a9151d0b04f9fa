"""`slotwise replay --policy` as text: both courses side by side, what changed, and how sure that is."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from streams.commands.console import line
from streams.operate.what_if_words import changed, headline, rows, sentences
from streams.replay.what_if import WhatIf

#: Changed tasks in the table; all are in `--json`.
CHANGES_MAX = 20


def render(found: WhatIf) -> RenderableType:
    """Return the whole answer."""
    parts: list[RenderableType] = [line(headline(found)), sides(found)]
    if found.changes:
        parts += [line(changed(found)), _changes(found)]
        if found.changed > CHANGES_MAX:
            parts.append(line(f"and {found.changed - CHANGES_MAX:,} more: --json and --html have all of them."))
    parts += map(line, sentences(found))
    return Group(*parts)


def sides(found: WhatIf) -> Table:
    """Return the comparison as a table."""
    grid = Table(box=None)
    grid.add_column("")
    for name in ("recorded", "replayed", "difference"):
        grid.add_column(name, justify="right")
    for row in rows(found):
        grid.add_row(*map(line, row))
    return grid


def _changes(found: WhatIf) -> Table:
    grid = Table(box=None)
    for name in ("task", "recorded", "replayed", "rule"):
        grid.add_column(name)
    for name in ("EV", "dollars", "wait"):
        grid.add_column(name, justify="right")
    for one in found.changes[:CHANGES_MAX]:
        grid.add_row(
            *map(
                line,
                (
                    one.task_id,
                    one.recorded_model or "-",
                    one.replayed_model or "-",
                    one.rule + (" (directly)" if one.is_direct else ""),
                    "" if one.ev is None else f"{one.ev:,.1f}",
                    "" if one.usd_more is None else f"{one.usd_more:+.4f}",
                    "" if one.wait_s_more is None else f"{one.wait_s_more:+,.1f} s",
                ),
            )
        )
    return grid
