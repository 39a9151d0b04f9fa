"""PostgreSQL for tests: one server a run, one fresh database a test."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from streams.local.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """Give the PostgreSQL server of this run."""
    # Not under pytest's own directory, whose permissions pytest resets while another run may be using its server.
    with (
        tempfile.TemporaryDirectory(prefix="slotwise-postgres-") as directory,
        EmbeddedPostgres(Path(directory)) as server,
    ):
        yield server


@contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[str]:
    """Give the DSN of a database that is empty, and that is gone afterwards."""
    server.start()
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template1").format(sql.Identifier(name)))
    yield server.dsn_of(name)
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """Give the DSN of a database of the test's own."""
    with fresh_database(postgres_server) as dsn:
        yield dsn
