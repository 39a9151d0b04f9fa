"""`/ui/decisions`: what was decided, the newest first: live from memory, older ones from the audit, by key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final, TypeAlias, get_args

from fastapi import APIRouter, Query, Response
from msgspec.structs import replace
from pydantic import StringConstraints

from schemas.vocabulary import Complexity, Mode, Tier, from_millis
from streams.database.connection import Timeouts
from streams.errors import SlotwiseError
from streams.topics import name_in_audit
from streams.views.decisions import NEWEST, NONE, OLDEST, Wanted, decisions_by_time, row_of
from streams.views.units import many
from streams.web.guard import PREFIX
from streams.web.pages.page import Page, PageOf, seen_by
from streams.web.pages.tables import SEND_A_TASK, Column, Row, Table, to_task
from streams.web.parameters import EMPTY
from streams.web.routes.decisions import WantedOf
from streams.web.state import Web

router = APIRouter(prefix=PREFIX)

#: Rows of the page: with long texts in all of them it is still below 100 KB.
ROWS_MAX: Final = 50
#: Rows of a file.
FILE_ROWS_MAX: Final = 10_000
#: Longest search for decisions that match: a filter that few match ends with a sentence.
STATEMENT_S_MAX: Final = 2.0
#: How far back the audit is searched, unless the address says more.
HOURS: Final = 24
HOURS_MAX: Final = 24 * 366
#: A time as pages write it, or a whole hour without its minutes: numbers have many links with it.
SINCE: Final = r"^\d{4}-\d\d-\d\dT\d\d(:\d\d:\d\d\.\d{3}Z)?$"
_HOUR: Final = "2026-11-21T15"
#: Time and id of the decision behind which a page begins.
PLACE: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z~[0-9a-f-]{36}$"


#: By what a page of all decisions can be made: the key of the audit's table.
SORTED: Final = ("decided_at",)
_NEWEST: Final = "-decisions.decided_at"
SORTS: Final = {_NEWEST: "the newest first", "decisions.decided_at": "the oldest first"}

Rows: TypeAlias = list[dict[str, Any]]
Place: TypeAlias = tuple[str, str]
Asked: TypeAlias = Callable[..., Awaitable[tuple[Rows, str | None]]]


@router.get("/decisions", **seen_by("reader", "operator"))
async def decisions(
    page: PageOf,
    wanted: WantedOf,
    before: Annotated[str | None, Query(pattern=PLACE)] = None,
    after: Annotated[str | None, Query(pattern=PLACE)] = None,
    hours: Annotated[int, Query(ge=1, le=HOURS_MAX)] = HOURS,
    since: Annotated[Annotated[str, StringConstraints(pattern=SINCE)] | None, EMPTY, Query()] = None,
) -> Response:
    """Decisions that match, since a time or as many hours back: the newest first, or the oldest, behind one of them."""
    limit = FILE_ROWS_MAX if "format" in page.request.query_params else ROWS_MAX
    begin = since or from_millis(page.now_ms - hours * 3_600_000)
    begin += ":00:00.000Z" if len(begin) == len(_HOUR) else ""
    newest_first = page.sorted_as(SORTED, _NEWEST)[1]
    at, _, id_ = ((before if newest_first else after) or "").partition("~")
    place = (at, id_) if at and id_ else None
    ask = partial(_older, page.web, wanted, since=begin)
    rows, problem = await (
        _newest_first(page.web, ask, wanted, begin, place, limit)
        if newest_first
        else _oldest_first(page.web, ask, wanted, begin, place, limit)
    )
    last = rows[-1] if len(rows) == limit else None
    pulse = page.web.following.pulse.view(page.now_ms)
    return page.show(
        "decisions.html",
        title="Decisions",
        live=place is None and newest_first,
        tables=(_table(rows, page),),
        wanted=wanted,
        hours=hours,
        since=since,
        tiers=_choices(get_args(Tier), wanted.tier),
        complexities=_choices(get_args(Complexity), wanted.complexity),
        modes=get_args(Mode),
        pulse=pulse,
        says=f"{pulse.decisions_now:.1f} decisions a second; {many(pulse.routed, 'task')} routed in the last hour.",
        first=place is None,
        newest_first=newest_first,
        further="~".join(_place(last)) if last is not None else None,
        sorts=SORTS,
        problem=problem,
    )


async def _newest_first(
    web: Web, ask: Asked, wanted: Wanted, since: str, place: Place | None, limit: int
) -> tuple[Rows, str | None]:
    """Return those in memory, then older ones of the audit; and why there may be more."""
    rows = list(islice(_live(web, wanted, since), limit)) if place is None else []
    if len(rows) == limit:
        return rows, None
    older, problem = await ask(behind=place or (_place(rows[-1]) if rows else NEWEST), limit=limit - len(rows))
    there = {row["decision_id"] for row in rows}
    return rows + [row for row in older if row["decision_id"] not in there], problem


async def _oldest_first(
    web: Web, ask: Asked, wanted: Wanted, since: str, place: Place | None, limit: int
) -> tuple[Rows, str | None]:
    """Return those of the audit, then those in memory that it does not have yet; and why there may be more."""
    rows, problem = await ask(behind=place or OLDEST, limit=limit, oldest_first=True)
    last = _place(rows[-1]) if rows else place or OLDEST
    newer = reversed([row for row in _live(web, wanted, since) if _place(row) > last])
    return rows + list(islice(newer, limit - len(rows))), problem


def _place(row: Row) -> Place:
    return (row["decided_at"], row["decision_id"])


def _live(web: Web, wanted: Wanted, since: str) -> Iterator[dict[str, Any]]:
    """Give those in memory, the newest first; rows are made as far as they are wanted."""
    ordered = sorted(web.following.latest, key=lambda one: (one.decision.decided_at_ms, one.decision.decision_id))
    rows = (row_of(one.decision, one.step) for one in reversed(ordered))
    return (row for row in rows if row["decided_at"] >= since and wanted.takes(row))


async def _older(web: Web, wanted: Wanted, *, since: str, **asked: Any) -> tuple[Rows, str | None]:
    timeouts = Timeouts.of(web.settings)
    timeouts = replace(timeouts, statement_s=min(timeouts.statement_s, STATEMENT_S_MAX))
    # A database may hold other journals, with live decisions of their own; the sums are of ours.
    journal = name_in_audit(web.settings) if wanted.mode == "live" else None
    ask = partial(decisions_by_time, web.settings.database, wanted, since=since, timeouts=timeouts, journal=journal)
    try:
        return await asyncio.to_thread(ask, **asked), None
    except SlotwiseError as error:
        return [], str(error)


def _choices(known: Iterable[object], chosen: str | None) -> list[str]:
    """Return what a list of the form offers; what the address says is there as well."""
    return list(dict.fromkeys([*map(str, known), NONE, *([chosen] if chosen is not None else [])]))


def _leads(row: Row) -> str:
    return f"{to_task(row)}&decision={row['decision_id']}"


def _table(rows: list[dict[str, Any]], page: Page) -> Table:
    def only(name: str, column: str) -> Any:
        return lambda row: page.link(**{name: row[column], "before": None, "after": None})

    return Table(
        name="decisions",
        title="Decisions",
        columns=(
            Column("decided_at", "when", "time"),
            Column("title", "task", "title", href=_leads),
            Column("outcome", "outcome", "word", href=only("outcome", "outcome")),
            Column("chosen_model", "model", "id", href=only("model", "chosen_model")),
            Column("reason_code", "reason", "word", href=only("reason", "reason_code")),
            Column("reason", "why", "sentence"),
            Column("layer", "layer", href=only("layer", "layer")),
            Column("lane", "lane", href=only("lane", "lane")),
            Column("tenant_id", "tenant", href=only("tenant", "tenant_id")),
            Column("ev", "EV", "number"),
            Column("estimated_cost_usd", "about", "usd"),
            Column("task_id", "id", "id"),
            Column("pool", "pool", "id", href=only("pool", "pool")),
            Column("chosen_slot_id", "slot", "id"),
            Column("chosen_provider", "provider", href=only("provider", "chosen_provider")),
            Column("tier", "tier", "number", href=only("tier", "tier")),
            Column("agent_role", "role", href=only("role", "agent_role")),
            Column("complexity", "complexity", href=only("complexity", "complexity")),
            Column("attempt", "attempt", "number"),
            Column("mode", "mode"),
            Column("decision_id", "decision", "id"),
        ),
        rows=rows,
        sorts=SORTED,
        sort=_NEWEST,
        leads=_leads,
        empty="No decision matches. Leave out a filter, look further back, or send a task:",
        command=SEND_A_TASK,
    )
