"""Whatever is accepted can be stored: events at the extremes of their fields, through codec, router, journal and sinks.

The fields, their limits and so their extremes are read off the published schemas: a field that is added is covered by
itself. What the codec refuses is none of this; what it takes must be in Postgres as it was, and in the lines of a file.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from schemas.codec import read_event
from schemas.decision import Step
from schemas.event_fields import TIME_FIELDS
from schemas.events import Outcome, QuotaUpdated, SlotFreed, TaskPending
from schemas.examples import EXAMPLES
from schemas.input import Input, Unreadable
from schemas.json_schema import TOPICS as STRUCTS
from schemas.json_schema import json_schema
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, SLOT_FREED, TASK_PENDING, Millis, from_millis, to_millis
from streams.core.router import Router
from streams.database.connection import connect_async
from streams.database.migrations import migrate
from streams.partition.outputs import output_records
from streams.sinks.cursor import Cursor
from streams.sinks.jsonl import JsonLinesStore
from streams.sinks.ports import BEFORE_FIRST, JournalRecord
from streams.sinks.postgres import PostgresStore
from tests.property.test_schema_and_codec import ODD, around
from tests.support.builders import START_MS, rulebook

SCHEMAS = {topic: json_schema(topic) for topic in INPUT_TOPICS}
#: Values of other events' fields are tried as well, where this field takes them.
SPECIAL = (
    *(value for value in ODD if value is not None),
    *(
        "\\",
        "\\.",
        "\\N",
        "a\tb",
        "a\r\nb",
        "\\u0000",
        '"',
        "'",
        "{}",
        "\N{BELL}\x1b\x7f",
        "\N{GRINNING FACE}" * 128,
        "\ufffe",
    ),
    *("1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2024-02-29T23:59:59.9999Z"),
)
AT = from_millis(START_MS)
BOOK = rulebook(attempts={"back_off_s": 0.0})
MODELS = tuple(BOOK.models)


class Life:
    """A router of one partition that is given records, and the journal of its steps."""

    def __init__(self) -> None:
        self.router = Router(0, BOOK)
        self.follower = Router(0, BOOK)
        self.steps: list[Step] = []
        self.records: list[bytes] = []
        self._offsets = [0] * len(INPUT_TOPICS)
        self._now_ms = START_MS
        for place, model in enumerate(MODELS):
            self.take(SLOT_FREED, {"slot_id": f"s{place}", "pool": "main", "at": AT, "model": model, "account": "a"})

    def take(self, topic: str, *records: dict[str, Any]) -> Step | None:
        """Handle records in one step; None: none of them is accepted by the codec."""
        events = [event for record in records if not isinstance(event := read(topic, record), Unreadable)]
        if not events:
            return None
        index = INPUT_TOPICS.index(topic)
        self._now_ms += 1
        batch = []
        for event in events:
            batch.append(Input(index, self._offsets[index], Millis(self._now_ms), event))
            self._offsets[index] += 1
        step = self.router.handle(batch)
        record = encode_step(step)
        self.router.apply(step)
        self.follower.apply(decode_step(record))
        rows = (self.router.task(one.pool, one.task_id) for one in step.decisions)
        events_of = {(row.task.pool, row.task.task_id, row.accepted_seq): row.task for row in rows if row is not None}
        for outgoing in output_records(step, events_of):
            json.loads(outgoing.record.value)
        self.steps.append(step)
        self.records.append(record)
        return step

    def work(self, outcome: dict[str, Any]) -> None:
        """End the work on every slot with this outcome, and cancel what waits."""
        for pool in list(self.router.state.pools.values()):
            for slot in [slot for slot in pool.slots.values() if slot.state == "leased"]:
                at = from_millis(self._now_ms)
                report = {"slot_id": slot.slot_id, "pool": pool.name, "at": at, "lease": slot.lease}
                done = {"status": "success", **outcome, "task_id": slot.task_id}
                self.take(SLOT_FREED, report | {"outcome": done})
            for number, task_id in enumerate(list(pool.tasks)):
                fields = {"control_id": f"end-{len(self.steps)}-{number}", "by": "ops", "at": AT}
                self.take(FLEET_CONTROL, {"kind": "task.cancelled", "pool": pool.name, "task_id": task_id, **fields})

    def validate(self) -> None:
        """State, journal and snapshot agree, and whatever falls due is a time that can be written."""
        self.router.validate()
        shot = list(self.router.snapshot())
        assert shot == list(self.follower.snapshot())
        assert list(Router.restore(0, BOOK, shot).snapshot()) == shot
        due_ms = self.router.due_ms()
        assert due_ms is None or len(from_millis(due_ms)) == len(AT)


def read(topic: str, record: dict[str, Any]) -> Any:
    """Read a record under the key that belongs to it."""
    pool = record.get("pool")
    return read_event(topic, pool.encode() if isinstance(pool, str) else None, json.dumps(record).encode(), ())


def extremes(struct: type[msgspec.Struct], topic: str, base: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give each field of a struct with each extreme value that the codec takes."""
    properties = SCHEMAS[topic]["$defs"][struct.__name__]["properties"]
    for field in msgspec.structs.fields(struct):
        seen: list[str] = []
        for value in (*around(properties.get(field.encode_name, {})), *SPECIAL):
            text = repr(value)
            if text not in seen and not isinstance(read(topic, base | {field.encode_name: value}), Unreadable):
                seen.append(text)
                yield field.encode_name, value


def base_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Give the example of a struct, of this partition's time."""
    return {**json.loads(json.dumps(EXAMPLES[struct])), "at": AT}


def outcomes() -> list[dict[str, Any]]:
    """Give outcomes, each with one field at an extreme; and one with all of them."""
    slot = {"slot_id": "s0", "pool": "main", "at": AT, "lease": 1}
    properties = SCHEMAS[SLOT_FREED]["$defs"][Outcome.__name__]["properties"]
    found = []
    for field in msgspec.structs.fields(Outcome):
        for value in (*around(properties[field.encode_name]), *SPECIAL):
            outcome = {"task_id": "t", "status": "success", field.encode_name: value}
            if field.encode_name != "task_id" and not isinstance(
                read(SLOT_FREED, slot | {"outcome": outcome}), Unreadable
            ):
                found.append({field.encode_name: value})
    return found


numbers = itertools.count(1)
#: Columns that hold a field of the decision as it is in the journal.
SAME = (
    *("pool", "task_id", "outcome", "reason_code", "reason", "layer", "lane", "agent_role", "task_type", "tenant_id"),
    *("ev", "priority", "attempt", "lease", "max_tokens", "at_ms", "decided_at_ms", "strategy", "p50", "p90"),
)


def fresh(struct: type[msgspec.Struct], record: dict[str, Any], changed: Iterable[str]) -> dict[str, Any]:
    """Give the record an id of its own where that is not what is tried."""
    for name in ("task_id", "control_id"):
        if name in struct.__struct_fields__ and name not in changed:
            record = record | {name: f"n-{next(numbers)}"}
    return record


async def store(database: str, journal: str, records: list[bytes]) -> bytes:
    """Write the journal into Postgres as the sink does, and into lines; give the lines."""
    cursor = Cursor(0, BEFORE_FIRST)
    taken = [cursor.take(JournalRecord(0, place, 0, value)) for place, value in enumerate(records)]
    steps = [one for one in taken if one is not None]
    assert len(steps) == len(records)
    postgres = PostgresStore(lambda: connect_async(database), journal=journal, name="test", transaction_s_max=120.0)
    lines = io.BytesIO()
    try:
        for start in range(0, len(steps), 500):
            await postgres.write(steps[start : start + 500])
        await JsonLinesStore(lines, name="lines", resumes=False).write(steps)
    finally:
        await postgres.close()
    return lines.getvalue()


def check(database: str, journal: str, life: Life, lines: bytes) -> None:
    """What is in Postgres and in the lines is what is in the journal."""
    assert [json.loads(line)["step"]["seq"] for line in lines.splitlines()] == [step.seq for step in life.steps]
    assert lines.count(b"\n") == len(life.steps)
    with psycopg.connect(database, row_factory=dict_row, options="-c timezone=UTC") as connection:

        def ask(query: str) -> list[dict[str, Any]]:
            return connection.execute(query.encode(), (journal,)).fetchall()

        found = ask(
            "SELECT *, extract(epoch FROM at) * 1000 AS at_ms, extract(epoch FROM decided_at) * 1000 AS decided_at_ms "
            "FROM model_routing_decisions WHERE journal = %s"
        )
        rows = {str(row["decision_id"]): row for row in found}
        decisions = [decision for step in life.steps for decision in step.decisions]
        assert len(found) == len(decisions)
        for one in decisions:
            row = rows[one.decision_id]
            assert {name: row[name] for name in SAME} == {name: getattr(one, name) for name in SAME}
            assert row["alternatives"] == json.loads(bytes(one.alternatives))
        work = {one.decision_id: one for step in life.steps for one in step.work}
        done = ask("SELECT * FROM model_routing_outcomes WHERE journal = %s")
        assert len(done) == len(work)
        for row in done:
            outcome = work[str(row["decision_id"])].outcome
            for name in (
                "task_id",
                "status",
                "input_tokens",
                "output_tokens",
                "latency_s",
                "quality",
                "error_class",
                "fit",
            ):
                assert row[name] == getattr(outcome, name), name
        taken = [one for step in life.steps for one in step.controls]
        columns = "control_id, event, extract(epoch FROM at) * 1000 AS at_ms"
        controls = ask(f"SELECT {columns} FROM fleet_controls_taken WHERE journal = %s")
        events = {row["control_id"]: row for row in controls}
        assert len(events) == len(taken)
        for control in taken:
            said = json.loads(bytes(control.event))
            assert events[control.control_id]["event"] == said
            assert events[control.control_id]["at_ms"] == to_millis(said["at"])
        moved = [one for step in life.steps for one in step.money]
        money = ask("SELECT * FROM budget_movements WHERE journal = %s ORDER BY seq, place")
        assert [(row["tenant_id"], int(row["amount_usd"] * 1_000_000)) for row in money] == [
            (one.tenant_id, one.amount_uusd) for one in moved
        ]
        text = "".join(map(repr, [*found, *done, *events.values(), *money]))
        assert PAYLOAD not in text


#: Stands in payloads only, which the audit never sees.
PAYLOAD = "what-the-audit-never-sees"


@pytest.mark.rule("amend.35", "amend.44", "record.once")
@pytest.mark.parametrize(
    "struct", [struct for topic in INPUT_TOPICS for struct in STRUCTS[topic]], ids=lambda one: one.__name__
)
def test_every_accepted_extreme_of_every_field_is_stored(struct: type[msgspec.Struct], database: str) -> None:
    """Field by field: alone in an event that is ordinary besides; a task is also routed, done and paid."""
    migrate(database)
    topic = next(topic for topic in INPUT_TOPICS if struct in STRUCTS[topic])
    life, base = Life(), base_of(struct)
    if struct is TaskPending:
        base |= {"payload": {"x": PAYLOAD}}
        life.take(FLEET_CONTROL, base_of_credit("acme"))
    tried = 0
    for name, value in extremes(struct, topic, base):
        record = fresh(struct, base | {name: value}, {name})
        life.take(topic, record)
        tried += 1
        if struct is TaskPending:
            life.work({"cost_usd": 0.01})
    if struct is SlotFreed:
        for outcome in outcomes():
            life.take(TASK_PENDING, fresh(TaskPending, {"pool": "main", "at": AT}, ()))
            life.work(outcome)
            tried += 1
    assert tried > 5 * len(struct.__struct_fields__), "the extremes are found"
    life.validate()
    check(database, "j", life, asyncio.run(store(database, "j", life.records)))


def base_of_credit(tenant: str) -> dict[str, Any]:
    """Give a tenant money."""
    fields = {"control_id": f"credit-{next(numbers)}", "by": "ops", "at": AT, "pool": "main"}
    return {"kind": "budget.credited", "tenant_id": tenant, "amount_usd": 1e9, **fields}


@pytest.mark.rule("amend.35", "record.once")
def test_accepted_extremes_of_several_fields_are_stored_together(database: str) -> None:
    """Long texts beside large numbers beside the ends of time, in steps of several events, and what follows."""
    migrate(database)
    kinds = [(topic, struct) for topic in INPUT_TOPICS for struct in STRUCTS[topic]]
    choices = {struct: list(extremes(struct, topic, base_of(struct))) for topic, struct in kinds}
    ends = outcomes()
    journals = itertools.count(1)
    picks = st.lists(
        st.tuples(
            st.sampled_from(kinds).flatmap(
                lambda kind: st.tuples(
                    st.just(kind), st.lists(st.sampled_from(choices[kind[1]]), min_size=1, max_size=6)
                )
            ),
            st.lists(st.sampled_from(ends), max_size=3),
        ),
        min_size=1,
        max_size=12,
    )

    @settings(max_examples=60, derandomize=True)
    @given(picks)
    def ask(picked: list[Any]) -> None:
        life, journal = Life(), f"j{next(journals)}"
        for ((topic, struct), changes), outcome in picked:
            changed = dict(changes)
            life.take(topic, *(fresh(struct, base_of(struct) | changed, changed) for _ in range(2)))
            if outcome:
                life.work({name: value for part in outcome for name, value in part.items()})
        life.validate()
        check(database, journal, life, asyncio.run(store(database, journal, life.records)))

    ask()


def test_the_times_of_every_event_are_among_the_extremes() -> None:
    """The earliest and the latest, of each field that is a time: 1970 and 9999 are accepted everywhere."""
    for topic in INPUT_TOPICS:
        for struct in STRUCTS[topic]:
            tried = {
                (name, value) for name, value in extremes(struct, topic, base_of(struct)) if isinstance(value, str)
            }
            for path in TIME_FIELDS[struct]:
                if len(path) == 1:
                    assert (path[0], "1970-01-01T00:00:00Z") in tried
                    assert (path[0], "9999-12-31T23:59:59.999999999Z") in tried
    assert any(
        name == "utilisation" and value == 1.05
        for name, value in extremes(QuotaUpdated, FLEET_CONTROL, base_of(QuotaUpdated))
    )
