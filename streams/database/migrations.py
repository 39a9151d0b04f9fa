"""Migrates the audit database to the schema of this slotwise, and makes its daily partitions ahead of time.

Migrations are numbered SQL files that only add; each runs once, in a transaction of its own, as slotwise_migrate.
`schema_migrations` records each one with its checksum. A file that was changed afterwards is refused: two databases
with the same number would differ.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from importlib.resources import files
from typing import TYPE_CHECKING, Final, cast

import psycopg
from msgspec import Struct
from psycopg import errors

from streams.database import sql
from streams.database.connection import (
    DEFAULT_TIMEOUTS,
    DatabaseError,
    Timeouts,
    connect,
    failure,
    parameters,
    sentence,
)
from streams.secret import Dsn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg.rows import TupleRow

DAYS_AHEAD: Final = 14
#: Two migrations of one database must not run at once. Any constant will do that no other program uses.
_LOCK: Final = 7_305_808_869
_LOCK_WAIT_S: Final = 60
#: Rows that one transaction takes into the hourly sums: a second or two of work.
ROLL_UP_ROWS: Final = 10_000
#: Hours and days that one transaction merges.
MERGE_SPANS: Final = 5
_MERGE_ALL: Final = "SELECT audit_merge(%s, %s, interval '100 years', interval '5 minutes')"


class MigrationError(DatabaseError):
    """The schema of the audit database cannot be brought up to date; the message says why and what to do."""


class Migration(Struct, frozen=True):
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def shipped() -> tuple[Migration, ...]:
    """Return the migrations of this slotwise, in order.

    Raises:
        MigrationError: two files share a number, or one is missing.
    """
    folder = files(sql.__name__).joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = tuple(Migration(int(name[:4]), name, folder.joinpath(name).read_text("utf-8")) for name in names)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"The migrations {', '.join(names)} are not numbered 0001, 0002, ...: rename them.")
    return found


def migrate(
    dsn: Dsn | str,
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    migrations: Sequence[Migration] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Apply missing migrations and make the partitions of the days to come; return the names of those applied.

    Steps that are not in the hourly sums yet are taken in, in short transactions, beside which a sink can write;
    `progress` is called with their number so far.

    Safe to call at every start and from several places at once. The caller must be a member of slotwise_migrate. The
    first time, on a server without slotwise's roles, it must be allowed to create roles.

    Raises:
        MigrationError: roles are missing, a migration was changed or fails, or the database is too new.
        DatabaseError: Postgres cannot be reached.
    """
    wanted = shipped() if migrations is None else migrations
    with connect(dsn, timeouts, application="slotwise migrate") as connection:
        _wait_alone(connection)
        _ensure_roles(connection)
        connection.execute("SET ROLE slotwise_migrate")
        connection.execute("SET search_path = public")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = _applied(connection)
        _check(wanted, applied)
        missing = [migration for migration in wanted if migration.number not in applied]
        for migration in missing:
            _apply(connection, migration)
        connection.execute("SELECT audit_make_partitions(%s)", [DAYS_AHEAD])
        _roll_up(connection, progress)
        _merge(connection)
    return [migration.name for migration in missing]


def admin_sql(dsn: Dsn | str) -> str:
    """Return what an administrator runs once in the database, so that the login of this DSN may migrate it.

    Raises:
        NoDsnError: the text is no DSN.
    """
    found = parameters(dsn, DEFAULT_TIMEOUTS, "slotwise migrate")
    login = found.get("user") or os.environ.get("PGUSER") or getpass.getuser()
    quoted = login.replace('"', '""')
    return f'{sql.read("roles.sql").rstrip()}\nGRANT slotwise_migrate TO "{quoted}";'


def maintain(
    dsn: Dsn | str,
    *,
    days_ahead: int = DAYS_AHEAD,
    keep_days: int | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> list[str]:
    """Make the partitions of the days ahead, and drop whole days older than `keep_days` if given; return a report.

    Raises:
        DatabaseError: Postgres cannot be reached, the schema is not there, or a reader holds a table for too long.
    """
    with connect(dsn, timeouts, application="slotwise maintain") as connection:
        _wait_alone(connection)
        try:
            connection.execute("SET ROLE slotwise_migrate")
            done = [
                f"made the partitions of {day}"
                for (day,) in connection.execute("SELECT audit_make_partitions(%s)", [days_ahead])
            ]
            if keep_days is not None:
                dropped = connection.execute(
                    "SELECT audit_drop_before((now() AT TIME ZONE 'UTC')::date - %s)", [keep_days]
                )
                done += [f"dropped {name}" for (name,) in dropped]
                connection.execute("SELECT audit_drop_stats_before((now() AT TIME ZONE 'UTC')::date - %s)", [keep_days])
        except errors.UndefinedFunction:
            raise MigrationError("This database has no audit schema yet: run `slotwise db migrate` first.") from None
        except errors.LockNotAvailable:
            raise DatabaseError(
                "A long query has been reading or writing the audit, and its partitions could not be "
                "changed meanwhile. Nothing is lost; run it again when the long query is over."
            ) from None
        except psycopg.Error as error:
            raise failure("The maintenance stopped", error) from error
    return done


def _roll_up(connection: psycopg.Connection[TupleRow], progress: Callable[[int], None]) -> None:
    """Take what no sink has taken into the hourly sums; each call is a transaction of its own."""
    # A sink has a partition's sums for as long as it writes a batch, which its own time-outs bound.
    connection.execute("SET lock_timeout = '60s'")
    taken = 0
    row = connection.execute("SELECT to_regprocedure('audit_rolled()') IS NULL").fetchone()
    if row is None or row[0]:  # the given migrations end before there are sums
        return
    try:
        behind = connection.execute(
            "SELECT journal, partition FROM audit_rolled() WHERE rolled_seq < last_seq"
        ).fetchall()
        for journal, partition in behind:
            while True:
                named = [journal, partition, ROLL_UP_ROWS]
                row = connection.execute("SELECT audit_roll_up(%s, %s, %s)", named).fetchone()
                if row is None or not row[0]:
                    break
                taken += row[0]
                progress(taken)
    except psycopg.Error as error:
        raise MigrationError(
            f"The schema is up to date, but the hourly sums are not ({error.diag.message_primary or sentence(error)}): "
            "run this again; it continues."
        ) from error


def _merge(connection: psycopg.Connection[TupleRow]) -> None:
    """Have all hours and days that are over merged; each call is a transaction of its own."""
    row = connection.execute("SELECT to_regclass('stats_merges') IS NULL").fetchone()
    if row is None or row[0]:  # the given migrations end before there are merges
        return
    try:
        for (journal,) in connection.execute("SELECT DISTINCT journal FROM stats_rolled").fetchall():
            named = [journal, MERGE_SPANS]
            while (row := connection.execute(_MERGE_ALL, named).fetchone()) is not None and row[0]:
                pass
    except psycopg.Error as error:
        raise MigrationError(
            f"The schema is up to date, but the sums of some hours are not merged ({sentence(error)}): run this again; "
            "it continues."
        ) from error


def _wait_alone(connection: psycopg.Connection[TupleRow]) -> None:
    """Take the migrations' lock; it ends with the connection, also when this process dies."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{_LOCK_WAIT_S}s"])
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    except (errors.LockNotAvailable, errors.QueryCanceled):
        raise MigrationError(
            "Another migration of this database has been running for long: wait for it to end, then try again."
        ) from None
    # From here on a long wait for a lock fails, so that writers do not queue behind it.
    connection.execute("SET lock_timeout = '5s'")


def _ensure_roles(connection: psycopg.Connection[TupleRow]) -> None:
    try:
        connection.execute(sql.read("roles.sql"))
    except errors.InsufficientPrivilege as error:
        said = sentence(error).partition(" CONTEXT:")[0].partition(" HINT:")[0]
        raise MigrationError(
            f"This login may not prepare the roles of the audit ({said}): have an administrator of the database run "
            "once what `slotwise db migrate --print-admin-sql` prints, then migrate again."
        ) from None
    row = connection.execute("SELECT pg_has_role('slotwise_migrate', 'MEMBER'), current_user").fetchone()
    if row is not None and not row[0]:
        raise MigrationError(
            f"Migrations run as slotwise_migrate, and {row[1]} is no member of it: have an administrator run "
            f"GRANT slotwise_migrate TO {row[1]}."
        )


def _applied(connection: psycopg.Connection[TupleRow]) -> dict[int, tuple[str, str]]:
    rows = cast(
        "Iterator[tuple[int, str, str]]", connection.execute("SELECT number, name, checksum FROM schema_migrations")
    )
    return {number: (name, checksum) for number, name, checksum in rows}


def _check(wanted: Sequence[Migration], applied: Mapping[int, tuple[str, str]]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, (name, checksum) in sorted(applied.items()):
        if number not in known:
            raise MigrationError(
                f"This database is at migration {name}, which this slotwise does not know: "
                "it was migrated by a newer one. Use that one."
            )
        if known[number].checksum != checksum:
            raise MigrationError(
                f"Migration {known[number].name} was changed after this database had applied it. "
                "Put it back as it was, and write the change as a new migration."
            )


def _apply(connection: psycopg.Connection[TupleRow], migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.text)
            connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.checksum],
            )
    except errors.LockNotAvailable:
        raise MigrationError(
            f"Migration {migration.name} waited for a table that is in use, gave up, and left nothing "
            "behind. Try again when the long query is over."
        ) from None
    except psycopg.Error as error:
        raise MigrationError(
            f"Migration {migration.name} failed and left nothing behind: {sentence(error)}."
        ) from error
