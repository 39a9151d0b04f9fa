"""Connections to Postgres: every wait is bounded, and no error message contains a password.

A DSN is given as a `Dsn`, and revealed here; one without a password may be plain text.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

import psycopg
from msgspec import Struct
from psycopg import conninfo, errors

from streams.errors import MISTAKE, UNREACHABLE, SlotwiseError
from streams.secret import Dsn
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg.rows import TupleRow


class DatabaseError(SlotwiseError):
    """The audit database cannot be used; the message says why and what to do."""


class DatabaseUnreachable(DatabaseError):
    """Postgres does not answer, refuses the login or broke the connection."""

    exit_code = UNREACHABLE


class NoDsnError(DatabaseError):
    """The database setting cannot be read; the message does not repeat it, because it may hold a password."""

    exit_code = MISTAKE

    def __init__(self) -> None:
        super().__init__(
            "The database setting is no Postgres connection string: write it as postgresql://user@host:5432/name, "
            "with / : @ in a password as %2F %3A %40."
        )


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long each kind of wait for Postgres may take."""

    connect_s: int
    statement_s: float
    silence_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Read them from the settings."""
        return cls(
            connect_s=settings.database_connect_timeout_s,
            statement_s=settings.database_statement_timeout_s,
            silence_s=settings.database_silence_timeout_s,
        )

    @property
    def transaction_s(self) -> float:
        """How long a transaction may take that has to connect first."""
        return self.connect_s + self.statement_s + self.silence_s


DEFAULT_TIMEOUTS: Final = Timeouts.of(Settings())

_LIMITS: Final = (
    "SELECT set_config('statement_timeout', %(statement)s, false), "
    # A frozen client must not keep its locks: the server ends its open transaction.
    "set_config('idle_in_transaction_session_timeout', %(statement)s, false)"
)


def parameters(dsn: Dsn | str, timeouts: Timeouts, application: str) -> dict[str, str]:
    """Add time-outs against a silent network to a DSN; the DSN's own parameters win.

    Raises:
        DatabaseError: the text is no DSN. The message does not repeat it: it may contain a password.
    """
    text = dsn.reveal() if isinstance(dsn, Dsn) else dsn
    try:
        given = {key: str(value) for key, value in conninfo.conninfo_to_dict(text).items() if value is not None}
    except (psycopg.Error, ValueError):  # also what no text of Postgres may hold: NUL, halves of a UTF-16 pair
        raise NoDsnError from None
    # A password that is not percent-encoded is read as host, port or name, which messages repeat.
    if "@" in given.get("host", "") + given.get("dbname", "") or not re.fullmatch("[0-9,]*", given.get("port", "")):
        raise NoDsnError
    return {
        "connect_timeout": str(timeouts.connect_s),
        "tcp_user_timeout": str(int(timeouts.silence_s * 1000)),
        # While a query runs no data is unacknowledged, so only keep-alive probes notice a dead peer.
        "keepalives": "1",
        "keepalives_idle": str(max(1, int(timeouts.silence_s))),
        "keepalives_interval": "1",
        "keepalives_count": "3",
        "application_name": application,
        "client_encoding": "utf8",
        **given,
    }


def limits(timeouts: Timeouts) -> tuple[str, Mapping[str, str]]:
    """Return the statement that sets the statement time-out of a connection; SQL, so that a pooler passes it on."""
    return _LIMITS, {"statement": str(int(timeouts.statement_s * 1000))}


def connect(
    dsn: Dsn | str, timeouts: Timeouts = DEFAULT_TIMEOUTS, *, application: str = "slotwise"
) -> psycopg.Connection[TupleRow]:
    """Open a connection in autocommit mode.

    Raises:
        DatabaseUnreachable: Postgres does not answer, or refuses the login.
    """
    known = parameters(dsn, timeouts, application)
    try:
        connection = psycopg.connect(conninfo.make_conninfo("", **known), autocommit=True)
    except psycopg.OperationalError as error:
        # libpq ends with the same question, in more lines.
        said = sentence(error).partition(" Is the server running")[0]
        raise DatabaseUnreachable(
            f"{where(known)} cannot be reached: {said}. Is it running, and is the setting right?"
        ) from None
    try:
        connection.execute(*limits(timeouts))
    except psycopg.Error:
        connection.close()
        raise
    return connection


async def connect_async(
    dsn: Dsn | str, timeouts: Timeouts = DEFAULT_TIMEOUTS, *, application: str = "slotwise"
) -> psycopg.AsyncConnection[TupleRow]:
    """Open a connection in autocommit mode, as `connect` does; database errors are passed on as they are."""
    known = parameters(dsn, timeouts, application)
    connection = await psycopg.AsyncConnection.connect(conninfo.make_conninfo("", **known), autocommit=True)
    try:
        await connection.execute(*limits(timeouts))
    except BaseException:
        await connection.close()
        raise
    return connection


def where(known: Mapping[str, str]) -> str:
    """Name a database for people, without its password."""
    host, port, name = (
        known.get("host", "the local socket"),
        known.get("port", "5432"),
        known.get("dbname", "(default)"),
    )
    return f"Postgres at {host}:{port}, database {name},"


@contextmanager
def reading_audit() -> Iterator[None]:
    """Turn what fails in a query of the audit's views into an error that says what to do.

    Raises:
        DatabaseError: there is no audit, this login may not read it, or the query failed.
    """
    try:
        yield
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction):
        raise DatabaseError(
            "This database has no audit yet, or one of an older version: run `slotwise db migrate` first."
        ) from None
    except errors.InsufficientPrivilege:
        raise DatabaseError("This login may not read the audit: GRANT slotwise_read to it.") from None
    except psycopg.Error as error:
        raise failure("The audit could not be read", error) from error


def failure(what: str, error: psycopg.Error) -> DatabaseError:
    """Return the error for a failed statement; `what` names what could not be done."""
    kind = DatabaseUnreachable if isinstance(error, psycopg.OperationalError) else DatabaseError
    return kind(f"{what}: {sentence(error)}.")


def sentence(error: BaseException) -> str:
    """Return the message of Postgres or of the network as one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
