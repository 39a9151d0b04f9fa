"""How each lane fared in the last hour: healthy, elevated_fallback, degraded or idle, by the audit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg.rows import dict_row

from streams.database.connection import Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.secret import Dsn


def lanes(dsn: Dsn | str, journal: str, timeouts: Timeouts) -> list[dict[str, Any]]:
    """Return the lanes of a journal that had decisions in the last 24 h, by name; `journal` as the audit has it.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with connect(dsn, timeouts, application="slotwise web") as connection, reading_audit():
        cursor = connection.cursor(row_factory=dict_row)
        rows = cursor.execute(QUERIES["lane_health"], {"journal": journal}).fetchall()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Decimal():
            return float(value)
        case _:
            return value
