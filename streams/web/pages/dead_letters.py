"""`/ui/dead-letters`: what was refused or given up, why, and what became of it; one record in full."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Response
from msgspec.structs import asdict

from streams.errors import SlotwiseError
from streams.operate.dead_letters import named, records_at
from streams.views.dead_letters import DeadLetters, DeadLetterView, Selection, State
from streams.web.guard import PREFIX
from streams.web.pages.now import dead_letters as latest
from streams.web.pages.page import Id, Page, PageOf, Skip, Text, seen_by
from streams.web.pages.tables import Column, Table

router = APIRouter(prefix=PREFIX)

ROWS_MAX: Final = 60
#: Bytes of a record that the page has; `slotwise dlq show` has the whole.
RECORD_MAX: Final = 20_000


@router.get("/dead-letters", **seen_by("reader", "operator"))
async def dead_letters(
    page: PageOf,
    topic: Id = None,
    reason: Text = None,
    state: State | None = None,
    show: Text = None,
    skip: Skip = 0,
) -> Response:
    """The dead letters of all topics that match, the newest first."""
    found = await latest(page.web) or DeadLetters()
    every = found.views(page.now_ms)
    views = found.views(page.now_ms, Selection(topic=topic, reason=reason, state=state))
    new = found.new(page.now_ms)
    record, problem = await _record(page, found, show) if show is not None else (None, None)
    return page.show(
        "dead_letters.html",
        title="Dead letters",
        tables=(_table(views, page, skip),),
        says=new.sentence() if new.count else "No new dead letter: nothing was lost or refused.",
        states=Counter(one.state for one in every),
        topics=Counter(one.topic for one in every),
        topic=topic,
        reason=reason,
        state=state,
        show=show,
        record=record,
        shown=found.find(show, page.now_ms) if show is not None else None,
        treats=page.session is not None and page.has_role("operator"),
        open=sum(one.state == "new" for one in views),
        problem=problem,
    )


async def _record(page: Page, found: DeadLetters, address: str) -> tuple[str | None, str | None]:
    """Return the record at an address as text, or why it is not there."""
    try:
        (record,) = await records_at(page.web.settings, named(found, [address])) or (None,)
    except SlotwiseError as error:
        return None, str(error)
    if record is None:
        return None, "It is no longer in its topic: retention has taken it."
    value = record.value or b""
    try:
        text = msgspec.json.format(value, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = value.decode(errors="backslashreplace")
    headers = "".join(
        f"{name}: {(content or b'').decode(errors='backslashreplace')}\n" for name, content in record.headers
    )
    whole = f"{headers}\n{text}"
    return (whole if len(whole) <= RECORD_MAX else f"{whole[:RECORD_MAX]}\n… slotwise dlq show {address}"), None


def _table(views: list[DeadLetterView], page: Page, skip: int) -> Table:
    rows: list[dict[str, Any]] = [
        {
            **{name: value for name, value in asdict(one).items() if name != "marked"},
            "marked": None if one.marked is None else f"by {one.marked.by} at {one.marked.at}. {one.marked.because}",
        }
        for one in views
    ]
    return Table(
        name="dead-letters",
        title="Dead letters, the newest first",
        columns=(
            Column("at", "when", "time"),
            Column("state", "state", "word", href=lambda row: page.link(state=row["state"], skip=None)),
            Column("topic", "topic", "id", href=lambda row: page.link(topic=row["topic"], skip=None)),
            Column("id", "id", "id", href=lambda row: f"{PREFIX}/search?q={row['id']}" if row["id"] else None),
            Column("reason", "why", "sentence"),
            Column("pool", "pool", "id"),
            Column("marked", "what became of it"),
            Column("dead_letter", "record", "id", href=lambda row: page.link(show=row["dead_letter"])),
            Column("origin", "from", "id"),
        ),
        rows=rows,
        window=(skip, ROWS_MAX),
        empty="No dead letter matches: nothing was refused or given up. On the command line:",
        command="slotwise dlq list",
    )
