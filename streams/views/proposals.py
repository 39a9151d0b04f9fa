"""Whether another policy was replayed before it is activated: what `slotwise policy propose` wrote into the audit."""

from __future__ import annotations

from streams.database.connection import DEFAULT_TIMEOUTS, Timeouts
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.views.explain import asking


def was_replayed(
    dsn: Dsn | str, journal: str, *, policy: str, catalog: str, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> bool:
    """Whether the audit has a replay that was done of these, by their hashes.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    with asking(dsn, timeouts) as connection:
        row = connection.execute(
            QUERIES["was_replayed"], {"journal": journal, "policy": policy, "catalog": catalog}
        ).fetchone()
    return row is not None and bool(row[0])
