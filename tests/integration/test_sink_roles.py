"""The audit only grows: the writer cannot read or change, readers see views, and no role can remove a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors, sql

from streams.database.migrations import migrate
from tests.support.fix_postgres import fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.rows import TupleRow

    from streams.local.postgres import EmbeddedPostgres

ROLES = ("slotwise_migrate", "slotwise_write", "slotwise_read")
TABLES = (
    "model_routing_decisions",
    "model_routing_outcomes",
    "fleet_controls_taken",
    "budget_movements",
    "journal_steps",
)
PARTITIONED = TABLES[:-1]
SUMS = ("stats_hours", "stats_waits", "stats_evs", "stats_rolled", "stats_merges", "stats_merged")

STEP = (
    "INSERT INTO journal_steps (journal, partition, seq, journal_offset, now, mode, inputs, rejected, decisions, work, "
    "record_sha256, chain_sha256) VALUES ('j', 0, {seq}, 0, now(), 'live', 1, 0, 0, 0, '\\x00', '\\x00')"
)

ALLOWED_TO_THE_WRITER = {
    "plain insert": STEP.format(seq=1),
    "insert unless there": STEP.format(seq=2) + " ON CONFLICT DO NOTHING",
}
DENIED_TO_THE_WRITER = {
    "insert with named conflict columns": STEP.format(seq=3) + " ON CONFLICT (journal, partition, seq) DO NOTHING",
    "insert with a named constraint": STEP.format(seq=4) + " ON CONFLICT ON CONSTRAINT journal_steps_pkey DO NOTHING",
    "insert returning": STEP.format(seq=5) + " RETURNING seq",
    "upsert": STEP.format(seq=6) + " ON CONFLICT (journal, partition, seq) DO UPDATE SET mode = 'x'",
}
CHANGES = {
    "update": "UPDATE {table} SET mode = 'x'",
    "delete": "DELETE FROM {table}",
    "truncate": "TRUNCATE {table}",
}


@pytest.fixture(scope="module")
def migrated(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """Give the DSN of a migrated database with one step in it; what a test does there is rolled back."""
    with fresh_database(postgres_server) as dsn:
        migrate(dsn)
        with psycopg.connect(dsn) as connection:
            connection.execute(STEP.format(seq=0))
        yield dsn


@pytest.fixture
def audit(migrated: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """Give a connection in a transaction that is rolled back after the test."""
    with psycopg.connect(migrated) as connection:
        yield connection
        connection.rollback()


def act_as(connection: psycopg.Connection[TupleRow], role: str) -> None:
    """Go on with the rights of a role and no others."""
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("statement", ALLOWED_TO_THE_WRITER.values(), ids=ALLOWED_TO_THE_WRITER.keys())
def test_the_writer_may_insert(audit: psycopg.Connection[TupleRow], statement: str) -> None:
    """What the sink needs works with INSERT alone."""
    act_as(audit, "slotwise_write")
    audit.execute(statement)


def test_the_writer_may_copy_and_learn_where_it_stands(audit: psycopg.Connection[TupleRow]) -> None:
    """COPY needs no more than INSERT; the place comes from a function."""
    act_as(audit, "slotwise_write")
    with audit.cursor().copy("COPY journal_steps FROM STDIN") as copy:
        copy.write("j\t0\t1\t1\t2026-11-21T10:00:00Z\tlive\t1\t0\t0\t0\t\\\\x00\t\\\\x00\t0\t0\tlife\t\\N\n")
    assert audit.execute("SELECT partition, seq FROM journal_standing('j')").fetchall() == [(0, 1)]
    position = audit.execute("SELECT partition, seq, journal_id FROM journal_position('j')").fetchall()
    assert position == [(0, 1, "life")]
    assert audit.execute("SELECT audit_make_partition('2020-01-01')").fetchone() == (True,)
    assert audit.execute("SELECT audit_make_partition('2020-01-01')").fetchone() == (False,)


@pytest.mark.parametrize("statement", DENIED_TO_THE_WRITER.values(), ids=DENIED_TO_THE_WRITER.keys())
def test_the_writer_may_do_nothing_that_reads(audit: psycopg.Connection[TupleRow], statement: str) -> None:
    """Naming a conflict or returning a value would read the table."""
    act_as(audit, "slotwise_write")
    with pytest.raises(errors.InsufficientPrivilege), audit.transaction():  # what fails undoes only itself
        audit.execute(statement)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("table", [*TABLES, *(f"{name}_default" for name in PARTITIONED), "budget_carried"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_role_changes_or_removes_a_row(
    audit: psycopg.Connection[TupleRow], role: str, table: str, change: str
) -> None:
    """Not even the owner of the tables."""
    act_as(audit, role)
    with pytest.raises(errors.InsufficientPrivilege), audit.transaction():
        audit.execute(change.format(table=table))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_changes_a_days_partition_directly(audit: psycopg.Connection[TupleRow], role: str) -> None:
    """What holds for the whole table holds for its parts."""
    row = audit.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relname ~ 'decisions_[0-9]+$' LIMIT 1"
    ).fetchone()
    assert row is not None
    act_as(audit, role)
    for change in CHANGES.values():
        with pytest.raises(errors.InsufficientPrivilege), audit.transaction():
            audit.execute(change.format(table=row[0]))


@pytest.mark.parametrize("role", ["slotwise_write", "slotwise_read"])
@pytest.mark.parametrize("table", [*TABLES, "schema_migrations", "audit_dropped", "budget_carried", *SUMS])
def test_tables_are_read_through_views_only(audit: psycopg.Connection[TupleRow], role: str, table: str) -> None:
    """Neither the writer nor the reader selects from a table."""
    act_as(audit, role)
    with pytest.raises(errors.InsufficientPrivilege), audit.transaction():
        audit.execute(f"SELECT * FROM {table}")


def test_the_writer_has_its_steps_taken_into_the_sums_and_does_nothing_else_with_them(
    audit: psycopg.Connection[TupleRow],
) -> None:
    """Once: the second time there is nothing left."""
    act_as(audit, "slotwise_write")
    assert audit.execute("SELECT audit_roll_up('j', 0, 10)").fetchone() == (1,)
    assert audit.execute("SELECT audit_roll_up('j', 0, 10)").fetchone() == (0,)
    for table in SUMS:
        for statement in (*CHANGES.values(), "INSERT INTO {table} DEFAULT VALUES"):
            with pytest.raises((errors.InsufficientPrivilege, errors.UndefinedColumn)), audit.transaction():
                audit.execute(statement.format(table=table))


def test_the_reader_sees_every_view_and_does_nothing_else(audit: psycopg.Connection[TupleRow]) -> None:
    """All names that begin with v_, no insert, no function of ours."""
    views = [name for (name,) in audit.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'")]
    assert "v_model_routing_decisions" in views
    act_as(audit, "slotwise_read")
    for view in views:
        assert view.startswith("v_")
        audit.execute(f"SELECT * FROM {view}").fetchall()
    for statement in (
        STEP.format(seq=9),
        "SELECT * FROM journal_standing('j')",
        "SELECT * FROM journal_position('j')",
        "SELECT audit_make_partition('2020-01-01')",
        "SELECT audit_roll_up('j', 0, 10)",
    ):
        with pytest.raises(errors.InsufficientPrivilege), audit.transaction():
            audit.execute(statement)


@pytest.mark.parametrize("role", ["slotwise_write", "slotwise_read"])
def test_only_the_migrator_makes_and_drops(audit: psycopg.Connection[TupleRow], role: str) -> None:
    """No table of one's own in the schema, no retention by who only writes or reads."""
    act_as(audit, role)
    for statement in (
        "CREATE TABLE public.mine ()",
        "DROP TABLE journal_steps",
        "SELECT audit_drop_before('2020-01-01')",
    ):
        with pytest.raises(errors.InsufficientPrivilege), audit.transaction():
            audit.execute(statement)
