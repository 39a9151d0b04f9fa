"""Decisions as rows, the newest first: which are meant, those of the audit by key, and those of steps as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import asdict
from psycopg.rows import dict_row

from schemas.decision import Decision, Step
from schemas.vocabulary import from_millis
from streams.database.connection import DatabaseError, Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.views.explain import plain_value
from streams.views.stats import BY, MATRIX, USE

if TYPE_CHECKING:
    from psycopg import Connection

#: Stands in the sums, and in filters, for what a decision does not say.
NONE: Final = "(none)"
#: By what there are hourly sums: the filters whose values are the key.
SUMMED: Final[Mapping[str, tuple[str, ...]]] = {by: tuple(by.split(", ")) for by in (*BY, MATRIX, USE)}
#: What routed decisions alone have: sums by one of them are of these decisions only.
OF_ROUTED: Final = {"provider", "model", "tier"}
#: Names of filters that differ from those of the rows.
_COLUMNS: Final = {
    "model": "chosen_model",
    "provider": "chosen_provider",
    "reason": "reason_code",
    "role": "agent_role",
    "tenant": "tenant_id",
}
#: Filters that say between what the EV is.
_BOUNDS: Final = ("ev_from", "ev_below")
_HOUR: Final = timedelta(hours=1)
#: Before it is every decision: the end of the calendar, and the greatest id.
NEWEST: Final = ("9999-12-31T23:59:59.999Z", "ffffffff-ffff-ffff-ffff-ffffffffffff")
#: Behind it is every decision.
OLDEST: Final = ("0001-01-01T00:00:00.000Z", "00000000-0000-0000-0000-000000000000")


class Wanted(Struct, frozen=True, kw_only=True):
    """Which decisions are meant; what is not said excludes none, and `(none)` means those that do not say it."""

    pool: str | None = None
    model: str | None = None
    layer: str | None = None
    lane: str | None = None
    reason: str | None = None
    outcome: str | None = None
    tenant: str | None = None
    role: str | None = None
    provider: str | None = None
    tier: str | None = None
    complexity: str | None = None
    mode: str | None = None
    #: At or above, and below; either excludes what has no EV.
    ev_from: float | None = None
    ev_below: float | None = None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a decision is among them."""
        return self._takes_ev(row["ev"]) and all(
            value is None or str(NONE if (said := row[_COLUMNS.get(name, name)]) is None else said) == value
            for name, value in asdict(self).items()
            if name not in _BOUNDS
        )

    def _takes_ev(self, ev: float | None) -> bool:
        if ev is None:
            return self.ev_from is None and self.ev_below is None
        return (self.ev_from is None or ev >= self.ev_from) and (self.ev_below is None or ev < self.ev_below)

    def sums(self) -> dict[str, list[str]]:
        """Return the keys of the hourly sums that count some of these decisions, by what the sums are by."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        routed = self.outcome == "routed" or any(given.get(name, NONE) != NONE for name in OF_ROUTED)
        found = {
            by: names
            for by, names in SUMMED.items()
            if given.keys() >= set(names) and (routed or not OF_ROUTED & set(names))
        }
        # Sums by more things at once say more.
        return {
            by: [given[name] for name in names]
            for by, names in found.items()
            if not any(set(names) < set(others) for others in found.values())
        }


def row_of(decision: Decision, step: Step) -> dict[str, Any]:
    """Return a decision as the audit's query has it."""
    cost = decision.estimated_cost_uusd
    return {
        "decided_at": from_millis(decision.decided_at_ms),
        "decision_id": decision.decision_id,
        "task_id": decision.task_id,
        "title": decision.title,
        "pool": decision.pool,
        "outcome": decision.outcome,
        "reason_code": decision.reason_code,
        "reason": decision.reason,
        "chosen_model": decision.chosen_model,
        "chosen_provider": decision.chosen_provider,
        "chosen_slot_id": decision.chosen_slot_id,
        "tier": decision.tier,
        "layer": decision.layer,
        "lane": decision.lane,
        "tenant_id": decision.tenant_id,
        "agent_role": decision.agent_role,
        "complexity": decision.complexity,
        "ev": decision.ev,
        "estimated_cost_usd": None if cost is None else cost / 1e6,
        "attempt": decision.attempt,
        "mode": step.mode,
        "partition": step.partition,
        "seq": step.seq,
    }


def decisions_by_time(
    dsn: Dsn | str,
    wanted: Wanted,
    *,
    behind: tuple[str, str],
    since: str | None,
    limit: int,
    timeouts: Timeouts,
    oldest_first: bool = False,
    journal: str | None = None,
) -> list[dict[str, Any]]:
    """Return decisions of the audit behind a time and an id, in order; none is earlier than `since`.

    `behind`: before it in time, or with `oldest_first` after it. `journal`: only of this one; None: of all.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or did not find them in its time.
    """
    order = {"behind": ">", "order": "ASC"} if oldest_first else {"behind": "<", "order": "DESC"}
    first, last = (max(behind[0], since or ""), NEWEST[0]) if oldest_first else (since, behind[0])
    asked = {**asdict(wanted), "journal": journal, "at": behind[0], "id": behind[1], "first": first, "last": last}
    deadline_s = time.monotonic() + timeouts.statement_s
    with connect(dsn, timeouts, application="slotwise web") as connection, reading_audit():
        cursor = connection.cursor(row_factory=dict_row)
        found: list[dict[str, Any]] = []
        for begin, end in _spans(connection, wanted, asked, since, oldest_first=oldest_first):
            if time.monotonic() > deadline_s:
                raise DatabaseError(f"They were not found within {timeouts.statement_s:.0f} s.")
            span = {"since": begin, "until": end, "rows_max": limit - len(found)}
            cursor.execute(QUERIES["decisions_by_time"].format(**order), asked | span)
            found += cursor.fetchall()
            if len(found) >= limit:
                break
    return [{name: plain_value(value) for name, value in row.items()} for row in found]


def _spans(
    connection: Connection[Any], wanted: Wanted, asked: Mapping[str, Any], since: str | None, *, oldest_first: bool
) -> list[tuple[str | None, str | None]]:
    """Return from when until when to search, in order; None: without a bound.

    Few rows may match, and the rows themselves are large: the hourly sums say in which hours there are any.
    """
    keys = wanted.sums()
    if not keys or since is None or connection.execute(QUERIES["summed"], asked).fetchone() != (True,):
        return [(since, None)]
    hours: set[datetime] | None = None
    for by, key in keys.items():
        rows = connection.execute(QUERIES["hours_with"], {**asked, "by": by, "key": key})
        these = {hour for (hour,) in rows}
        hours = these if hours is None else hours & these
    spans = [(max(plain_value(begin), since), plain_value(end)) for begin, end in _joined(sorted(hours or ()))]
    return spans if oldest_first else spans[::-1]


def _joined(hours: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Join hours that follow each other."""
    spans: list[tuple[datetime, datetime]] = []
    for hour in hours:
        begin = spans.pop()[0] if spans and spans[-1][1] == hour else hour
        spans.append((begin, hour + _HOUR))
    return spans
