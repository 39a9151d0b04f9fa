"""`/ui/tasks/{id}`: where a task is, what happened to it, why it went there, and why no other model got it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Response
from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Finished, TaskRow
from schemas.vocabulary import GATES, from_millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.database.connection import Timeouts
from streams.errors import SlotwiseError
from streams.shipped import file_rulebook
from streams.views.explain import Explained, explain_whole
from streams.views.task_view import GridRow, entry_of, free_then, grid, history
from streams.views.units import span
from streams.web.guard import PREFIX
from streams.web.pages.page import Id, Page, PageOf, seen_by
from streams.web.pages.tables import Column, Table
from streams.web.parameters import ID
from streams.web.problem import Problem
from streams.web.state import Web

router = APIRouter(prefix=PREFIX)

#: The page is answered without the audit where that takes longer.
STATEMENT_S_MAX: Final = 3.0
#: Characters of a record that the page has; the API has the whole.
RECORD_MAX: Final = 20_000


class Known(Struct, frozen=True, kw_only=True):
    """What the state has of a task."""

    pool: str
    router: Router
    row: TaskRow | None
    end: Finished | None


@router.get("/tasks/{task_id}", **seen_by("reader", "operator"))
async def task(
    page: PageOf, task_id: Annotated[str, Path(pattern=ID)], pool: Id = None, decision: Id = None
) -> Response:
    """One task."""
    web = page.web
    known = _known(web, task_id, pool)
    rulebook = known.router.rulebook if known is not None else _rulebook(web)
    pool = known.pool if known is not None else pool
    audit = await _audit(web, task_id, rulebook, pool, decision)
    explained = audit if isinstance(audit, Explained) else Explained()
    entries = list(explained.history)
    there = {str(one["decision_id"]) for one in entries}
    if pool is not None:
        entries += [
            entry_of(one.decision, one.step)
            for one in web.following.decisions(pool, task_id)
            if one.decision.decision_id not in there
        ]
    if known is None and not entries:
        problem = f" {audit}" if isinstance(audit, str) else ""
        raise Problem(HTTPStatus.NOT_FOUND, f"No task {task_id} is known, neither now nor in the audit.{problem}")
    chosen = _chosen(entries, decision)
    rows = grid(chosen) if chosen else []
    return page.show(
        "task.html",
        title=task_id,
        tables=(_decisions(entries, page), _models(rows)),
        task_id=task_id,
        pool=pool or (chosen["pool"] if chosen else None),
        name=_title(known, chosen),
        says=_says(known, page),
        state=_state(known, chosen),
        row=known.row if known is not None else None,
        chosen=chosen,
        gates=GATES,
        grid={one.model: one for one in rows},
        free=free_then(chosen) if chosen else [],
        why_not=explained.why_not if chosen is not None and chosen is explained.decision else {},
        notes=tuple(dict.fromkeys(note for one in explained.why_not.values() for note in one.notes)),
        in_audit=chosen is not None and str(chosen["decision_id"]) in there,
        events=history(entries, known.row if known is not None else None, known.end if known is not None else None),
        audit_problem=audit if isinstance(audit, str) else None,
        record=_record(known, chosen),
    )


def _known(web: Web, task_id: str, pool: str | None) -> Known | None:
    ended = None
    for one in web.following.partitions.values():
        for name, state in one.router.state.pools.items():
            if pool not in (None, name):
                continue
            if (row := state.tasks.get(task_id)) is not None:
                return Known(pool=name, router=one.router, row=row, end=None)
            if (end := state.finished.get(task_id)) is not None:
                ended = Known(pool=name, router=one.router, row=None, end=end)
    return ended


def _rulebook(web: Web) -> Rulebook:
    """Return the rules that decide somewhere; those of the files are read where nothing is followed yet."""
    routers = (one.router for one in web.following.partitions.values())
    return next((one.rulebook for one in routers), None) or file_rulebook(web.settings)


async def _audit(web: Web, task_id: str, rulebook: Any, pool: str | None, decision: str | None) -> Explained | str:
    """Return what the audit has, or why it has no answer."""
    timeouts = Timeouts.of(web.settings)
    timeouts = replace(timeouts, statement_s=min(timeouts.statement_s, STATEMENT_S_MAX))
    try:
        return await asyncio.to_thread(
            explain_whole, web.settings.database, task_id, rulebook, pool=pool, decision_id=decision, timeouts=timeouts
        )
    except SlotwiseError as error:
        return str(error)


def _chosen(entries: list[dict[str, Any]], decision: str | None) -> dict[str, Any] | None:
    if decision is not None:
        for one in entries:
            if str(one["decision_id"]) == decision:
                return one
    placed = [one for one in entries if one["outcome"] in ("routed", "waiting")]
    return placed[-1] if placed else entries[-1] if entries else None


def _title(known: Known | None, chosen: dict[str, Any] | None) -> str | None:
    if known is not None and known.row is not None:
        return known.row.task.title
    return chosen.get("title") if chosen is not None else None


def _state(known: Known | None, chosen: dict[str, Any] | None) -> str:
    if known is not None and known.row is not None:
        return known.row.status.state
    if known is not None and known.end is not None:
        return known.end.what
    return "ended" if chosen is not None else "unknown"


def _says(known: Known | None, page: Page) -> str:
    """Say where the task is."""
    if known is None:
        return "It ended before what is remembered here; what follows is from the audit."
    if known.end is not None:
        return f"It ended {span(max(0, page.now_ms - known.end.at_ms) / 1000)} ago: {known.end.what}."
    assert known.row is not None  # noqa: S101 -- a task that is known runs, waits, or has ended
    status = known.row.status
    since = span(max(0, page.now_ms - status.since_ms) / 1000)
    match status.state:
        case "running":
            slot = known.router.state.pools[known.pool].slots.get(status.slot_id or "")
            ends_ms = slot.lease_expires_at_ms if slot is not None else None
            left = f"; its lease ends in {span(max(0, ends_ms - page.now_ms) / 1000)}" if ends_ms is not None else ""
            stopping = " It was cancelled, and its slot is asked to stop." if status.cancelled else ""
            return f"It runs on {status.slot_id}, attempt {status.attempt}{left}.{stopping}"
        case "delayed":
            return f"It may not be served before {from_millis(status.due_ms or 0)}."
        case _:
            return f"It has waited for {since}, attempt {status.attempt}."


def _record(known: Known | None, chosen: dict[str, Any] | None) -> str:
    fields = {"decision": chosen, "task": None if known is None else known.row}
    text = msgspec.json.format(msgspec.json.encode(fields, enc_hook=str), indent=2).decode()
    return text if len(text) <= RECORD_MAX else f"{text[:RECORD_MAX]}\n… the rest is in GET /tasks/ID/decisions"


def _models(rows: list[GridRow]) -> Table:
    """Return the models against the gates; the page draws them itself, with the answers why not."""
    return Table(
        name="models",
        title="Every model, gate by gate",
        columns=(
            Column("model", "model"),
            *(Column(gate, gate) for gate in GATES),
            Column("verdict", "verdict"),
            Column("score", "score", "number"),
        ),
        rows=[
            {"model": one.model, "verdict": one.verdict, "score": one.score, **dict(zip(GATES, one.marks, strict=True))}
            for one in rows
        ],
    )


def _decisions(entries: list[dict[str, Any]], page: Page) -> Table:
    names = ("decided_at", "outcome", "reason_code", "reason", "chosen_model", "chosen_slot_id", "attempt", "seq")
    return Table(
        name="decisions",
        title="Decisions",
        columns=(
            Column("decided_at", "when", "time", href=lambda row: page.link(decision=row["decision_id"])),
            Column("outcome", "outcome", "word"),
            Column("chosen_model", "model", "id"),
            Column("chosen_slot_id", "slot", "id"),
            Column("reason_code", "reason", "word"),
            Column("reason", "why", "sentence"),
            Column("attempt", "attempt", "number"),
            Column("decision_id", "decision", "id"),
        ),
        rows=[{**{name: one[name] for name in names}, "decision_id": str(one["decision_id"])} for one in entries],
        leads=lambda row: page.link(decision=row["decision_id"]),
        empty="Nothing was decided about it yet.",
    )
