"""A first day: `slotwise up`, `slotwise dispatch` with three slots, and twenty jobs of two kinds of producers."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from schemas.vocabulary import INPUT_TOPICS, TASK_PENDING, from_millis
from streams.clock import SystemClock
from tests.functional.commands import until
from tests.functional.dispatching import Dispatching, finished
from tests.functional.test_http import ask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.functional.commands import Up

POOL = "first-day"
SLOTS = ("--slot", "h-1=haiku", "--slot", "h-2=haiku", "--slot", "s-1=sonnet@acct-2")

#: All wait for `go`, so that the dispatcher can be killed while three run. Then one runs until it is stopped, one takes
#: more than twice its lease, and one is refused by the vendor at first.
JOB = """#!/bin/sh
while [ ! -e go ]; do sleep 0.05; done
case $TASK_ID in
*-cancelled) sleep 1000;;
*-long) sleep 12.5;;
*-limited) if [ ! -e refused ]; then touch refused; echo '{"retry_after_s": 1}' >&3; exit 75; fi;;
esac
echo "$TASK_ID" >> done
echo '{"output_tokens": 100}'
"""


def tasks(names: Iterable[str], **fields: Any) -> list[dict[str, Any]]:
    """Make tasks of the pool."""
    at = from_millis(SystemClock().now_ms())
    return [{"task_id": f"day-{name}", "pool": POOL, "at": at, "title": f"Job {name}", **fields} for name in names]


def by_http(up: Up, wanted: list[dict[str, Any]]) -> None:
    """Submit a list, and wait for its acknowledgement."""
    status, answer = ask(up, "POST", "/tasks", wanted)
    assert (status, answer["acknowledged"]) == (202, len(wanted)), answer


def by_confluent(up: Up, wanted: list[dict[str, Any]]) -> None:
    """Send records as confluent-kafka does by default: its partitioner is not that of Kafka's Java client."""
    producer = Producer({"bootstrap.servers": up.at.broker})
    for one in wanted:
        producer.produce(TASK_PENDING, key=POOL, value=json.dumps(one))
    assert producer.flush(30) == 0


def dead_letters(up: Up) -> int:
    """Count the records of all dead-letter topics."""
    consumer = KafkaConsumer(bootstrap_servers=up.at.broker, group_id=None)
    try:
        topics = [f"{topic}.dlq" for topic in INPUT_TOPICS]
        places = [TopicPartition(topic, one) for topic in topics for one in consumer.partitions_for_topic(topic) or ()]
        assert len({place.topic for place in places}) == len(topics)
        return sum(consumer.end_offsets(places).values())
    finally:
        consumer.close()


def test_every_job_of_a_first_day_is_finished_exactly_once(own_installation: Up, tmp_path: Path) -> None:
    """Ten by HTTP, ten by confluent-kafka. The dispatcher is killed, one job cancelled, one long, one rate-limited."""
    up = own_installation
    (tmp_path / "run.sh").write_text(JOB)
    (tmp_path / "run.sh").chmod(0o755)
    words = ("--pool", POOL, *SLOTS, "--grace", "1", "--exec", "./run.sh")
    until(lambda: ask(up, "GET", "/health/ready")[0] == 200, "the HTTP API is ready")
    plain = [f"{number:02}" for number in range(17)]
    # 1. Three jobs run, and the dispatcher is killed.
    with Dispatching(up, tmp_path, *words) as dispatcher:
        by_http(up, tasks(plain[:8]))
        by_confluent(up, tasks(plain[8:]))
        dispatcher.wait_for("begun", count=3)
        dispatcher.end(signal.SIGKILL)
    # 2. It comes back, and the rest is sent.
    with Dispatching(up, tmp_path, *words) as dispatcher:
        by_http(up, [*tasks(["cancelled"], priority=90), *tasks(["limited"], priority=90)])
        by_confluent(up, tasks(["long"], priority=90, lease_s=6))
        dispatcher.wait_for("begun", count=6)
        (tmp_path / "go").touch()
        # 3. One is no longer wanted.
        dispatcher.wait_for("begun", "day-cancelled")
        assert ask(up, "DELETE", f"/tasks/day-cancelled?pool={POOL}")[0] == 202
        names = [*plain, "cancelled", "limited", "long"]
        finished(up, [f"day-{name}" for name in names])
        # 4. The day is over: what its producers read, and what ran.
        assert dispatcher.end() == 0
        ends = finished(up, [f"day-{name}" for name in names])
        assert len(ends) == 20
        assert ends.pop("day-cancelled")["status"] == "cancelled"
        assert {end["status"] for end in ends.values()} == {"success"}
        assert ends["day-limited"]["attempts"] == 1
        assert len(dispatcher.events("begun", "day-limited")) == 2
        assert ends["day-long"]["attempts"] == 1
        assert sum(end["attempts"] for end in ends.values()) == 19 + 3
        assert sorted((tmp_path / "done").read_text().split()) == sorted(ends)
    # 5. No record is in a topic that no command shows.
    listed = json.loads(up.command("dlq", "list", "--json").stdout)
    assert (dead_letters(up), listed["dead_letters"]) == (0, [])
