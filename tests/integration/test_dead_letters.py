"""Dead letters on real brokers: read with their marks, sent again with everything they had, and dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.dead_letters import dead_letter_headers
from schemas.vocabulary import TASK_PENDING
from streams.clock import SystemClock
from streams.operate.dead_letters import SENT_AT_ONCE, drop, named, read_dead_letters, records_at, replay
from streams.views.dead_letters import Selection
from tests.support.installation import Installation

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

OWN = (("ce_id", b"e-1"), ("x", b"\xff"))


def value(number: int) -> bytes:
    """A task that can be read."""
    return b'{"task_id":"t-%d","pool":"main","at":"2026-11-21T10:00:00Z","payload":0.10}' % number


async def test_dead_letters_are_sent_again_and_dropped_on_each_broker(
    broker: ApacheKafka | EmbeddedBroker, tmp_path: Path
) -> None:
    """More than are sent at once, from both partitions; copies are sent once, and what is dropped not at all."""
    count = SENT_AT_ONCE + 20
    async with Installation(broker.address, tmp_path) as installation:
        settings = installation.settings
        for number in range(count):
            headers = dead_letter_headers(TASK_PENDING, number % 2, number, f"Reason {number}.", OWN)
            for _ in range(2 if number < 3 else 1):
                await installation.send(
                    "task.pending.dlq", value(number), b"main", headers=headers, partition=number % 2
                )
        await installation.send("task.pending.dlq", b"{", b"main", headers=OWN, partition=0)
        found = await read_dead_letters(settings)
        now_ms = SystemClock().now_ms()
        assert found.new(now_ms).count == count + 1
        dropped = named(found, ["task.pending/0/0"])
        assert (await drop(settings, found, dropped, by="ann", because="a test")).done == 1
        found = await read_dead_letters(settings)
        done = await replay(settings, found, found.views(now_ms, Selection(state="new")), by="bob")
        assert (done.done, done.not_done) == (count - 1, 1)
        found = await read_dead_letters(settings)
        states = [one.state for one in found.views(now_ms)]
        assert {state: states.count(state) for state in states} == {"new": 1, "dropped": 1, "replayed": count - 1}
        (left,) = found.views(now_ms, Selection(state="new"))
        assert [one.value for one in await records_at(settings, [left])] == [b"{"]
        # Of one partition only the latest records are looked at, with their marks.
        late = (await read_dead_letters(settings, last=150)).views(now_ms)
        assert 60 < len(late) < 100
        assert [one for one in late if one.state == "new"] == [left]
        sent = await installation.records(installation.names.of(TASK_PENDING))
    assert sorted(record.value for record in sent) == sorted(value(number) for number in range(1, count))
    assert {(record.partition, record.key, tuple(record.headers)) for record in sent} == {
        (installation.home(b"main"), b"main", OWN)
    }
