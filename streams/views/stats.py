"""What the fleet did since a time, from the hourly sums of the audit: by role, lane, tenant, layer, provider, ...

It reads what `docs/analytics.md` describes, views and their functions only: a login with slotwise_read is enough.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec
from msgspec import Struct
from psycopg.rows import dict_row

from streams.database.connection import Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.views.explain import plain_value
from streams.views.units import span

if TYPE_CHECKING:
    from collections.abc import Sequence

By = Literal["role", "lane", "tenant", "layer", "provider", "model", "tier"]
BY: Final[tuple[By, ...]] = get_args(By)
#: Model and layer; role, complexity and model.
MATRIX: Final = "model, layer"
USE: Final = "role, complexity, model"

#: What the savings take for granted.
ASSUMPTIONS: Final = (
    "Savings compare estimates: the same tokens at the list prices of the decision's hour, without failures and waits.",
    "Nothing is counted for quality, for quotas and subscriptions, or where a price is not known.",
    "Always-premium: the catalogue's first premium model had done every task.",
    "Next-free: the slot that had been free longest, of a model that could do the work, had taken it.",
)


class StatsLine(Struct, frozen=True, kw_only=True):
    """The numbers of one key; money in US dollars, shares from 0 to 1, None where there is nothing to divide by."""

    key: tuple[str, ...]
    decisions: int
    routed: int
    waiting: int
    ended: int
    fallbacks: int
    fallback_share: float | None
    router_errors: int
    router_error_share: float | None
    wait_p50_s: float | None
    wait_p95_s: float | None
    wait_max_s: float | None
    finished: int
    failed: int
    failed_share: float | None
    input_tokens: int
    output_tokens: int
    estimated_usd: float
    spent_usd: float
    usd_per_task: float | None
    #: Blended: cost of the work whose tokens are known, by input and output tokens alike.
    usd_per_million_tokens: float | None
    saved_vs_premium_usd: float
    saved_vs_next_free_usd: float
    quality_n: int
    quality_mean: float | None
    #: Its 95 % confidence interval, by Student's t; None with less than two reports.
    quality_low: float | None
    quality_high: float | None


class QualityLine(Struct, frozen=True, kw_only=True):
    """Reported quality of one model with one complexity."""

    model: str
    complexity: str
    n: int
    mean: float | None
    low: float | None
    high: float | None
    finished: int
    failed: int


class TierHour(Struct, frozen=True, kw_only=True):
    """What one tier did of the tasks of one hour."""

    hour: str
    tier: str
    routed: int
    share: float | None
    spent_usd: float


class EvStep(Struct, frozen=True, kw_only=True):
    """Tasks that one model did with an EV at or above `ev_from` and below the next step; None: below all."""

    ev_from: float | None
    model: str
    routed: int


class Stats(Struct, frozen=True, kw_only=True):
    """Everything since the hour of a time."""

    journal: str
    pool: str | None
    since: str
    headline: str
    assumptions: tuple[str, ...]
    #: None: nothing was decided.
    total: StatsLine | None
    by: dict[str, tuple[StatsLine, ...]]
    #: Steps of the journal that are in the audit and not in the sums; 0 but after an upgrade.
    steps_behind: int = 0


class Analytics(Struct, frozen=True, kw_only=True):
    """The numbers, with the reported quality."""

    stats: Stats
    quality: tuple[QualityLine, ...]


class Routed(Struct, frozen=True, kw_only=True):
    """The numbers, with the tier mix by the hour and the histogram of EVs."""

    stats: Stats
    tiers: tuple[TierHour, ...]
    evs: tuple[EvStep, ...]


class MatrixCell(Struct, frozen=True, kw_only=True):
    """What one model did of one layer."""

    model: str
    layer: str
    routed: int
    #: Of the tasks of the layer.
    share: float
    usd_per_task: float | None
    spent_usd: float


class Matrix(Struct, frozen=True, kw_only=True):
    """Models by layers."""

    journal: str
    pool: str | None
    since: str
    models: tuple[str, ...]
    layers: tuple[str, ...]
    cells: tuple[MatrixCell, ...]


def stats(
    dsn: Dsn | str, journal: str, *, by: Sequence[str], since: datetime, pool: str | None, timeouts: Timeouts
) -> Stats:
    """Return the numbers of a journal since the hour of a time, by each of `by`.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with connect(dsn, timeouts, application="slotwise stats") as connection, reading_audit():
        return _stats(_Reader(connection, journal, since, pool), by)


def analytics(
    dsn: Dsn | str, journal: str, *, by: Sequence[str], since: datetime, pool: str | None, timeouts: Timeouts
) -> Analytics:
    """Return the numbers of `stats`, and quality.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with connect(dsn, timeouts, application="slotwise web") as connection, reading_audit():
        reader = _Reader(connection, journal, since, pool)
        return Analytics(
            stats=_stats(reader, by),
            quality=tuple(msgspec.convert(reader.rows("stats_quality"), list[QualityLine])),
        )


def routed(
    dsn: Dsn | str, journal: str, *, by: Sequence[str], since: datetime, pool: str | None, timeouts: Timeouts
) -> Routed:
    """Return the numbers of `stats`, the tier mix by the hour and the histogram of EVs.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with connect(dsn, timeouts, application="slotwise web") as connection, reading_audit():
        reader = _Reader(connection, journal, since, pool)
        return Routed(
            stats=_stats(reader, by),
            tiers=tuple(msgspec.convert(reader.rows("stats_tiers"), list[TierHour])),
            evs=tuple(msgspec.convert(reader.rows("stats_evs"), list[EvStep])),
        )


def matrix(found: Stats) -> Matrix:
    """Return the matrix of models by layers of numbers that were asked for by `MATRIX`; busiest models first."""
    lines = found.by[MATRIX]
    of_model: dict[str, int] = {}
    of_layer: dict[str, int] = {}
    for line in lines:
        model, layer = line.key
        of_model[model] = of_model.get(model, 0) + line.routed
        of_layer[layer] = of_layer.get(layer, 0) + line.routed
    return Matrix(
        journal=found.journal,
        pool=found.pool,
        since=found.since,
        models=tuple(sorted(of_model, key=lambda model: (-of_model[model], model))),
        layers=tuple(sorted(of_layer)),
        cells=tuple(
            MatrixCell(
                model=line.key[0],
                layer=line.key[1],
                routed=line.routed,
                share=round(line.routed / of_layer[line.key[1]], 4) if of_layer[line.key[1]] else 0.0,
                usd_per_task=line.usd_per_task,
                spent_usd=line.spent_usd,
            )
            for line in lines
        ),
    )


class _Reader:
    """Asks about one journal, time and pool."""

    def __init__(self, connection: Any, journal: str, since: datetime, pool: str | None) -> None:
        self.journal, self.pool = journal, pool
        self.since = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        self._cursor = connection.cursor(row_factory=dict_row)

    def rows(self, query: str, **named: Any) -> list[dict[str, Any]]:
        """Return the rows of a query as plain values."""
        known = {"journal": self.journal, "since": self.since, "pool": self.pool, **named}
        self._cursor.execute(QUERIES[query], known)
        return [{name: plain_value(value) for name, value in row.items()} for row in self._cursor]


def _stats(reader: _Reader, by: Sequence[str]) -> Stats:
    lines: dict[str, list[StatsLine]] = {one: [] for one in ("all", *by)}
    for row in reader.rows("stats", by=list(lines)):
        lines[row.pop("by")].append(msgspec.convert(row, StatsLine))
    (behind,) = reader.rows("stats_progress")
    total = next(iter(lines.pop("all")), None)
    since = plain_value(reader.since)
    return Stats(
        journal=reader.journal,
        pool=reader.pool,
        since=since,
        headline=headline(total, since),
        assumptions=ASSUMPTIONS,
        total=total,
        by={name: tuple(found) for name, found in lines.items()},
        steps_behind=behind["steps_behind"],
    )


def headline(total: StatsLine | None, since: str) -> str:
    """Say the numbers that matter most, in one sentence or two."""
    if total is None:
        return f"Nothing was decided since {since}."
    waits = "" if total.wait_p95_s is None else f", of which 95 % within {span(total.wait_p95_s)}"
    shares = [
        f"{share:.1%} {what}"
        for share, what in (
            (total.fallback_share, "by a second choice"),
            (total.router_error_share, "by static fallback"),
        )
        if share
    ]
    failed = f", {total.failed_share:.1%} of them failed" if total.failed_share else ""
    saved = total.saved_vs_premium_usd
    return (
        f"{total.routed:,} tasks routed since {since}{waits}{''.join(f', {one}' for one in shares)}; "
        f"{total.finished:,} attempts finished{failed}. "
        f"${total.spent_usd:,.2f} spent; by estimate ${abs(saved):,.2f} {'less' if saved >= 0 else 'more'} "
        "than always-premium."
    )
