"""`slotwise audit` on a real broker and a real database: a sound installation passes, and damage is reported."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from msgspec.structs import replace

from schemas.codec import write_event
from schemas.dead_letter_marks import DeadLetterMark, mark_record
from schemas.dead_letters import dead_letter_headers
from schemas.decision import Rejected, Step
from schemas.input import Misplaced, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import INPUT_TOPICS, TASK_AWAIT_SLOT, TASK_CANCELLED, TASK_FINISHED, TASK_ROUTED
from streams.database.migrations import migrate
from streams.kafka.client import Broker
from streams.secret import Dsn
from streams.settings import Settings
from streams.sinks.postgres import PostgresSink
from streams.topics import create_topics, names
from tests.functional.commands import slotwise
from tests.support.builders import rulebook, task
from tests.support.router_rig import RouterRig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEADLINE_S = 100.0
#: No part is at work here, so that nothing is on its way.
WAIT_S = "0"


class House:
    """Topics and a database that hold a history of two slots and three tasks."""

    def __init__(self, broker: str, database: str) -> None:
        migrate(database)
        self.rig = RouterRig("haiku-1", "haiku-2", book=rulebook())
        for number in (1, 2, 3):
            self.rig.hand_in(task(f"t-{number}"), after_s=1)
        self.rig.ends("t-1", after_s=30)
        self.settings = Settings(
            broker=broker, database=Dsn(database), topic_prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=1
        )
        create_topics(self.settings)

    async def fill(self, steps: Sequence[Step] | None = None, *, outputs: int | None = None) -> None:
        """Write inputs, these steps (the history's) and that many `task.routed` (as decided), and run a sink."""
        steps = self.rig.steps if steps is None else steps
        known, broker = names(self.settings), Broker(self.settings)
        routed = sum(one.outcome == "routed" for step in steps for one in step.decisions)
        others = sum(len(step.decisions) for step in steps) - routed
        async with broker:
            for one in (one for batch in self.rig.batches for one in batch):
                assert not isinstance(one.event, Unreadable | Misplaced)
                topic = INPUT_TOPICS[one.topic]
                record = write_event(topic, one.event, ce_id="c", source="test", time_ms=one.now_ms)
                await (await broker.send(known.of(topic), 0, record.value, key=record.key))
            for step in steps:
                await broker.append(known.journal, 0, encode_step(step))
            for topic, count in (
                (TASK_ROUTED, routed if outputs is None else outputs),
                (TASK_AWAIT_SLOT, others),
                (TASK_CANCELLED, sum(len(step.stopped) for step in steps)),
                (TASK_FINISHED, sum(len(step.ended) for step in steps)),
            ):
                for _ in range(count):
                    await (await broker.send(known.of(topic), 0, b"{}", key=b"main"))

    async def keep(self, steps: int) -> None:
        """Run a sink until so many steps are in the database."""
        sink, stop = PostgresSink(self.settings), asyncio.Event()
        running = asyncio.create_task(sink.run(stop))
        async with asyncio.timeout(DEADLINE_S):
            while self.ask("SELECT count(*) FROM journal_steps") != [(steps,)] and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        stop.set()
        await running

    def ask(self, statement: str) -> list[Any]:
        """Do something to the database as its owner, who is a superuser here."""
        with psycopg.connect(self.settings.database.reveal(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def audit(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Give the exit code and the report of `slotwise audit`."""
        where = ("--broker", self.settings.broker, "--database", self.settings.database.reveal())
        topics = ("--topic-prefix", self.settings.topic_prefix, "--partitions", "1")
        ran = slotwise("audit", "--json", "--wait-s", WAIT_S, *where, *topics, *words)
        assert ran.stdout, ran.stderr
        return ran.returncode, json.loads(ran.stdout)

    def problems(self) -> list[tuple[str, int | None]]:
        """Promise and step of each problem that is found, with exit code 1."""
        code, report = self.audit()
        assert code == 1
        assert not report["sound"]
        return [(one["promise"], one.get("seq")) for one in report["problems"]]


@pytest.fixture
def house(tansu: str, database: str) -> House:
    """Give topics and a database of a test's own."""
    return House(tansu, database)


async def test_a_sound_installation_passes_and_is_derived_again(house: House) -> None:
    """Every promise is checked; steps are made again from the inputs on the topics."""
    await house.fill()
    await house.keep(5)
    code, report = house.audit("--rederive")
    assert (code, report["problems"], report["sound"], report["notes"]) == (0, [], True, [])
    (partition,) = report["partitions"]
    assert (partition["steps"], partition["derived"], partition["live_tasks"]) == (5, 5, 2)
    assert partition["inputs"] == {"task.pending": 3, "slot.freed": 3, "fleet.control": 0}
    assert "derived" in report["checked"]


async def test_a_mark_on_a_dead_letter_does_not_stand_for_a_dead_letter(house: House) -> None:
    """A refusal without its dead letter is found, although the topic has a record."""
    first, *others = house.rig.steps
    refusal = Rejected(topic=0, offset=0, reason="No.")
    await house.fill([replace(first, rejected=(refusal,)), *others])
    await house.keep(5)
    value, headers = mark_record(DeadLetterMark(mark="dropped", offsets=(0,), at="now", by="ann"))
    async with Broker(house.settings) as broker:
        await (await broker.send(names(house.settings).dead("task.pending"), 0, value, key=b"main", headers=headers))
        _, report = house.audit()
        assert [one["says"] for one in report["problems"] if one["promise"] == "published"] == [
            "The journal has 1 records for the dead-letter topics together, which hold 0."
        ]
        headers = dead_letter_headers("task.pending", 0, 0, "No.")
        await (await broker.send(names(house.settings).dead("task.pending"), 0, b"{", key=b"main", headers=headers))
    _, report = house.audit()
    assert [one for one in report["problems"] if one["promise"] == "published"] == []


DAMAGES: dict[str, tuple[str, tuple[str, int | None]]] = {
    "a decision is not there": ("DELETE FROM model_routing_decisions WHERE seq = 2", ("stored", 2)),
    "a decision is another one": (
        "UPDATE model_routing_decisions SET decision_id = gen_random_uuid() WHERE seq = 2",
        ("stored", 2),
    ),
    "a step is not there": (
        "DELETE FROM model_routing_decisions WHERE seq = 2; DELETE FROM journal_steps WHERE seq = 2",
        ("stored", 2),
    ),
    "a step has another hash": (
        "UPDATE journal_steps SET record_sha256 = sha256('other') WHERE seq = 2",
        ("stored", 2),
    ),
    "a link of the chain is broken": (
        "UPDATE journal_steps SET chain_sha256 = sha256('other') WHERE seq = 2",
        ("chain", None),
    ),
    "the last steps are not there": ("DELETE FROM journal_steps WHERE seq > 2", ("stored", None)),
    "an outcome is not there": ("DELETE FROM model_routing_outcomes", ("stored", None)),
}


@pytest.mark.parametrize(("statement", "want"), [pytest.param(*damage, id=name) for name, damage in DAMAGES.items()])
async def test_a_damaged_database_is_reported(house: House, statement: str, want: tuple[str, int | None]) -> None:
    """A row that a superuser took away or changed."""
    await house.fill()
    await house.keep(5)
    house.ask(statement)
    assert want in house.problems()


def leased_twice(steps: list[Step]) -> list[Step]:
    """The third task gets the slot of the second, which goes on running there."""
    (routed,) = steps[2].decisions
    (row,) = steps[2].slots
    (third,) = steps[3].tasks
    lease = row.lease + 1
    status = replace(third.status, state="running", slot_id=row.slot_id, lease=lease, headline=None)
    return [
        *steps[:3],
        replace(
            steps[3],
            decisions=(replace(routed, decision_id=str(uuid.uuid4()), task_id="t-3", lease=lease),),
            slots=(replace(row, task_id="t-3", lease=lease),),
            tasks=(replace(third, status=status),),
        ),
    ]


@pytest.mark.parametrize(
    ("doctor", "want"),
    [
        pytest.param(leased_twice, ("lease", 3), id="a slot is leased twice"),
        pytest.param(lambda steps: [*steps[:2], *steps[3:]], ("journal", 3), id="a step is missing"),
        pytest.param(lambda steps: steps[:4], ("conservation", None), id="an input is in no step"),
    ],
)
async def test_a_doctored_journal_is_reported(
    house: House, doctor: Callable[[list[Step]], list[Step]], want: tuple[str, int | None]
) -> None:
    """Whatever the database says of it."""
    await house.fill(doctor(house.rig.steps))
    assert want in house.problems()


async def test_an_output_that_was_never_published_is_reported(house: House) -> None:
    """One record too few on `task.routed`."""
    await house.fill(outputs=2)
    await house.keep(5)
    assert house.problems() == [("published", None)]


async def test_other_rules_are_a_note_and_no_problem(house: House, tmp_path: Any) -> None:
    """A journal cannot be derived again by rules that did not make it."""
    await house.fill()
    await house.keep(5)
    policy = tmp_path / "policy.toml"
    policy.write_text("[premium]\npriority_min = 80\n")
    code, report = house.audit("--rederive", "--policy", str(policy))
    assert (code, report["problems"]) == (0, [])
    assert "Name the files with --policy and --catalog" in report["notes"][0]
