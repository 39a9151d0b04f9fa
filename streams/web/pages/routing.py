"""`/ui/routing` and `/ui/analytics`: which models did the work, what it cost and saved, by the sums of the audit."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from msgspec import Struct
from msgspec.structs import asdict

from schemas.vocabulary import from_millis
from streams.database.connection import Timeouts
from streams.topics import name_in_audit
from streams.views import stats as view
from streams.views.decisions import NONE, OF_ROUTED
from streams.views.lane_state import LaneLine
from streams.views.lanes import lanes
from streams.views.units import many, share, usd
from streams.web.guard import PREFIX
from streams.web.pages.histograms import Between, ColumnOf, columns
from streams.web.pages.page import Id, Page, PageOf, Skip, seen_by
from streams.web.pages.tables import Column, Row, Table
from streams.web.pages.templating import cut
from streams.web.routes.stats import HOURS_MAX

router = APIRouter(prefix=PREFIX)

#: Layers with a column of their own, and rows of a table on the page, which has less than 100 KB; files have all.
LAYERS_MAX: Final = 10
ROWS_MAX: Final = 15
OTHERS_MAX: Final = 10
LANES_MAX: Final = 20
#: Shades of the matrix.
_SHADES: Final = 9
_SEND: Final = 'echo \'{"task_id":"t-1","pool":"main","title":"Fix typo","layer":"docs"}\' | slotwise send task --now'
_TIERS: Final = {"1": "cheap", "2": "middle", "3": "premium"}

Hours = Annotated[int, Query(ge=1, le=HOURS_MAX)]
Numbers = TypeVar("Numbers", view.Analytics, view.Routed)


class Span(Struct, frozen=True):
    """What the numbers of a page are of."""

    #: The sums begin with a whole hour.
    since: str
    pool: str | None = None

    def decisions(self, **of: str | None) -> str:
        """Return where exactly the decisions behind a number are."""
        given = {"pool": self.pool, **of, "mode": "live", "since": self.since.removesuffix(":00:00.000Z")}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        return f"{PREFIX}/decisions?{query}"

    def routed(self, **of: str | None) -> str:
        """Return where those of them are that were routed."""
        return self.decisions(**of, outcome="routed")

    def static(self, **of: str | None) -> str:
        """Return where those of them are that the static fallback routed."""
        return self.routed(**of, reason="router_error")


@router.get("/routing", **seen_by("reader", "operator"))
async def routing(page: PageOf, hours: Hours = 24, pool: Id = None) -> Response:
    """Models by layers, tiers by the hour, savings, and EVs by model."""
    found = await _asked(page, view.routed, (view.MATRIX,), hours, pool)
    at = Span(found.stats.since, pool)
    matrix = view.matrix(found.stats)
    tier_of = {
        model.id: str(model.tier)
        for one in page.web.following.partitions.values()
        for model in one.router.rulebook.models.values()
    }
    return page.show(
        "routing.html",
        title="Routing",
        live=False,
        tables=(_matrix(matrix, at), _grid(matrix), _tiers(found, at), _evs(found, at), _classes(found, at)),
        found=found.stats,
        saved=savings(found.stats),
        matrix=matrix,
        layers={layer: _of(layer) for layer in _busiest(matrix)},
        cells={(one.model, one.layer): (one, round(one.share * _SHADES)) for one in matrix.cells},
        tier_columns=_tier_columns(found),
        ev_columns=_ev_columns(found, tier_of, _percentiles(page, pool)),
        tier_names=_TIERS,
        hours=hours,
        pool=pool,
        at=at,
    )


@router.get("/analytics", **seen_by("reader", "operator"))
async def analytics(
    page: PageOf, by: view.By = "model", hours: Hours = 24, pool: Id = None, skip: Skip = 0
) -> Response:
    """The numbers by one thing, quality with its confidence, models by role, and the state of each lane."""
    (found, lane_lines) = await asyncio.gather(_asked(page, view.analytics, (by, view.USE), hours, pool), _lanes(page))
    at = Span(found.stats.since, pool)
    return page.show(
        "analytics.html",
        title="Analytics",
        live=False,
        tables=(
            _stats(found.stats, by, at, skip),
            _quality(found, at),
            _use(found.stats, at),
            _lane_table(lane_lines, Span(from_millis(page.now_ms - 3_600_000))),
        ),
        found=found.stats,
        saved=savings(found.stats),
        by=by,
        every=view.BY,
        hours=hours,
        pool=pool,
    )


async def _asked(page: Page, ask: Callable[..., Numbers], by: tuple[str, ...], hours: int, pool: str | None) -> Numbers:
    """Return what the audit answers; `ask` is a function of `views.stats`."""
    settings = page.web.settings
    asked = partial(
        ask,
        settings.database,
        name_in_audit(settings),
        by=by,
        since=datetime.fromtimestamp(page.now_ms / 1000, UTC) - timedelta(hours=hours),
        pool=pool,
        timeouts=Timeouts.of(settings),
    )
    return await page.web.answers.of((ask, by, hours, pool), asked)


async def _lanes(page: Page) -> tuple[LaneLine, ...]:
    settings = page.web.settings
    ask = partial(lanes, settings.database, name_in_audit(settings), Timeouts.of(settings))
    return await page.web.answers.of("lanes", ask)


def _busiest(matrix: view.Matrix) -> list[str]:
    """Return the layers that get a column, by name."""
    routed: Counter[str] = Counter()
    for one in matrix.cells:
        routed[one.layer] += one.routed
    return sorted(layer for layer, _ in routed.most_common(LAYERS_MAX))


def _percentiles(page: Page, pool: str | None) -> dict[str, float]:
    """Return the present P50 and P90 of a pool, or of the only one."""
    pools = [
        found
        for one in page.web.following.partitions.values()
        for name, found in one.router.state.pools.items()
        if pool in (None, name) and not found.is_empty()
    ]
    if len(pools) != 1:
        return {}
    known = pools[0].percentiles
    found = {} if known is None else {"P50": known.p50, "P90": known.p90}
    return {name: value for name, value in found.items() if value is not None}


def _tier_columns(found: view.Routed) -> Any:
    by_hour: dict[str, dict[str, float]] = {}
    for one in found.tiers:
        by_hour.setdefault(one.hour, {})[f"tier-{one.tier}"] = one.routed
    drawn = [
        ColumnOf(
            hour[11:16],
            parts,
            f"{hour}: " + ", ".join(f"{name.removeprefix('tier-')}: {count:,}" for name, count in parts.items()),
        )
        for hour, parts in by_hour.items()
    ]
    return columns(drawn, label="Share of each tier, hour by hour", whole=True) if drawn else None


def _ev_columns(found: view.Routed, tier_of: dict[str, str], percentiles: dict[str, float]) -> Any:
    by_step: dict[float | None, Counter[str]] = {}
    for one in found.evs:
        by_step.setdefault(one.ev_from, Counter())[f"tier-{tier_of.get(one.model, '0')}"] += one.routed
    steps = list(by_step)
    drawn = [
        ColumnOf(
            "below" if step is None else f"{step:g}",
            dict(sorted(parts.items())),
            f"EV from {'the lowest' if step is None else f'{step:g}'}: {many(parts.total(), 'task')}",
        )
        for step, parts in by_step.items()
    ]
    edges = [float("-inf") if step is None else step for step in steps]
    marks = [
        Between(bisect_right(edges, value), f"{name} {value:,.1f}") for name, value in percentiles.items() if edges
    ]
    return columns(drawn, label="Tasks by EV, of each tier", marks=marks) if drawn else None


def _ev_classes(found: view.Routed) -> list[dict[str, Any]]:
    """Return between which EVs the middle half of each model's tasks was, busiest models first."""
    by_model: dict[str, list[view.EvStep]] = {}
    for one in found.evs:
        by_model.setdefault(one.model, []).append(one)
    return sorted(
        (
            {
                "model": model,
                "routed": sum(one.routed for one in steps),
                **{name: _quantile(steps, part) for name, part in (("low", 0.25), ("middle", 0.5), ("high", 0.75))},
            }
            for model, steps in by_model.items()
        ),
        key=lambda one: (-one["routed"], one["model"]),
    )


def _quantile(steps: list[view.EvStep], part: float) -> float | None:
    left = part * sum(one.routed for one in steps)
    for one in steps:
        left -= one.routed
        if left <= 0:
            return one.ev_from
    return steps[-1].ev_from


def _matrix(matrix: view.Matrix, at: Span) -> Table:
    return Table(
        name="matrix",
        title="Models by layers",
        columns=(
            Column("model", "model", "id"),
            Column("layer", "layer"),
            Column("routed", "tasks", "number"),
            Column("share", "of the layer", "share"),
            Column("usd_per_task", "$ a finished task", "usd"),
            Column("spent_usd", "spent", "usd"),
        ),
        rows=[asdict(one) for one in matrix.cells],
        leads=lambda row: at.routed(model=row["model"], layer=row["layer"]),
        empty="Nothing was routed in this time. Look further back, or send a task:",
        command=_SEND,
    )


def _grid(matrix: view.Matrix) -> Table:
    """Return the matrix as it is drawn: a row for each model, by whose tasks of a layer they may be sorted."""
    routed = {(one.model, one.layer): one.routed for one in matrix.cells}
    return Table(
        name="grid",
        title="Tasks of models by layers",
        columns=(
            Column("model", "model", "id"),
            *(Column(_of(layer), cut(layer, 40), "number") for layer in matrix.layers),
        ),
        rows=[
            {"model": model, **{_of(layer): routed.get((model, layer)) for layer in matrix.layers}}
            for model in matrix.models
        ],
    )


def _of(layer: str) -> str:
    # A layer may be called `model`.
    return f"layer {layer}"


def _tiers(found: view.Routed, at: Span) -> Table:
    return Table(
        name="tiers",
        title="Tiers by the hour",
        columns=(
            Column("hour", "hour", "time"),
            Column("tier", "tier"),
            Column("routed", "tasks", "number"),
            Column("share", "share", "share"),
            Column("spent_usd", "spent", "usd"),
        ),
        rows=[asdict(one) for one in found.tiers],
        leads=lambda row: at.routed(tier=row["tier"]),
    )


def _evs(found: view.Routed, at: Span) -> Table:
    return Table(
        name="evs",
        title="EVs by model",
        columns=(
            Column("ev_from", "EV from", "number"),
            Column("model", "model", "id"),
            Column("routed", "tasks", "number"),
        ),
        rows=[asdict(one) for one in found.evs],
        leads=lambda row: at.routed(model=row["model"]),
    )


def _classes(found: view.Routed, at: Span) -> Table:
    return Table(
        name="classes",
        title="The middle half of each model's tasks",
        columns=(
            Column("model", "model", "id"),
            Column("routed", "tasks with an EV", "number", counts=True),
            Column("low", "EV from", "number"),
            Column("middle", "middle", "number"),
            Column("high", "to", "number"),
        ),
        rows=_ev_classes(found),
        leads=lambda row: at.routed(model=row["model"], ev_from="-inf"),
    )


def _stats(found: view.Stats, by: str, at: Span, skip: int) -> Table:
    foot = [found.total] if found.total is not None else []

    def of(row: Row) -> dict[str, str]:
        return {by: row["of"]} if row["key"] else {}

    def decided(row: Row) -> str:
        return at.routed(**of(row)) if by in OF_ROUTED and row["key"] else at.decisions(**of(row))

    return Table(
        name="stats",
        title=f"By {by}",
        columns=(
            Column("of", by, "id", href=lambda row: _leads(by, row)),
            Column("decisions", "decisions", "number", href=decided, counts=True),
            Column("routed", "routed", "number", counts=True),
            Column("wait_p50_s", "wait p50", "span"),
            Column("wait_p95_s", "p95", "span"),
            Column("wait_max_s", "max", "span"),
            Column("fallback_share", "second choice", "share"),
            Column("router_error_share", "static fallback", "share", href=lambda row: at.static(**of(row))),
            Column("failed_share", "failed", "share"),
            Column("input_tokens", "tokens in", "number"),
            Column("output_tokens", "tokens out", "number"),
            Column("spent_usd", "spent", "usd"),
            Column("usd_per_million_tokens", "$ / 1M tokens", "usd"),
            Column("saved_vs_premium_usd", "saved: premium", "usd"),
            Column("saved_vs_next_free_usd", "next free", "usd"),
        ),
        rows=[{**asdict(one), "of": one.key[0]} for one in found.by[by]],
        foot=[{**asdict(one), "of": "all"} for one in foot],
        window=(skip, ROWS_MAX),
        leads=lambda row: at.routed(**of(row)),
        empty="Nothing was decided in this time. Look further back, or send a task:",
        command=_SEND,
    )


def _leads(by: str, row: Any) -> str | None:
    """Return where a line leads: the present slots of a model, the waiting tasks of a lane or tenant."""
    if not row["key"] or row["of"] == NONE:
        return None
    if by in ("lane", "tenant"):
        return f"{PREFIX}/waiting?{urlencode({by: row['of']})}"
    return f"{PREFIX}/fleet?{urlencode({'model': row['of']})}" if by == "model" else None


def _quality(found: view.Analytics, at: Span) -> Table:
    return Table(
        name="quality",
        title="Reported quality by model and complexity",
        columns=(
            Column("complexity", "complexity"),
            Column("model", "model", "id"),
            Column("n", "n", "number"),
            Column("mean", "mean", "number"),
            Column("low", "95 % from", "number"),
            Column("high", "to", "number"),
            Column("finished", "finished", "number"),
            Column("failed", "failed", "number"),
        ),
        rows=[asdict(one) for one in found.quality],
        window=(0, OTHERS_MAX),
        leads=lambda row: at.routed(model=row["model"], complexity=row["complexity"]),
        empty="No work has ended in this time, so nothing is known of quality.",
    )


def _use(found: view.Stats, at: Span) -> Table:
    lines = found.by[view.USE]
    total: Counter[tuple[str, ...]] = Counter()
    for one in lines:
        total[one.key[:2]] += one.routed
    return Table(
        name="use",
        title="Models by role and complexity",
        columns=(
            Column("role", "role"),
            Column("complexity", "complexity"),
            Column("model", "model", "id"),
            Column("routed", "tasks", "number", counts=True),
            Column("share", "share", "share"),
        ),
        rows=[
            {
                **dict(zip(("role", "complexity", "model"), one.key, strict=True)),
                "routed": one.routed,
                "share": one.routed / total[one.key[:2]] if total[one.key[:2]] else 0.0,
            }
            for one in lines
        ],
        window=(0, OTHERS_MAX),
        leads=lambda row: at.routed(role=row["role"], complexity=row["complexity"], model=row["model"]),
        empty="Nothing was routed in this time.",
    )


def _lane_table(found: tuple[LaneLine, ...], at: Span) -> Table:
    return Table(
        name="lanes",
        title="Lanes in the last hour",
        columns=(
            Column("lane", "lane", "id"),
            Column("state", "state", "word"),
            Column("says", "why", "sentence"),
            Column("decisions", "decisions", "number"),
            Column("router_error_share", "static fallback", "share", href=lambda row: at.static(lane=row["lane"])),
            Column("fallback_share", "second choice", "share", href=lambda row: at.routed(lane=row["lane"])),
            Column("last_decided_at", "last decision", "time"),
        ),
        rows=[{**asdict(one), "says": one.sentence()} for one in found],
        window=(0, LANES_MAX),
        leads=lambda row: at.decisions(lane=row["lane"]),
        empty="No lane had a decision in the last 24 h.",
    )


def savings(found: view.Stats) -> str:
    """Say what was saved, against both; empty where nothing was decided."""
    if found.total is None:
        return ""
    of = found.total.estimated_usd + found.total.saved_vs_premium_usd
    part = f" ({share(found.total.saved_vs_premium_usd / of)})" if of > 0 else ""
    return (
        f"Saved {usd(found.total.saved_vs_premium_usd)}{part} against always-premium, "
        f"{usd(found.total.saved_vs_next_free_usd)} against next-free."
    )
