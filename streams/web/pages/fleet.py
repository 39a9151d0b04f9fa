"""`/ui/fleet`: a lane for each model, a box for each slot; dots where slots are many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Response
from msgspec import Struct

from streams.core.router import Router
from streams.core.state.pool import Pool
from streams.views.boxes import BOX_STATES, BoxState, ModelLane, model_lanes, slot_boxes
from streams.views.overview import PoolView, overview
from streams.web.guard import PREFIX
from streams.web.pages.page import Id, Page, PageOf, Skip, seen_by
from streams.web.pages.tables import ANNOUNCE_A_SLOT, Column, Row, Table

router = APIRouter(prefix=PREFIX)

#: With more slots than these on the page, they are dots, and the boxes of one model are a page of their own.
BOXES_MAX: Final = 120
_NO_SLOT: Final = "No slot has been announced yet."
#: Pools with their lanes on one page; the others are linked.
POOLS_MAX: Final = 12


class PoolLanes(Struct, frozen=True):
    """One pool's part of the page."""

    pool: PoolView
    lanes: list[ModelLane]


@router.get("/fleet", **seen_by("reader", "operator"))
async def fleet(
    page: PageOf, pool: Id = None, model: Id = None, state: BoxState | None = None, skip: Skip = 0
) -> Response:
    """The fleet of all pools, of one, or of one model in it; or its slots in one state."""
    known = _known(page, pool)
    found = overview(dict(page.web.following.partitions), page.now_ms, pool)
    pools = [one for one in found.pools if one.models and (model is None or any(m.model == model for m in one.models))]
    shown = pools[:POOLS_MAX]
    slots = sum(
        len([1 for row in known[one.pool][1].slots.values() if model in (None, row.model)])
        for one in shown
    )  # fmt: skip
    boxes_max = BOXES_MAX if slots <= BOXES_MAX or model is not None else 0
    lanes = [
        PoolLanes(
            one,
            model_lanes(
                *known[one.pool],
                [of for of in one.models if model in (None, of.model)],
                page.now_ms,
                boxes_max=boxes_max,
                skip=skip,
                only=state,
            ),
        )
        for one in shown
    ]
    return page.show(
        "fleet.html",
        title="Fleet",
        tables=(_models(lanes), *((_slots(page, known),) if _wants_slots(page) else ())),
        lanes=lanes,
        others=pools[POOLS_MAX:],
        states=BOX_STATES,
        pool=pool,
        model=model,
        state=state,
        matches=sum(lane.total for one in lanes for lane in one.lanes),
        skip=skip,
        boxes_max=boxes_max,
        box_pages=BOXES_MAX,
        says=_says(lanes),
        counted={one: page.link(state=one, skip=None) for one in BOX_STATES},
    )


def _known(page: Page, pool: str | None) -> dict[str, tuple[Router, Pool]]:
    return {
        name: (one.router, state)
        for one in page.web.following.partitions.values()
        for name, state in one.router.state.pools.items()
        if pool in (None, name)
    }


def _says(lanes: list[PoolLanes]) -> str:
    counts: Counter[BoxState] = Counter()
    for one in lanes:
        for lane in one.lanes:
            counts.update(lane.meant)
    total = sum(counts.values())
    if not total:
        return "No such slot." if any(lane.only for one in lanes for lane in one.lanes) else _NO_SLOT
    parts = [f"{counts[state]:,} {state}" for state in BOX_STATES if counts[state]]
    return f"{total:,} {'slot' if total == 1 else 'slots'}: {', '.join(parts)}."


def _wants_slots(page: Page) -> bool:
    return page.request.query_params.get("table") == "slots"


def _models(lanes: list[PoolLanes]) -> Table:
    rows = [
        {
            "pool": one.pool.pool,
            "model": lane.model.model,
            "product": lane.model.product,
            "tier": lane.model.tier,
            **lane.counts,
            "busy_5m": lane.busy_5m,
            "busy_1h": lane.busy_1h,
            "quota": max((cell.usage for cell in lane.model.cells), default=0.0),
            "state": "; ".join(dict.fromkeys(cell.reason or "open" for cell in lane.model.cells)),
        }
        for one in lanes
        for lane in one.lanes
    ]
    return Table(
        name="models",
        title="Models",
        columns=(
            Column("pool", "pool", "id"),
            Column("model", "model", "id", href=_of(None)),
            Column("product", "product", "id"),
            Column("tier", "tier", "number"),
            *(Column(state, state, "number", href=_of(state), counts=True) for state in BOX_STATES),
            Column("busy_5m", "used, 5 min", "share"),
            Column("busy_1h", "used, 1 h", "share"),
            Column("quota", "quota", "share"),
            Column("state", "gate", "text"),
        ),
        rows=rows,
        leads=_of(None),
        empty=f"{_NO_SLOT} Announce one:",
        command=ANNOUNCE_A_SLOT,
    )


def _of(state: BoxState | None) -> Callable[[Row], str]:
    query = f"&state={state}" if state is not None else ""
    return lambda row: f"{PREFIX}/fleet?pool={row['pool']}&model={row['model']}{query}"


def _slots(page: Page, known: dict[str, tuple[Router, Pool]]) -> Table:
    names = (
        "slot_id", "model", "account", "state", "since", "task_id", "title", "lease", "lease_ends", "busy_5m",
        "busy_1h",
    )  # fmt: skip
    rows = [
        {"pool": pool.name, **{name: getattr(box, name) for name in names}}
        for router, pool in known.values()
        for box in slot_boxes(router, pool, page.now_ms)
    ]
    return Table(
        name="slots",
        title="Slots",
        columns=(Column("pool", "pool"), *(Column(name, name) for name in names)),
        rows=rows,
    )
