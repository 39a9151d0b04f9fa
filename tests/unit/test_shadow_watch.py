"""A shadow looks whether its run is over: an outage is waited out, anything else ends it with its error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from streams.settings import Settings
from streams.shadow import run as shadow_run
from streams.shadow.run import watching
from streams.shadow.store import ShadowRun
from streams.shipped import file_rulebook
from streams.sinks.guarded import GuardedConnection

RULES = file_rulebook(Settings())
RUN = ShadowRun(run="6d0c0a2e", name="p70", rulebook=RULES, live=RULES)


class Postgres:
    """A database that gives one answer after the other; errors are raised."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.opened = self.closed = 0
        self.asked = asyncio.Event()

    async def connect(self) -> AsyncConnection[TupleRow]:
        """Open a connection to it."""
        self.opened += 1
        return cast("AsyncConnection[TupleRow]", self)

    async def execute(self, *_: Any) -> Postgres:
        """Ask."""
        self.asked.set()
        return self

    async def fetchone(self) -> tuple[bool]:
        """Give the next answer."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return (answer,)

    async def close(self) -> None:
        """Close the connection to it."""
        self.closed += 1


def guarded(postgres: Postgres) -> GuardedConnection:
    """A connection that is made again after a failure."""
    connect: Callable[[], Awaitable[AsyncConnection[TupleRow]]] = postgres.connect
    return GuardedConnection(connect, name="Postgres", transaction_s_max=10)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again without a pause."""
    monkeypatch.setattr(shadow_run, "LOOK_S", 0.0)


async def test_a_run_that_is_over_ends_the_shadow_also_after_an_outage() -> None:
    """The first two questions are not answered."""
    away = psycopg.OperationalError("away")
    postgres, stop = Postgres(away, away, False, True), asyncio.Event()
    async with asyncio.timeout(10), watching(guarded(postgres), RUN, stop):
        await stop.wait()
    assert postgres.opened == postgres.closed == 3


async def test_what_no_time_would_mend_ends_the_shadow_with_its_error() -> None:
    """Not silently: else `slotwise shadow stop` would find no one who listens."""
    postgres, stop = Postgres(False, ValueError("no row of ours")), asyncio.Event()
    with pytest.raises(ValueError, match="no row of ours"):
        async with asyncio.timeout(10), watching(guarded(postgres), RUN, stop):
            await stop.wait()
    assert postgres.opened == postgres.closed == 1


async def test_a_shadow_that_ends_by_itself_leaves_no_connection_and_is_not_called_stopped() -> None:
    """Its own error is the one that is raised."""
    postgres, stop = Postgres(False), asyncio.Event()

    async def follower() -> None:
        async with watching(guarded(postgres), RUN, stop):
            await postgres.asked.wait()
            raise RuntimeError("the follower")

    with pytest.raises(RuntimeError, match="the follower"):
        await follower()
    assert postgres.opened == postgres.closed
    assert not stop.is_set()
