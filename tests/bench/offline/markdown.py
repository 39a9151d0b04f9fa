"""The tables of docs/offline.md, as this command writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from streams.estimate.interval import Interval
from tests.bench.offline.fleets import BASELINES, FleetRow, Spread
from tests.bench.offline.pairs import CALLS, PairRow, PairTable

BEGIN: Final = "<!-- offline: `python -m tests.bench.offline --markdown FILE` writes from here -->"
END: Final = "<!-- end of offline -->"
NONE: Final = "-"
#: How a ratio to a baseline is called: (name in `RunStats`, title).
RATIOS: Final = (
    ("ev_per_h", "EV/h"),
    ("ev_quality_per_h", "EV x quality/h"),
    ("ev_wait_s", "EV-weighted wait"),
    ("wait_s_p99", "wait p99"),
    ("wait_s_max", "longest wait"),
    ("usd_per_task", "$ a task"),
)


class NoPlace(Exception):
    """The file has no place for the tables."""


def write(file: Path, text: str) -> None:
    """Put the tables between the two marks of a file.

    Raises:
        NoPlace: a mark is missing.
    """
    before, begin, rest = file.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoPlace(f"{file} has no place for the tables: put the lines {BEGIN} and {END} into it.")
    file.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")


def pair_tables(tables: Iterable[PairTable]) -> str:
    """All sets of marked answers."""
    return "\n".join(_pair_table(one) for one in tables)


def fleet_tables(groups: Sequence[Sequence[FleetRow]]) -> str:
    """Ours against the others at a glance, then every trace and load in full."""
    return "\n".join([_against(groups), *(_fleet_table(rows) for rows in groups)])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(['---'] + ['---:'] * (len(head) - 1))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _pair_table(table: PairTable) -> str:
    head = ["rule", "strong calls", "quality", "$ per 1,000", "quality per $", "PGR", "above random"]
    head += [f"PGR at {calls:.0%}" for calls in CALLS]
    head.append("APGR")
    title = f"**{table.data}**: {table.items:,} items, weak {table.weak}, strong {table.strong}"
    return "\n".join([title, "", *_table(head, (_pair_row(row) for row in table.rows))])


def _pair_row(row: PairRow) -> list[str]:
    own = row.served
    return [
        f"{row.rule} *" if row.by_share else row.rule,
        f"{own.calls:.1%}",
        f"{own.quality:.4f}",
        f"{own.usd_per_1000:.4f}",
        f"{1000 * own.quality / own.usd_per_1000:,.0f}" if own.usd_per_1000 else NONE,
        _number(own.pgr),
        _interval(row.above_random) if 0 < own.calls < 1 else NONE,
        *(_number(value) for value in row.pgr_at or [None] * len(CALLS)),
        _interval(row.apgr),
    ]


def _against(groups: Sequence[Sequence[FleetRow]]) -> str:
    head = ["trace, load", "slotwise against", *(title for _, title in RATIOS)]
    rows = [
        [
            f"{row.trace}, {row.load:g}",
            row.rule,
            *(_ratio(row.ratios.get(name)) for name, _ in RATIOS),
        ]
        for group in groups
        for row in sorted(group, key=lambda one: BASELINES.index(one.rule) if one.rule in BASELINES else 0)
        if row.rule in BASELINES
    ]
    return "\n".join(_table(head, rows))


def _fleet_table(rows: Sequence[FleetRow]) -> str:
    head = ["rule", "wait p50, min", "p95", "p99", "longest", "EV-weighted wait, min", "EV/h", "EV x quality/h"]
    head += ["$ a task", "tiers 1/2/3, %", "premium time on low EV (avoidable)"]
    first = rows[0]
    title = f"**{first.trace}, load {first.load:g}**: {first.tasks:,} tasks in all runs"
    return "\n".join([title, "", *_table(head, (_fleet_row(row) for row in rows))])


def _fleet_row(row: FleetRow) -> list[str]:
    value = row.values
    minutes = [
        _spread(value[name], 1 / 60, 1)
        for name in ("wait_s_p50", "wait_s_p95", "wait_s_p99", "wait_s_max", "ev_wait_s")
    ]
    tiers = "/".join(f"{100 * value[f'tier_{tier}'].mean:.0f}" for tier in (1, 2, 3))
    low = f"{value['premium_low_ev'].mean:.0%} ({value['premium_wasted'].mean:.1%})"
    return [
        row.rule,
        *minutes,
        _spread(value["ev_per_h"], 1, 0),
        _spread(value["ev_quality_per_h"], 1, 0),
        _spread(value["usd_per_task"], 1, 3),
        tiers,
        low,
    ]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _interval(value: Interval | None) -> str:
    return NONE if value is None else f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _spread(value: Spread, times: float, digits: int) -> str:
    mean, low, high = (f"{times * number:,.{digits}f}" for number in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _ratio(value: Spread | None) -> str:
    return NONE if value is None else f"x{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"
