"""Producers and dispatchers of version 0.1.0 work unchanged: their records are read, and they can read ours.

`tests/data/wire_0_1_0` holds the schemas and the example records of that version, as they were published.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.codec import encode_event, read_event
from schemas.input import Unreadable
from schemas.json_schema import TOPICS
from schemas.vocabulary import INPUT_TOPICS, SLOT_FREED, TASK_AWAIT_SLOT, TASK_PENDING, TASK_ROUTED, from_millis
from streams.core.router import Router
from streams.partition.outputs import Outgoing, output_records
from tests.support.builders import START_MS, inputs, rulebook

OLD = Path(__file__).parents[1] / "data" / "wire_0_1_0"
EXAMPLES: dict[str, Any] = json.loads((OLD / "examples.json").read_text())
TOPIC_OF = {struct.__name__: topic for topic, structs in TOPICS.items() for struct in structs}
ASKED = [name for name in EXAMPLES if TOPIC_OF[name] in INPUT_TOPICS]


@cache
def then(topic: str) -> jsonschema.Draft202012Validator:
    """Give the validator that version 0.1.0 published for a topic."""
    return jsonschema.Draft202012Validator(json.loads((OLD / f"{topic}.schema.json").read_text()))


def sent(topic: str, record: dict[str, Any]) -> Any:
    """Read a record as a producer of then sends it."""
    pool = record.get("pool")
    return read_event(topic, pool and pool.encode(), json.dumps(record).encode(), ())


@pytest.mark.parametrize("name", ASKED)
def test_what_an_old_producer_sends_is_read(name: str) -> None:
    """Every field keeps its name, its type and its meaning; written again it is valid for who reads the old schema."""
    topic, record = TOPIC_OF[name], EXAMPLES[name]
    event = sent(topic, record)
    assert not isinstance(event, Unreadable), event
    assert type(event).__name__ == name
    again = json.loads(encode_event(event))
    assert record | again == record, "nothing that the producer did not send"
    assert again | {key: value for key, value in record.items() if key in again} == again, "nothing that it did is lost"
    then(topic).validate(again)


def test_an_old_dispatcher_does_what_is_routed_to_it_and_gives_it_back() -> None:
    """It knows the fields of then only: announces a slot, takes the task that waited, reports the outcome."""
    router, task = Router(0, rulebook()), EXAMPLES["TaskPending"]
    slot = {"slot_id": "haiku-1", "pool": "main", "model": "haiku", "at": from_millis(START_MS)}
    carried = {"ref": "x", "labels": {"a": "b"}, "payload": {"new": True}}
    first = taken(router, 0, sent(TASK_PENDING, task | carried))
    second = taken(router, 1, sent(SLOT_FREED, slot))
    (waits,), (routed,) = first, second
    assert (waits.topic, routed.topic) == (TASK_AWAIT_SLOT, TASK_ROUTED)
    for one in (waits, routed):
        then(one.topic).validate(json.loads(one.record.value))
    told = json.loads(routed.record.value)
    assert set(EXAMPLES["TaskRouted"]) <= set(told)
    outcome = {"task_id": told["task_id"], "status": "success", "input_tokens": 2100, "output_tokens": 640}
    at = from_millis(START_MS + 2_000)
    taken(router, 2, sent(SLOT_FREED, slot | {"at": at, "lease": told["lease"], "outcome": outcome}))
    assert router.task("main", task["task_id"]) is None
    assert router.state.pools["main"].finished[task["task_id"]].what == "done"


def taken(router: Router, number: int, event: Any) -> list[Outgoing]:
    """Handle one event, and give what is published of it."""
    step = router.handle(inputs(event, now_ms=START_MS + number * 1_000))
    assert step.rejected == ()
    router.apply(step)
    rows = (router.task(one.pool, one.task_id) for one in step.decisions)
    events = {(row.task.pool, row.task.task_id, row.accepted_seq): row.task for row in rows if row is not None}
    return list(output_records(step, events))
