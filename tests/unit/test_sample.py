"""The bundled sample is the same every time, and the fleet that plays it takes each decision once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from schemas.codec import read_event, write_event
from schemas.events import Event, SlotFreed, TaskPending, TaskRouted
from schemas.input import Unreadable
from schemas.vocabulary import TASK_PENDING
from streams.core.policy.prices import Prices
from streams.core.policy.tariff import Tariff
from streams.sample import play as playing
from streams.sample.fleet import SLOTS, Fleet, draw
from streams.sample.play import engines
from streams.sample.work import tasks
from streams.settings import Settings

SAMPLE = tasks("run-1", 2_000)


def routed(
    task_id: str, *, slot_id: str = "haiku-1", model: str = "haiku", lease: int = 1, attempt: int = 1
) -> TaskRouted:
    """Build a decision, naming what matters."""
    return TaskRouted(
        decision_id=f"{task_id}:{lease}:{attempt}", task_id=task_id, pool="main", slot_id=slot_id, model=model, tier=1,
        lease=lease, lease_expires_at="2026-11-21T10:00:00.000Z", max_tokens=8192, reason="", attempt=attempt,
        decided_at="2026-11-21T10:00:00.000Z", mode="live", policy="p", catalog="c",
    )  # fmt: skip


def test_the_sample_is_the_same_every_time() -> None:
    """Two readings give the same tasks; two runs differ only by the run's name."""
    assert tasks("run-1", 2_000) == SAMPLE
    ids = {task.event.task_id for task in (*SAMPLE, *tasks("run-2", 2_000))}
    assert len(ids) == 4_000


def test_every_task_of_the_sample_is_a_valid_event() -> None:
    """The router's own reader takes each of them."""
    for task in SAMPLE:
        record = write_event(TASK_PENDING, task.event, ce_id=task.event.task_id, source="/test", time_ms=0)
        assert isinstance(read_event(TASK_PENDING, record.key, record.value, record.headers), TaskPending)


def test_the_sample_holds_work_of_every_class_and_arrives_in_order() -> None:
    """All five classes, some work without a known EV, arrivals that never go back; more tasks than calls are fine."""
    assert {task.complexity for task in SAMPLE} == {"trivial", "simple", "standard", "complex", "expert"}
    assert any(task.event.impact is None for task in SAMPLE)
    longer = tasks("run-1", 3_000)
    arrivals = [task.at_s for task in longer]
    assert arrivals == sorted(arrivals)
    assert longer[:2_000] == SAMPLE


def test_the_fleet_has_a_slot_of_every_model_of_the_catalogue() -> None:
    """What the catalogue ships can be seen at work."""
    shipped = {engine.model for engine in engines(Settings())}
    fleet = Fleet(engines(Settings()), SAMPLE)
    assert set(SLOTS) == shipped == {slot.model for slot in fleet.slots}
    assert len({slot.slot_id for slot in fleet.slots}) == len(fleet.slots) == sum(SLOTS.values())
    assert [freed.lease for freed in fleet.announcements(0)] == [None] * len(fleet.slots)


def test_a_decision_is_taken_once_and_a_stale_one_never() -> None:
    """A repetition, a lease that is not above the last one, and another pool's decision are left alone."""
    fleet = Fleet(engines(Settings()), SAMPLE)
    first = routed(SAMPLE[0].event.task_id, lease=5)
    assert fleet.take(first) is not None
    assert fleet.take(first) is None
    assert fleet.take(routed(SAMPLE[1].event.task_id, lease=4)) is None
    assert fleet.take(msgspec.structs.replace(routed(SAMPLE[2].event.task_id, lease=6), pool="elsewhere")) is None
    assert fleet.take(routed(SAMPLE[3].event.task_id, lease=6)) is not None


def test_the_work_of_a_model_without_a_price_has_no_known_cost() -> None:
    """It is not free."""
    unknown = Tariff(Prices(output_usd_per_mtok=1.0), (), (), None)
    fleet = Fleet([msgspec.structs.replace(one, tariff=unknown) for one in engines(Settings())], SAMPLE)
    work = fleet.take(routed(SAMPLE[0].event.task_id))
    assert work is not None
    assert work.outcome.cost_usd is None


def test_the_same_decision_always_ends_the_same_way() -> None:
    """Chance comes from the task and its attempt: runs can be compared, and a failed attempt may succeed next time."""
    sampled = SAMPLE[:500]
    outcomes = []
    for run in ("run-1", "run-2"):
        fleet = Fleet(engines(Settings()), tasks(run, 500))
        works = [fleet.take(routed(f"{run}-{number:05d}", lease=number + 1)) for number in range(len(sampled))]
        outcomes.append([(work.outcome.status, work.outcome.quality, work.duration_s) for work in works if work])
    assert outcomes[0] == outcomes[1]
    failed = sum(status == "failure" for status, _, _ in outcomes[0])
    assert 0 < failed < len(sampled) / 5


def test_a_slower_model_takes_longer_over_the_same_answer() -> None:
    """The duration is the recorded overhead and the answer's length at the model's speed."""
    task = max(SAMPLE, key=lambda one: one.output_tokens)
    fleet = Fleet(engines(Settings()), SAMPLE)
    quick = fleet.take(routed(task.event.task_id, slot_id="haiku-1", model="haiku"))
    slow = fleet.take(routed(task.event.task_id, slot_id="opus-1", model="opus", attempt=2))
    assert quick is not None
    assert slow is not None
    assert task.overhead_s < quick.duration_s < slow.duration_s


def test_a_draw_depends_on_its_words_alone() -> None:
    """Equal words, equal number, from 0 up to 1."""
    assert draw("a", 1) == draw("a", 1) != draw("a", 2)
    assert all(0.0 <= draw(number) < 1.0 for number in range(1_000))


class Kept:
    """A producer that keeps what it is given, and a consumer to which nothing comes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.flushed = 0

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Keep an event that the router can read."""
        event = read_event(topic, key, value, headers)
        assert not isinstance(event, Unreadable)
        self.events.append(event)

    async def flush(self) -> None:
        """Count."""
        self.flushed = len(self.events)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Give nothing, and do not end."""
        await asyncio.Event().wait()
        yield None


async def test_at_the_end_the_slots_leave_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that were announced, by a last word that gives up what they have; nothing is left that no one serves."""
    kept = Kept()

    @asynccontextmanager
    async def clients(_: Settings) -> AsyncIterator[tuple[Kept, Kept]]:
        yield kept, kept

    monkeypatch.setattr(playing, "_clients", clients)
    stop = asyncio.Event()
    running = asyncio.create_task(playing.play(Settings(), run="r", count=3, speed=1e9, stop=stop, pool="of-its-own"))
    while kept.flushed < sum(SLOTS.values()) + 3:  # noqa: ASYNC110 - the fake has no event of its own
        await asyncio.sleep(0)
    stop.set()
    await running
    assert {event.pool for event in kept.events} == {"of-its-own"}
    reports = [event for event in kept.events if isinstance(event, SlotFreed)]
    assert kept.flushed == len(kept.events)
    first, last = ({one.slot_id for one in reports if one.state == state} for state in ("free", "leaving"))
    assert first == last
    assert len(reports) == 2 * len(first) == 2 * sum(SLOTS.values())
    assert {(one.ttl_s, one.lease) for one in reports if one.state == "leaving"} == {(1.0, None)}
