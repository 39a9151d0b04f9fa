"""`/ui/waiting`: what waits, the longest first, for what, and what would free it."""

from __future__ import annotations

from typing import Annotated, Final, cast, get_args

from fastapi import APIRouter, Query, Response
from msgspec.structs import asdict

from streams.views.units import many, span
from streams.views.waiting import Choice, Waits, waits_of
from streams.views.waiting_order import NUMBERS, Order, Place, Sort
from streams.web.guard import PREFIX
from streams.web.pages.page import Id, Page, PageOf, Text, seen_by
from streams.web.pages.tables import SEND_A_TASK, Column, Table, to_task
from streams.web.problem import refused

router = APIRouter(prefix=PREFIX)

ROWS_MAX: Final = 60
#: Rows of a file.
FILE_ROWS_MAX: Final = 10_000
#: Behind which row the page begins: what it is ordered by, its pool and its id.
AFTER: Final = r"(?s)^.{0,1000}~[A-Za-z0-9._:-]{1,128}~[A-Za-z0-9._:-]{1,128}$"
ORDERS: Final = get_args(Order)
_OLDEST: Final = "waiting.since"
#: The orders that the form offers: on a phone a table has no titles to follow.
SORTS: Final = {
    _OLDEST: "longest wait first", "-waiting.since": "shortest wait first",
    "-waiting.priority": "highest priority first", "-waiting.attempt": "most attempts first",
    "-waiting.ev": "highest EV first", "waiting.ev": "lowest EV first",
    "waiting.tenant_id": "by tenant", "waiting.lane": "by lane", "waiting.title": "by title",
}  # fmt: skip


@router.get("/waiting", **seen_by("reader", "operator"))
async def waiting(
    page: PageOf,
    pool: Id = None,
    reason: Id = None,
    lane: Text = None,
    tenant: Text = None,
    q: Text = None,
    after: Annotated[str | None, Query(pattern=AFTER)] = None,
) -> Response:
    """The waiting tasks of all pools or of one."""
    limit = FILE_ROWS_MAX if "format" in page.request.query_params else ROWS_MAX
    order, descending = page.sorted_as(ORDERS, _OLDEST)
    sort = Sort(cast("Order", order), descending)
    choice = Choice(reason=reason, lane=lane, tenant=tenant, text=q, sort=sort)
    place = _place(after, sort) if after is not None else None
    found = waits_of(page.web.following.backlogs, page.now_ms, pool=pool, choice=choice, limit=limit, after=place)
    return page.show(
        "waiting.html",
        title="Waiting",
        tables=(_table(found, page),),
        found=found,
        says=_says(found),
        pool=pool,
        choice=choice,
        sorts=SORTS,
        first=place is None,
        following="~".join(map(str, found.last)) if found.last is not None else None,
    )


def _place(after: str, sort: Sort) -> Place:
    value, pool, task_id = after.rsplit("~", 2)
    if sort.order not in NUMBERS:
        return (value, pool, task_id)
    try:
        return (float(value), pool, task_id)
    except ValueError:
        raise refused(f"after: {value!r} is no number, and the rows are sorted by {sort.order}.") from None


def _says(found: Waits) -> str:
    if not found.total:
        return "Nothing waits."
    oldest = f", the oldest for {span(found.oldest_s)}" if found.oldest_s is not None else ""
    delayed = f" {many(found.delayed, 'more task')} may not be served yet." if found.delayed else ""
    return f"{many(found.total, 'task')} {'waits' if found.total == 1 else 'wait'}{oldest}.{delayed}"


def _table(found: Waits, page: Page) -> Table:
    return Table(
        name="waiting",
        title="Waiting tasks",
        columns=(
            Column("place", "place", "number"),
            Column("title", "task", "title", href=to_task),
            Column("task_id", "id", "id"),
            Column("pool", "pool", "id", href=lambda row: page.link(pool=row["pool"], after=None)),
            Column("since", "waits", "since"),
            Column("waited_s", "waits, s", "span"),
            Column("reason", "reason", "word", href=lambda row: page.link(reason=row["reason"], after=None)),
            Column("waits_for", "what it waits for"),
            Column("frees", "what would free it"),
            Column("priority", "priority", "number"),
            Column("ev", "EV", "number"),
            Column("attempt", "attempt", "number"),
            Column("lane", "lane", "text"),
            Column("tenant_id", "tenant", "text"),
        ),
        rows=[asdict(one) for one in found.rows],
        sorts=ORDERS,
        sort=_OLDEST,
        leads=to_task,
        empty="Nothing waits. Send a task and see where it goes:",
        command=SEND_A_TASK,
    )
