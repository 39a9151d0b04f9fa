"""What a worker's metrics say of its lag: inputs, outputs, tables and money, without a request to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from schemas.decision import WorkDone
from schemas.events import Outcome
from schemas.vocabulary import INPUT_TOPICS, MicroUsd, Millis
from streams import metrics
from streams.partition.input_lag import InputLag
from streams.partition.memory import MemoryJournal
from streams.partition.outputs import Outgoing
from streams.partition.ports import Behind, JournalPosition
from streams.partition.publish import Publisher
from streams.partition.step_metrics import observe
from streams.views import lag_gauges
from tests.support.builders import START_MS, decision, step
from tests.support.partition_world import World, until

PENDING = INPUT_TOPICS.index("task.pending")


def value(name: str, **labels: str) -> float | None:
    """What a metric says."""
    return metrics.REGISTRY.get_sample_value(name, labels)


async def test_inputs_are_behind_until_they_are_journaled() -> None:
    """By the end that the check of delivery saw; their age grows while nothing of them comes."""
    world = World()
    async with world.worker() as worker:
        for number in range(3):
            world.task(f"t-{number}")
        worker.check_delivery(PENDING, 3)
        world.clock.advance(7_000)
        lag_gauges.show([worker], lambda _: None, world.clock.now_ms())
        assert value("router_input_lag_records", topic="task.pending", partition="0") == 3
        assert value("router_input_lag_seconds", topic="task.pending", partition="0") == 7.0
        assert value("router_input_lag_records", topic="slot.freed", partition="0") == 0
        await world.pass_through(worker, "task.pending")
        lag_gauges.show([worker], lambda _: None, world.clock.now_ms())
        assert value("router_input_lag_records", topic="task.pending", partition="0") == 0
        assert value("router_input_lag_seconds", topic="task.pending", partition="0") == 0.0


async def test_tables_are_behind_the_journal_by_what_they_have_not_read() -> None:
    """All of it where they have none."""
    world = World()
    async with world.worker() as worker:
        await world.handle_tasks(worker, 2)
        end = worker.journal_position.offset
        for offset, want in ((None, end), (end - 1, 1), (end + 5, 0)):
            lag_gauges.show([worker], lambda _, offset=offset: offset, world.clock.now_ms())  # type: ignore[misc]
            assert value("router_tables_lag_records", partition="0") == want


async def test_a_partition_that_has_moved_away_is_reported_by_its_new_worker_only() -> None:
    """Else sums over workers would count it twice."""
    world = World()
    async with world.worker() as worker:
        lag_gauges.show([worker], lambda _: None, world.clock.now_ms())
        assert value("router_publish_lag_records", partition="0") == 0
    lag_gauges.show([], lambda _: None, world.clock.now_ms())
    for name in ("router_publish_lag_records", "router_publish_lag_seconds", "router_tables_lag_records"):
        assert value(name, partition="0") is None


def test_the_age_is_that_of_the_oldest_record_in_the_inbox_or_of_the_first_sight() -> None:
    """A record says when it came; one that was not delivered is as old as the lag."""
    lag = InputLag()
    lag.note(PENDING, 5, 1, 10_000)
    lag.note(PENDING, 9, 1, 12_000)
    assert lag.of(PENDING, 1, 0, None, 15_000) == Behind(7, 5.0)
    assert lag.of(PENDING, 1, 2, 4_000, 15_000) == Behind(7, 11.0)
    lag.note(PENDING, 9, 8, 16_000)
    assert lag.of(PENDING, 8, 0, None, 17_000) == Behind(0, 0.0)
    assert lag.of(PENDING, 8, 2, 16_500, 17_000) == Behind(2, 0.5), "delivered since the last check"


class _Progress:
    """Publishes from the beginning, and remembers nothing."""

    async def load(self) -> tuple[int, int | None] | None:
        """Nothing is published."""
        return 0, 0

    async def save(self, _position: JournalPosition, _journal_id: str | None) -> None:
        """Forget it."""


class _Stuck:
    """Outputs that are acknowledged when the test says so."""

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def send(self, outgoing: Sequence[Outgoing]) -> Sequence[Awaitable[object]]:
        """Take all."""
        self.sent += len(outgoing)
        return [self.acknowledged]


async def test_steps_are_behind_until_their_outputs_are_acknowledged() -> None:
    """The age is that of the first of them."""
    outputs = _Stuck()
    publisher = Publisher(0, MemoryJournal(), outputs, _Progress())
    assert publisher.lag(START_MS) == Behind(0, 0.0)
    await publisher.start(JournalPosition(0, 0), JournalPosition(0, 0), lambda *_: None)
    for seq in range(3):
        assert publisher.offer(seq, step(seq, decision(of=seq), now_ms=Millis(START_MS + seq * 1000)))
    await until(lambda: outputs.sent > 0)
    assert publisher.lag(START_MS + 9_000) == Behind(3, 9.0)
    outputs.acknowledged.set_result(None)
    await until(lambda: publisher.lag(START_MS) == Behind(0, 0.0))
    await publisher.stop()


def test_money_is_counted_by_what_was_decided() -> None:
    """Each routed task by how, with its estimate under three choices; each outcome with its cost."""

    def of() -> list[float]:
        choices = ("slotwise", "always_premium", "next_free")
        usd = [value("router_estimated_usd_total", pool="money", choice=choice) for choice in choices]
        return [one or 0.0 for one in (*usd, value("router_cost_usd_total", pool="money", model="haiku"))]

    before = of()
    fields = {"pool": "money", "lane": "money", "estimated_cost_uusd": 2_000_000, "saved_vs_premium_uusd": 3_000_000}
    routed = decision(outcome="routed", reason_code="cheapest_capable", saved_vs_next_free_uusd=-500_000, **fields)
    failed = decision(outcome="routed", reason_code="router_error", **{**fields, "estimated_cost_uusd": None})
    done = WorkDone(
        decision_id=routed.decision_id, pool="money", slot_id="haiku-1", model="haiku", lease=1, at_ms=Millis(START_MS),
        outcome=Outcome(task_id="t-1", status="success"), cost_uusd=MicroUsd(1_250_000),
    )  # fmt: skip
    observe(step(0, routed, failed, work=(done,)), step_bytes=1, append_s=0.0, clock_ms=Millis(START_MS))
    assert [after - was for after, was in zip(of(), before, strict=True)] == [2.0, 5.0, 1.5, 1.25]
