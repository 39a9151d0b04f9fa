"""The queries of docs/audit.md and docs/analytics.md run, with the rights that they name."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from streams.database.migrations import migrate
from streams.database.sql import QUERIES

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "audit.md").read_text() + (DOCS / "analytics.md").read_text()
BLOCKS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


def test_every_query_of_the_page_runs(database: str) -> None:
    """Questions as a reader of views, maintenance as the migrator."""
    migrate(database)
    asked = 0
    for block in BLOCKS:
        if "CREATE ROLE" in block:
            continue
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("SET ROLE slotwise_read")
            for statement in filter(str.strip, block.split(";")):
                connection.execute(statement.encode())
                asked += 1
    assert asked >= 13


def test_every_named_query_of_a_reader_runs(database: str) -> None:
    """Those that ask, with the reader's rights only."""
    migrate(database)
    named = {"journal": None, "task_id": "t-1", "pool": None, "mode": "live", "rows_max": 10}
    named |= {"partition": 0, "from_seq": 0, "to_seq": 9}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET ROLE slotwise_read")
        for name in ("explain", "check", "gaps", "disagreements", "stands", "steps_between", "decisions_between"):
            query = QUERIES[name]
            wanted = {key: value for key, value in named.items() if f"%({key})s" in query}
            connection.execute(query, wanted or None)


def test_every_view_stands_on_the_page(database: str) -> None:
    """Every view is documented, on one page or the other."""
    migrate(database)
    with psycopg.connect(database) as connection:
        for (view,) in connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'"):
            assert f"`{view}`" in TEXT
