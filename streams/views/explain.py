"""Tell why a task went where it went, or why it waits: every decision about it, in order, from the audit.

`explain` asks the database, `tell` turns its rows into plain data (for `--json` and pages), `render` into a table for
a terminal; `explain_why_not` gathers what `why_not.py` needs to answer. Reads views only, so that a login with
slotwise_read is enough.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from rich.table import Table
from rich.text import Text

from schemas.events import TaskPending
from schemas.vocabulary import GATES, Millis, to_millis
from streams.core.step.controls import MarkingControl
from streams.database.connection import DEFAULT_TIMEOUTS, DatabaseError, Timeouts, connect, sentence
from streams.database.sql import QUERIES
from streams.views.why_not import Case, WhyNot, marks_of, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg import Connection
    from psycopg.rows import TupleRow

    from streams.core.policy.rulebook import Rulebook

ROWS_MAX: Final = 1_000

#: What a verdict says of a model, as the end of "opus ...".
MEANINGS: Final[Mapping[str, str]] = {
    "chosen": "took the task",
    "ok": "would have done as well",
    "busy": "would have done, but had no free slot",
    "credit": "would have cost more than the tenant has left",
    "premium": "is kept for tasks of higher expected value",
    "quota": "was too close to the end of its quota",
    "drained": "was taken out of service by an operator",
    "exhausted": "had used up its quota",
    "floor": "is weaker than the weakest the task accepts",
    "boundary": "is not allowed for this task or tenant",
    "context": "cannot hold the task in its context",
    "capability": "does not reach what the task requires",
}
#: Who came furthest stands first.
_ORDER: Final = {verdict: place for place, verdict in enumerate(("chosen", "ok", "busy", *reversed(GATES)))}

#: Letters that would act on a terminal instead of being shown: controls, and marks that turn the reading direction.
_ACTING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_STYLES: Final = {"routed": "green", "waiting": "yellow"}


def explain(
    dsn: str,
    task_id: str,
    *,
    pool: str | None = None,
    mode: str | None = "live",
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> list[dict[str, Any]]:
    """Give everything that was decided about a task, oldest first; nothing when the audit does not know it.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with _asking(dsn, timeouts) as connection:
        return _explained(connection, task_id, pool=pool, mode=mode)


def explain_why_not(
    dsn: str,
    task_id: str,
    model: str,
    rulebook: Rulebook,
    *,
    pool: str | None = None,
    mode: str | None = "live",
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> tuple[dict[str, Any], WhyNot] | None:
    """Give the last decision that chose or waited, and why not that model; None when the audit knows no such task.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with _asking(dsn, timeouts) as connection:
        told = _explained(connection, task_id, pool=pool, mode=mode)
        decision = next((one for one in reversed(told) if one["outcome"] in ("routed", "waiting")), None)
        if decision is None:
            return None
        of = {name: decision[name] for name in ("journal", "pool", "partition", "seq", "tenant_id", "decision_id")}
        said = connection.execute(QUERIES["marks_before"], of | {"rows_max": ROWS_MAX}).fetchall()
        left = connection.execute(QUERIES["credit_before"], of).fetchone()
    asked = next(
        (
            dict(one["asked"])
            for one in told
            if one["asked"] and (one["journal"], one["pool"]) == (of["journal"], of["pool"])
        ),
        None,
    )
    ruled_out = asked.pop("refused", {}) if asked is not None else {}
    marked = [(Millis(round(at.timestamp() * 1000)), msgspec.convert(event, MarkingControl)) for event, at in said]
    case = Case(
        decision=decision,
        decided_ms=to_millis(decision["decided_at"]),
        task=_task(decision, asked) if asked is not None else None,
        ruled_out=ruled_out,
        marks=marks_of(marked, decision["pool"], rulebook),
        available_uusd=None if left is None else round(left[0] * 1_000_000),
        rulebook=rulebook,
    )
    return decision, why_not(model, case)


def tell(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn rows of the query `explain` into plain data: what JSON can hold, alternatives as a list, work apart."""
    return [_told({key: _plain(value) for key, value in row.items()}) for row in rows]


def render(told: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out what `tell` gave, for a terminal: a decision a block, its sentence first, then every model's verdict."""
    history = Table.grid(padding=(0, 0, 1, 0))
    for one in told:
        block = Table.grid()
        block.add_row(_heading(one))
        block.add_row(Text(f"  {shown(one['reason'])}"))
        for facts in filter(None, (_asked(one), _facts(one), _cost(one))):
            block.add_row(Text(f"  {facts}", style="dim"))
        block.add_row(_verdicts(one["alternatives"]))
        if one["work"] is not None:
            block.add_row(Text(f"  {_work(one['work'])}"))
        if one["money"]:
            block.add_row(Text(f"  {_money(one['money'])}"))
        history.add_row(block)
    return history


def render_why_not(decision: Mapping[str, Any], answer: WhyNot) -> Text:
    """Lay out an answer, for a terminal."""
    text = Text(f"{decision['decided_at']}  ", style="bold")
    text.append(f"{shown(answer.model)}: {shown(answer.gate)}\n", style="bold")
    text.append(f"  {shown(answer.says)}\n")
    if answer.flip:
        text.append("  What would change it: ", style="green")
        text.append(f"{shown(answer.flip)}\n")
    for more in answer.then:
        text.append(f"  That alone would not do: {shown(more)}\n")
    for note in answer.notes:
        text.append(f"  {shown(note)}\n", style="dim")
    text.rstrip()
    return text


def shown(text: object) -> str:
    """Give a text of strangers for a terminal: what would act on it is spelled out."""
    return _ACTING.sub(lambda found: f"\\u{ord(found.group()):04x}", str(text))


@contextmanager
def _asking(dsn: str, timeouts: Timeouts) -> Iterator[Connection[TupleRow]]:
    with connect(dsn, timeouts, application="slotwise explain") as connection:
        try:
            yield connection
        except (errors.UndefinedTable, errors.UndefinedColumn):
            raise DatabaseError(
                "This database has no audit yet, or one of an older version: run `slotwise db migrate` first."
            ) from None
        except errors.InsufficientPrivilege:
            raise DatabaseError("This login may not read the audit: GRANT slotwise_read to it.") from None
        except psycopg.Error as error:
            raise DatabaseError(f"The audit could not be read: {sentence(error)}.") from error


def _explained(
    connection: Connection[TupleRow], task_id: str, *, pool: str | None, mode: str | None
) -> list[dict[str, Any]]:
    found = connection.cursor(row_factory=dict_row).execute(
        QUERIES["explain"], {"task_id": task_id, "pool": pool, "mode": mode, "rows_max": ROWS_MAX}
    )
    return tell(found.fetchall())


def _task(decision: Mapping[str, Any], asked: Mapping[str, Any]) -> TaskPending:
    """The task, as far as gates look at it."""
    named = ("task_id", "pool", "at", "priority", "lane", "agent_role", "task_type", "tenant_id", "complexity")
    return msgspec.convert({name: decision[name] for name in named} | dict(asked), TaskPending)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    work = {key.removeprefix("work_"): row.pop(key) for key in list(row) if key.startswith("work_")}
    alternatives = [
        {"model": model, **verdict, "means": MEANINGS.get(verdict.get("gate", ""), "")}
        for model, verdict in row["alternatives"].items()
    ]
    alternatives.sort(key=lambda one: (_ORDER.get(one.get("gate", ""), len(_ORDER)), one["model"]))
    return {
        **row,
        "alternatives": alternatives,
        "work": work if work.get("status") is not None else None,
        "money": row["money"] or [],
    }


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case UUID():
            return str(value)
        case _:
            return value


def _heading(one: Mapping[str, Any]) -> Text:
    heading = Text(f"{one['decided_at']}  ", style="bold")
    heading.append(shown(one["outcome"]), style=f"bold {_STYLES.get(one['outcome'], 'red')}")
    if one["outcome"] == "routed":
        heading.append(f" to {shown(one['chosen_slot_id'])} ({shown(one['chosen_model'])}, tier {one['tier']})")
    else:
        heading.append(f" ({shown(one['reason_code'])})")
    heading.append(f"  {shown(one['task_id'])} in {shown(one['pool'])}, attempt {one['attempt']}")
    if one["mode"] != "live":
        heading.append(f"  [{one['mode']}: {shown(one['journal'])}]", style="magenta")
    return heading


def _asked(one: Mapping[str, Any]) -> str:
    asked = one["asked"]
    if not asked:
        return ""
    bars = ", ".join(f"{dimension}>={bar}" for dimension, bar in sorted(asked.get("requires", {}).items()))
    others = [
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in asked.items()
        if name not in ("requires", "refused")
    ]
    return "asked for " + shown("; ".join(filter(None, (bars, *others))))


def _facts(one: Mapping[str, Any]) -> str:
    facts = [
        f"{name} {shown(one[key])}"
        for name, key in (
            ("priority", "priority"),
            ("class", "complexity"),
            ("layer", "layer"),
            ("lane", "lane"),
            ("tenant", "tenant_id"),
            ("strategy", "strategy"),
            ("objective", "objective"),
        )
        if one[key] is not None
    ]
    if one["ev"] is not None:
        place = "" if one["ev_percentile"] is None else f", above {one['ev_percentile']:.0%} of the last hour"
        facts.append(f"EV {one['ev']:g}{place}")
    facts += [word for word in ("lifted", "fallback") if one[word]]
    facts += map(shown, one["flags"])
    return "; ".join(facts)


def _cost(one: Mapping[str, Any]) -> str:
    if one["estimated_cost_usd"] is None:
        return ""
    priced = f", by prices of {one['priced_at']}" if one["priced_at"] is not None else ""
    parts = [f"about ${one['estimated_cost_usd']:.4f}{priced}"]
    parts += [
        f"${abs(one[key]):.4f} {'less' if one[key] >= 0 else 'more'} than {what}"
        for key, what in (
            ("saved_vs_premium_usd", "premium"),
            ("saved_vs_next_free_usd", "the slot that had been free longest"),
        )
        if one[key] is not None
    ]
    return "; ".join(parts)


def _money(movements: Sequence[Mapping[str, Any]]) -> str:
    return (
        "Budget: "
        + ", ".join(f"{shown(one['kind'])} ${one['amount_usd']:.4f} at {one['at']}" for one in movements)
        + "."
    )


def _verdicts(alternatives: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("model", "verdict", "score", "which means", box=None, padding=(0, 2), header_style="dim")
    for one in alternatives:
        score = one.get("score")
        table.add_row(
            Text(shown(one["model"])),
            Text(shown(one.get("gate", "?"))),
            f"{score:g}" if isinstance(score, int | float) else "",
            Text(f"{shown(one['model'])} {one['means']}" if one["means"] else ""),
            style="bold" if one.get("gate") == "chosen" else "",
        )
    return table


def _work(work: Mapping[str, Any]) -> str:
    parts = [f"The work ended at {work['ended_at']}: {shown(work['status'])}"]
    cost = work["actual_cost_usd"] if work["actual_cost_usd"] is not None else work["cost_usd"]
    parts += [f"${cost:.4f}"] if cost is not None else []
    parts += [f"{work['latency_s']:g} s"] if work["latency_s"] is not None else []
    parts += [f"quality {work['quality']:g}"] if work["quality"] is not None else []
    parts += [{True: "accepted", False: "not accepted"}[work["accepted"]]] if work["accepted"] is not None else []
    parts += [shown(work[key]) for key in ("fit", "error_class") if work[key] is not None]
    return ", ".join(parts) + "."
