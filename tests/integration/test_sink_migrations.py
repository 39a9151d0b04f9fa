"""The schema is built by numbered files, once each, on as many databases of a server as there are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.sql import SQL, Identifier

from streams.database.connection import DatabaseError
from streams.database.migrations import Migration, MigrationError, admin_sql, maintain, migrate, shipped

if TYPE_CHECKING:
    from streams.local.postgres import EmbeddedPostgres

NAMES = [migration.name for migration in shipped()]


def test_the_schema_is_built_once(database: str) -> None:
    """The second time there is nothing to do."""
    assert migrate(database) == NAMES
    assert migrate(database) == []


def test_workers_that_start_together_build_it_once(database: str) -> None:
    """One of them applies, the others wait and find it done."""
    together = threading.Barrier(3)

    def start() -> list[str]:
        together.wait(10)
        return migrate(database)

    with ThreadPoolExecutor(3) as threads:
        applied = [future.result(60) for future in [threads.submit(start) for _ in range(3)]]
    assert sorted(applied) == [[], [], NAMES]


def test_a_changed_migration_is_refused(database: str) -> None:
    """Two databases at the same number must be alike."""
    migrate(database)
    changed = [replace(shipped()[0], text=shipped()[0].text + "\n-- a thought"), *shipped()[1:]]
    with pytest.raises(MigrationError, match=r"0001_tables\.sql was changed after this database had applied it"):
        migrate(database, migrations=changed)


def test_a_database_of_a_newer_slotwise_is_left_alone(database: str) -> None:
    """Who does not know its schema does not touch it."""
    newer = Migration(len(NAMES) + 1, "0099_newer.sql", "CREATE TABLE newer ()")
    assert migrate(database, migrations=[*shipped(), newer])[-1] == "0099_newer.sql"
    with pytest.raises(MigrationError, match="it was migrated by a newer one"):
        migrate(database)


def test_a_migration_that_fails_leaves_nothing_behind(database: str) -> None:
    """The ones before it stay; it can be mended and run again."""
    migrate(database)
    broken = Migration(len(NAMES) + 1, "0099_broken.sql", "CREATE TABLE half (); SELECT no_such_thing")
    with pytest.raises(MigrationError, match=r"0099_broken\.sql failed and left nothing behind"):
        migrate(database, migrations=[*shipped(), broken])
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert migrate(database) == []


def test_partitions_are_made_ahead(database: str) -> None:
    """Today and at least seven more days have a partition without a request."""
    migrate(database)
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM generate_series(0, 7) AS ahead WHERE to_regclass("
            "'model_routing_decisions_' || to_char((now() AT TIME ZONE 'UTC')::date + ahead, 'YYYYMMDD')) IS NOT NULL"
        ).fetchone()
    assert row == (8,)


def test_what_lies_in_default_moves_to_its_day(database: str) -> None:
    """A row that came before its partition is neither lost nor doubled."""
    migrate(database)
    insert = (
        "INSERT INTO model_routing_outcomes (decision_id, partition, seq, pool, task_id, slot_id, model, lease, "
        "settled_at, at, status, mode, journal) "
        "SELECT gen_random_uuid(), 0, n, 'main', 't', 's', 'm', 1, '2020-02-29 12:00Z', now(), 'success', 'live', 'j' "
        "FROM generate_series(1, 3) AS n"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(insert)
        assert connection.execute("SELECT count(*) FROM model_routing_outcomes_default").fetchone() == (3,)
        assert maintain(database) == ["made the partitions of 2020-02-29"]
        assert connection.execute("SELECT count(*) FROM model_routing_outcomes_20200229").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM model_routing_outcomes_default").fetchone() == (0,)


def test_a_text_that_is_no_dsn_is_not_repeated(database: str) -> None:
    """There may be a password in it."""
    del database
    with pytest.raises(DatabaseError, match="is no Postgres connection string") as refusal:
        migrate("host=db password=hunter2 nonsense")
    assert "hunter2" not in str(refusal.value)


def test_a_login_without_rights_gets_the_statements_for_an_administrator(
    database: str, postgres_server: EmbeddedPostgres
) -> None:
    """The sentence holds the statements."""
    migrate(database)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS reader_login")
        admin.execute("CREATE ROLE reader_login LOGIN PASSWORD 'reader_login'")
    try:
        with pytest.raises(MigrationError, match="GRANT slotwise_migrate TO reader_login"):
            migrate(psycopg.conninfo.make_conninfo(database, user="reader_login", password="reader_login"))
    finally:
        with psycopg.connect(postgres_server.dsn, autocommit=True) as admin:
            admin.execute("DROP ROLE reader_login")


def test_what_an_administrator_runs_lets_a_plain_login_migrate(database: str) -> None:
    """The printed statements are enough, twice too, for a login that may create nothing."""
    login = 'plain "login"'
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'plain'").format(Identifier(login)))
        granted = admin.execute("SELECT FROM pg_roles WHERE rolname = 'slotwise_migrate'").fetchone() is not None
    plain = psycopg.conninfo.make_conninfo(database, user=login, password="plain")
    try:
        with pytest.raises(MigrationError) as refusal:
            migrate(plain)
        if not granted:  # another test of this server has not made the roles
            assert "--print-admin-sql" in str(refusal.value)
        assert "CONTEXT" not in str(refusal.value)
        for _ in range(2):
            with psycopg.connect(database, autocommit=True) as admin:
                admin.execute(admin_sql(plain).encode())
        assert migrate(plain) == NAMES
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(SQL("DROP OWNED BY {0}").format(Identifier(login)))
            admin.execute(SQL("DROP ROLE {}").format(Identifier(login)))


def test_a_login_that_may_make_roles_needs_no_superuser(database: str, postgres_server: EmbeddedPostgres) -> None:
    """The owner of a database, as managed services give it, can migrate it."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS owner_of_it")
        admin.execute("CREATE ROLE owner_of_it LOGIN CREATEROLE PASSWORD 'owner'")
        admin.execute(f"ALTER DATABASE {admin.info.dbname} OWNER TO owner_of_it")  # type: ignore[arg-type, unused-ignore]
        # Other tests of this server have made the roles already; who makes them is a member at once.
        if admin.execute("SELECT FROM pg_roles WHERE rolname = 'slotwise_migrate'").fetchone() is not None:
            admin.execute("GRANT slotwise_migrate TO owner_of_it")
    owner = psycopg.conninfo.make_conninfo(database, user="owner_of_it", password="owner")
    try:
        assert migrate(owner) == NAMES
        assert maintain(owner, days_ahead=15) != []
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {admin.info.dbname} OWNER TO CURRENT_USER")  # type: ignore[arg-type, unused-ignore]
            admin.execute("DROP OWNED BY owner_of_it")
        with psycopg.connect(postgres_server.dsn, autocommit=True) as admin:
            admin.execute("DROP ROLE owner_of_it")
