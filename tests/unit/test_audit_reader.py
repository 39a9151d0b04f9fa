"""How far the audit is, asked again and again: over one connection, and over a new one after a failure."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from streams.operate import parts
from streams.operate.parts import AuditReader
from streams.settings import Settings


class Postgres:
    """Counts connections, and answers with what stands, or fails."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.stands = {0: 6, 1: 3}
        self.failure: psycopg.Error | None = None

    def connect(self, *_: Any, **__: Any) -> Postgres:
        """Give a connection."""
        self.opened += 1
        return self

    def execute(self, _: str, named: dict[str, Any]) -> list[tuple[int, int, int]]:
        """Give the last step of each partition that was asked about."""
        if self.failure is not None:
            raise self.failure
        return [(number, seq, 0) for number, seq in self.stands.items() if number < named["partitions"]]

    def close(self) -> None:
        """End a connection."""
        self.closed += 1


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """Put it in the place of the real one."""
    made = Postgres()
    monkeypatch.setattr(parts, "connect", made.connect)
    return made


def test_it_is_asked_over_one_connection(postgres: Postgres) -> None:
    """Until it is closed; steps of the journal that are missing are counted by partition."""
    reader = AuditReader()
    for _ in range(3):
        assert reader.view(Settings(), {0: 7, 1: 9}, wait_s=0).behind == {1: 5}
    assert reader.view(Settings(), {0: 7}, wait_s=0).behind == {}
    assert (postgres.opened, postgres.closed) == (1, 0)
    reader.close()
    assert (postgres.opened, postgres.closed) == (1, 1)


def test_after_a_failure_it_is_asked_over_a_new_one(postgres: Postgres) -> None:
    """The failure is said once, in words."""
    reader = AuditReader()
    reader.view(Settings(), {0: 7}, wait_s=0)
    postgres.failure = psycopg.OperationalError("server closed the connection")
    assert "server closed the connection" in (reader.view(Settings(), {0: 7}, wait_s=0).trouble or "")
    postgres.failure = None
    assert reader.view(Settings(), {0: 7}, wait_s=0).trouble is None
    assert (postgres.opened, postgres.closed) == (2, 1)
