"""Why a task was routed or waits: every decision about it, in order, from the audit.

`explain` queries the database and returns plain values for terminal, JSON and pages; `plain` makes them from rows;
`explain_why_not` collects the input of `why_not.py`. It reads views only, so that a login with slotwise_read is enough.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, get_args
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg.rows import dict_row

from schemas.events import TaskPending
from schemas.vocabulary import Millis, to_millis
from streams.core.policy.rules import RULES
from streams.core.step.controls import MarkingControl
from streams.database.connection import DEFAULT_TIMEOUTS, Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.views.recorded import Recorded, marks_of
from streams.views.why_not import WhyNot, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg import Connection
    from psycopg.rows import TupleRow

    from streams.core.policy.rulebook import Rulebook

ROWS_MAX: Final = 1_000

#: Meaning of a verdict, as the end of "opus ..."; the model that passed the most gates is first.
MEANINGS: Final[Mapping[str, str]] = {
    "chosen": "took the task",
    "ok": "would have done as well",
    "busy": "would have done, but had no free slot",
    "lost": "would have done, but its slots were lost",
    **{rule.gate: rule.means for rule in reversed(RULES)},
}
#: Kinds of the operators' events that set or end marks.
_MARKING: Final = [kind.__struct_config__.tag for kind in get_args(MarkingControl)]
_ORDER: Final = {verdict: place for place, verdict in enumerate(MEANINGS)}


def explain(
    dsn: Dsn | str,
    task_id: str,
    *,
    pool: str | None = None,
    mode: str | None = "live",
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> list[dict[str, Any]]:
    """Return every decision about a task, oldest first; none when the audit does not know the task.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with asking(dsn, timeouts) as connection:
        return _explained(connection, task_id, pool=pool, mode=mode)


def explain_why_not(
    dsn: Dsn | str,
    task_id: str,
    model: str,
    rulebook: Rulebook,
    *,
    pool: str | None = None,
    mode: str | None = "live",
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> tuple[dict[str, Any], WhyNot] | None:
    """Return the last decision that routed or waited, and why not that model; None when the audit has no such task.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with asking(dsn, timeouts) as connection:
        history = _explained(connection, task_id, pool=pool, mode=mode)
        decision = _placed(history)
        if decision is None:
            return None
        recorded = _recorded(connection, history, decision, rulebook)
    return decision, why_not(model, recorded)


class Explained(Struct, frozen=True, kw_only=True):
    """Every decision about a task, and of one of them why not each other model."""

    history: list[dict[str, Any]] = []
    #: The one that was asked about; None: the audit has none that routed or waited.
    decision: dict[str, Any] | None = None
    why_not: dict[str, WhyNot] = {}


def explain_whole(
    dsn: Dsn | str,
    task_id: str,
    rulebook: Rulebook,
    *,
    pool: str | None = None,
    decision_id: str | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Explained:
    """Return the decisions, and why not each model of fleet and catalogue in the last one or in that of an id.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with asking(dsn, timeouts) as connection:
        history = _explained(connection, task_id, pool=pool, mode="live")
        named = (one for one in history if str(one["decision_id"]) == decision_id)
        decision = next(named, None) if decision_id is not None else _placed(history)
        if decision is None or decision["outcome"] not in ("routed", "waiting"):
            return Explained(history=history, decision=None, why_not={})
        recorded = _recorded(connection, history, decision, rulebook)
    models = dict.fromkeys((*recorded.gates, *rulebook.models))
    return Explained(history=history, decision=decision, why_not={one: why_not(one, recorded) for one in models})


def _placed(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the last decision that routed or waited."""
    return next((one for one in reversed(history) if one["outcome"] in ("routed", "waiting")), None)


def _recorded(
    connection: Connection[TupleRow],
    history: Sequence[Mapping[str, Any]],
    decision: Mapping[str, Any],
    rulebook: Rulebook,
) -> Recorded:
    """Return a decision with the marks and the credit of its time, and what its task asked for."""
    of = {name: decision[name] for name in ("journal", "pool", "partition", "seq", "tenant_id", "decision_id")}
    said = connection.execute(QUERIES["marks_before"], of | {"kinds": _MARKING, "rows_max": ROWS_MAX}).fetchall()
    left = connection.execute(QUERIES["credit_before"], of).fetchone()
    asked = next(
        (
            dict(one["asked"])
            for one in history
            if one["asked"] and (one["journal"], one["pool"]) == (of["journal"], of["pool"])
        ),
        None,
    )
    ruled_out = asked.pop("refused", {}) if asked is not None else {}
    marked = [(Millis(round(at.timestamp() * 1000)), msgspec.convert(event, MarkingControl)) for event, at in said]
    return Recorded(
        decision=decision,
        decided_ms=to_millis(decision["decided_at"]),
        task=_task(decision, asked or {}),
        is_known=asked is not None,
        ruled_out=ruled_out,
        marks=marks_of(marked, decision["pool"], rulebook),
        available_uusd=None if left is None else round(left[0] * 1_000_000),
        rulebook=rulebook,
    )


def plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make plain values for JSON from rows of the query `explain`: alternatives as a list, the work apart."""
    return [_entry({key: plain_value(value) for key, value in row.items()}) for row in rows]


def alternatives_of(verdicts: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdicts of a decision as a list with their meanings, the model that passed the most gates first."""
    found = [
        {"model": model, **verdict, "means": MEANINGS.get(verdict.get("gate", ""), "")}
        for model, verdict in verdicts.items()
    ]
    return sorted(found, key=lambda one: (_ORDER.get(one.get("gate", ""), len(_ORDER)), one["model"]))


@contextmanager
def asking(dsn: Dsn | str, timeouts: Timeouts) -> Iterator[Connection[TupleRow]]:
    """Give a connection for queries of the audit's views.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with connect(dsn, timeouts, application="slotwise explain") as connection, reading_audit():
        yield connection


def _explained(
    connection: Connection[TupleRow], task_id: str, *, pool: str | None, mode: str | None
) -> list[dict[str, Any]]:
    found = connection.cursor(row_factory=dict_row).execute(
        QUERIES["explain"], {"task_id": task_id, "pool": pool, "mode": mode, "rows_max": ROWS_MAX}
    )
    history = plain(found.fetchall())
    again = connection.cursor(row_factory=dict_row).execute(
        QUERIES["sent_again"], {"task_id": task_id, "pool": pool, "mode": mode, "rows_max": ROWS_MAX}
    )
    _attach(history, again.fetchall(), "sent_again", ("at", "ended", "ended_at"))
    if history:
        orders = connection.cursor(row_factory=dict_row).execute(
            QUERIES["orders_about"],
            {"task_id": task_id, "pool": pool, "mode": mode, "since": history[0]["decided_at"], "rows_max": ROWS_MAX},
        )
        _attach(history, orders.fetchall(), "orders", ("kind", "by", "at"))
    _follow_up(history)
    return history


def _attach(
    history: Sequence[dict[str, Any]], rows: Sequence[Mapping[str, Any]], what: str, fields: Sequence[str]
) -> None:
    """Put each of these rows to the last decision before it, under that name."""
    for one in rows:
        of = [
            decision
            for decision in history
            if (decision["journal"], decision["pool"]) == (one["journal"], one["pool"])
            and decision["seq"] <= one["seq"]
        ]
        if of:
            of[-1][what].append({name: plain_value(one[name]) for name in fields})


def _follow_up(history: Sequence[dict[str, Any]]) -> None:
    """Say of each routed decision whether its work came to no report, of each cancel which slot was asked to stop."""
    for place, one in enumerate(history):
        routed, ended_at = one["outcome"] == "routed", (one["work"] or {}).get("ended_at")
        later = (
            other
            for other in history[place + 1 :]
            if (other["journal"], other["pool"]) == (one["journal"], one["pool"])
        )
        after = next(later, None)
        one["is_lost"] = routed and ended_at is None and after is not None and after["attempt"] > one["attempt"]
        for order in one["orders"]:
            ran = routed and order["kind"] == "task.cancelled" and (ended_at is None or ended_at > order["at"])
            order["asked"] = one["chosen_slot_id"] if ran else None


def _task(decision: Mapping[str, Any], asked: Mapping[str, Any]) -> TaskPending:
    """Return the fields of the task that the gates read."""
    named = ("task_id", "pool", "at", "priority", "lane", "agent_role", "task_type", "tenant_id", "complexity")
    return msgspec.convert({name: decision[name] for name in named} | dict(asked), TaskPending)


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    work = {key.removeprefix("work_"): row.pop(key) for key in list(row) if key.startswith("work_")}
    return {
        **row,
        "alternatives": alternatives_of(row["alternatives"]),
        "work": work if work.get("status") is not None else None,
        "money": row["money"] or [],
        #: When the task was sent again after its end and ignored; orders about it; whether the work of a routed one
        #: came to no report. They are filled in from other rows.
        "sent_again": [],
        "orders": [],
        "is_lost": False,
    }


def plain_value(value: Any) -> Any:
    """Return a value of Postgres for JSON: times in UTC with `Z`, numbers, texts."""
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
