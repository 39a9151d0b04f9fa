"""`/ui/what-if`: what a shadow would have decided otherwise, changed choices first; both sides beside each other."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from msgspec.structs import asdict

from schemas.shadow import Answer, DifferenceKind
from streams.database.connection import Timeouts
from streams.shadow.report import DifferenceView, ShadowReport, ShadowView, SideView, latest, report_of, shadows
from streams.web.guard import PREFIX
from streams.web.pages.histograms import ColumnOf, columns
from streams.web.pages.page import Id, Page, PageOf, seen_by
from streams.web.pages.tables import Column, Row, Table

router = APIRouter(prefix=PREFIX)

#: Differences on the page, and in a file of it.
SHOWN: Final = 100
IN_FILES: Final = 100_000
_START: Final = "slotwise shadow start --policy my-policy.toml --name try"
_TIERS: Final = {"1": "cheap", "2": "middle", "3": "premium"}

Kind = Annotated[DifferenceKind | None, Query()]


@router.get("/what-if", **seen_by("reader", "operator"))
async def what_if(page: PageOf, name: Id = None, kind: Kind = None) -> Response:
    """The latest run of a shadow, or of the one that is named."""
    settings = page.web.settings
    timeouts = Timeouts.of(settings)
    runs = await asyncio.to_thread(shadows, settings.database, timeouts=timeouts)
    run, found = latest(runs, name), None
    if run is not None:
        limit = IN_FILES if "format" in page.request.query_params else SHOWN
        found = await asyncio.to_thread(report_of, settings.database, run, kind=kind, limit=limit, timeouts=timeouts)
    return page.show(
        "what_if.html",
        title="What if",
        live=False,
        tables=(_differences(found), _sides(found), _runs(runs)),
        found=found,
        missing=name if run is None else None,
        mix=None if found is None else _mix(found.run),
        kinds=[] if found is None else _kinds(page, found.run),
        kind=kind,
        tier_names=_TIERS,
    )


def _kinds(page: Page, run: ShadowView) -> list[dict[str, Any]]:
    return [
        {"name": kind.replace("_", " "), "count": count, "href": page.link(name=run.name, kind=kind)}
        for kind, count in run.differences.items()
    ]


def _mix(run: ShadowView) -> Any:
    drawn = [
        ColumnOf(
            title,
            {f"tier-{tier}": float(count) for tier, count in side.tiers.items()},
            f"{title}: " + ", ".join(f"tier {tier}: {count:,}" for tier, count in side.tiers.items()),
        )
        for title, side in (("live", run.live), ("shadow", run.shadow))
        if side.routed
    ]
    return columns(drawn, label="Share of each tier, live and shadow", whole=True) if drawn else None


def _differences(found: ShadowReport | None) -> Table:
    return Table(
        name="differences",
        title="What would have been decided otherwise",
        columns=(
            Column("kind", "what"),
            Column("task_id", "task", "id", href=_task),
            Column("decided_at", "at", "time"),
            Column("live", "live"),
            Column("shadow", "shadow"),
            Column("more_usd", "more $", "usd"),
            Column("live_reason", "why live"),
            Column("shadow_reason", "why the shadow"),
            Column("ev", "EV", "number"),
            Column("priority", "priority", "number"),
            Column("pool", "pool", "id"),
            Column("live_rule", "live rule"),
            Column("shadow_rule", "shadow's rule"),
            Column("seq", "step", "number"),
            Column("difference_id", "decision", "id"),
        ),
        rows=[] if found is None else [_row(one) for one in found.differences],
        sorts=() if found is not None and found.more else None,
        leads=_task,
        empty="Both sides decide the same.",
    )


def _task(row: Row) -> str:
    return f"{PREFIX}/tasks/{row['task_id']}?{urlencode({'pool': row['pool']})}"


def _run(row: Row) -> str:
    return f"{PREFIX}/what-if?{urlencode({'name': row['name']})}"


def _row(one: DifferenceView) -> dict[str, Any]:
    return asdict(one) | {
        "kind": one.kind.replace("_", " "),
        "live": _said(one.live),
        "shadow": _said(one.shadow),
        "live_reason": one.live.reason,
        "shadow_reason": one.shadow.reason,
        "live_rule": one.live.reason_code,
        "shadow_rule": one.shadow.reason_code,
    }


def _said(answer: Answer) -> str:
    if answer.outcome == "routed":
        return f"{answer.model} ({answer.slot_id})"
    return f"{answer.outcome}: {answer.reason_code}" if answer.outcome is not None else "no decision"


def _sides(found: ShadowReport | None) -> Table:
    sides: list[tuple[str, SideView]] = []
    if found is not None:
        sides = [("live", found.run.live), ("shadow", found.run.shadow)]
    return Table(
        name="sides",
        title="Both sides",
        columns=(
            Column("side", "side"),
            Column("routed", "routed", "number"),
            *(Column(f"tier_{tier}", f"{name} (tier {tier})", "number") for tier, name in _TIERS.items()),
            Column("estimated_usd", "estimated", "usd"),
            Column("unpriced", "without a price", "number"),
            Column("waited", "had to wait", "number"),
            Column("wait_s_mean", "mean wait", "span"),
            Column("wait_s_max", "longest", "span"),
        ),
        rows=[
            asdict(side) | {"side": title} | {f"tier_{tier}": side.tiers.get(tier, 0) for tier in _TIERS}
            for title, side in sides
        ],
        leads=lambda _: "#otherwise",
    )


def _runs(runs: tuple[ShadowView, ...]) -> Table:
    return Table(
        name="runs",
        title="Shadows",
        columns=(
            Column("name", "shadow", "id", href=_run),
            Column("state", "state"),
            Column("started_at", "since", "time"),
            Column("decisions", "compared", "number"),
            Column("changed", "chosen otherwise", "number"),
            Column("policy", "policy", "id"),
            Column("catalog", "catalogue", "id"),
            Column("slots", "slots"),
            Column("run", "run", "id"),
        ),
        rows=[asdict(one) | {"slots": one.slots} for one in runs],
        leads=_run,
        empty="There is no shadow. Let another policy decide beside the live one:",
        command=_START,
    )
