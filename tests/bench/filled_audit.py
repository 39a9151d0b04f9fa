"""An audit with a day of decisions, for what reads it: made by the database in a minute, hourly sums included.

Tables, indexes, partitions and sums are those of `slotwise db migrate`; only the rows come from `filled_audit.sql`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from msgspec import Struct

from streams.database.migrations import migrate
from streams.database.sql import parse
from tests.bench.workload import MODELS, pools_at_home

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT: Final = Path(__file__).with_suffix(".sql").read_text()
STATEMENTS: Final = parse(_TEXT[_TEXT.index("-- tasks --") :])


class FilledAudit(Struct, frozen=True, kw_only=True):
    """What was made."""

    decisions: int
    outcomes: int
    steps: int
    #: Bytes of the whole database.
    size: int
    #: Making the rows, and taking them into the sums.
    rows_s: float
    sums_s: float


def fill_audit(dsn: str, journal: str, decisions: int, partitions: int, tell: Callable[[str], None]) -> FilledAudit:
    """Fill a new database with the last 24 h of an installation."""
    migrate(dsn)
    values: dict[str, Any] = {
        "decisions": decisions,
        "pools": list(pools_at_home(partitions)),
        "journal": journal,
        "alternatives": msgspec.json.encode({model: {"gate": "ok", "score": 1.25} for model in MODELS}).decode(),
    }
    begun_s = time.perf_counter()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for day in (-2, -1, 0):
            connection.execute("SELECT audit_make_partition(current_date + %s)", [day])
        for name, statement in STATEMENTS.items():
            connection.execute(statement, values)
            tell(f"{name}: {time.perf_counter() - begun_s:.0f} s")
        # As a running server would have done it meanwhile.
        connection.execute("VACUUM (ANALYZE)")
        rows_s = time.perf_counter() - begun_s
        tell(f"the rows stand: {rows_s:.0f} s; they are taken into the hourly sums")
        migrate(dsn)
        connection.execute("VACUUM (ANALYZE)")
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in ("model_routing_decisions", "model_routing_outcomes", "journal_steps")
        ]
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    (made, ended, steps) = (one[0] for one in counts if one is not None)
    return FilledAudit(
        decisions=made,
        outcomes=ended,
        steps=steps,
        size=size[0] if size is not None else 0,
        rows_s=round(rows_s, 1),
        sums_s=round(time.perf_counter() - begun_s - rows_s, 1),
    )
