"""The following of an installation leaves the event loop to others between steps, and does not let requests wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Self

import pytest

from schemas.steps import encode_step
from streams.core.router import Router
from streams.operate import following as module
from streams.operate.following import Following
from streams.partition.ports import JournalPosition
from streams.partition.recovery import Recovered
from streams.settings import Settings
from streams.shipped import file_rulebook
from tests.bench.workload import Churn

SETTINGS = Settings(partitions=1)
STEPS = 20


class OneAnswer:
    """A broker whose first answer has a whole journal; it never has more."""

    def __init__(self, *_: Any) -> None:
        router, work = Router(0, file_rulebook(SETTINGS)), Churn("main", 1_700_000_000_000)
        self.records = []
        for offset in range(STEPS):
            step = router.handle(work.arrive(5))
            router.apply(step)
            self.records.append(SimpleNamespace(offset=offset, value=encode_step(step)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    async def tail(self, *_: Any, **__: Any) -> AsyncGenerator[tuple[int, list[Any]], None]:
        """Give it."""
        yield 0, self.records
        await asyncio.Event().wait()


async def _recovered(partition: int, _journal: Any, _checkpoints: Any, make: Any) -> Recovered[Any]:
    assert partition == 0
    return Recovered(make(None), JournalPosition(0, 0), 0, None, None, None)


async def test_requests_have_their_turn_within_an_answer_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """With portions of no length each step is one: who waits for the loop sees the state after each of them."""
    monkeypatch.setattr(module, "Broker", OneAnswer)
    monkeypatch.setattr(module, "recover", _recovered)
    monkeypatch.setattr(module, "PORTION_S", 0.0)
    followed, stop, seen = Following(SETTINGS), asyncio.Event(), set[int]()
    running = asyncio.create_task(followed.run(stop))

    def reached() -> bool:
        if 0 in followed.partitions:
            seen.add(followed.partitions[0].router.seq)
        return STEPS in seen

    try:
        assert await followed.until(reached, 30)
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await running
    assert seen == set(range(STEPS + 1))
