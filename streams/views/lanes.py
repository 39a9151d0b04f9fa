"""How each lane fared in the last hour: healthy, elevated_fallback, degraded or idle, by the audit."""

from __future__ import annotations

import msgspec
from psycopg.rows import dict_row

from streams.database.connection import Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.views.explain import plain_value
from streams.views.lane_state import LaneLine


def lanes(dsn: Dsn | str, journal: str, timeouts: Timeouts) -> tuple[LaneLine, ...]:
    """Return the lanes of a journal that had decisions in the last 24 h, by name; `journal` as the audit has it.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with connect(dsn, timeouts, application="slotwise web") as connection, reading_audit():
        cursor = connection.cursor(row_factory=dict_row)
        rows = cursor.execute(QUERIES["lane_health"], {"journal": journal}).fetchall()
    return tuple(msgspec.convert({name: plain_value(value) for name, value in row.items()}, LaneLine) for row in rows)
