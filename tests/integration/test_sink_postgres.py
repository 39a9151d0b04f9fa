"""Every decision reaches Postgres exactly once: over redelivery, restarts, rivals, zombies and outages."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from psycopg.conninfo import make_conninfo

from schemas.steps import encode_step
from streams.database.migrations import maintain, migrate
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.settings import Settings
from streams.sinks.ports import JournalMismatch
from streams.sinks.postgres import PostgresSink
from streams.topics import create_topics
from streams.views.explain import explain
from tests.support.builders import START_MS, decision, step, work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schemas.decision import Step
    from streams.local.kafka import ApacheKafka
    from streams.local.postgres import EmbeddedPostgres
    from streams.local.tansu import EmbeddedBroker

PARTITIONS = 2
DEADLINE_S = 150.0
DAY_MS = 86_400_000


class House:
    """A journal's topic, an audit, and what a test looks at."""

    def __init__(self, settings: Settings, owner: str) -> None:
        self.settings = settings
        self.owner = owner
        self.topic = f"{settings.topic_prefix}decision.audit"

    async def append(self, *steps: Step | bytes, partition: int = 0) -> None:
        """Append records to the journal."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.broker, acks="all")
        await producer.start()
        try:
            for one in steps:
                value = one if isinstance(one, bytes) else encode_step(one)
                await producer.send_and_wait(self.topic, value, partition=partition)
        finally:
            await producer.stop()

    def join_another_group(self) -> None:
        """Forget committed offsets; a new group is also quicker to join than one that waits for who has left."""
        self.settings = _with(self.settings, group=f"g{uuid.uuid4().hex[:8]}")

    def ask(self, query: str, **named: Any) -> list[Any]:
        """Ask the audit."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            return connection.execute(query, named or None).fetchall()  # type: ignore[arg-type, unused-ignore]

    def count(self) -> int:
        """Count the decisions in the audit."""
        try:
            return int(self.ask("SELECT count(*) FROM model_routing_decisions")[0][0])
        except psycopg.OperationalError:
            return -1

    def check(self) -> dict[int, dict[str, int]]:
        """Give the line of each partition in `v_audit_check`."""
        with psycopg.connect(self.owner, row_factory=psycopg.rows.dict_row) as connection:
            found = connection.execute("SELECT * FROM v_audit_check").fetchall()
        return {line["partition"]: line for line in found}

    def assert_whole(self, steps: int, decisions: int, partition: int = 0) -> None:
        """Nothing is missing, nothing is double, every link of the chain holds."""
        line = self.check()[partition]
        assert line["first_seq"] == 0
        assert line["last_seq"] == steps - 1
        assert line["steps"] == steps
        assert line["steps_missing"] == line["links_broken"] == 0
        assert line["decisions_told"] == line["decisions_found"] == decisions
        assert line["work_told"] == line["work_found"]
        assert self.ask(QUERIES["gaps"], journal=None, rows_max=10) == []
        assert self.ask(QUERIES["disagreements"], journal=None, rows_max=10) == []
        doubled = "SELECT decision_id FROM model_routing_decisions GROUP BY 1 HAVING count(*) > 1"
        assert self.ask(doubled) == []


@pytest.fixture
def house(tansu: str, database: str) -> House:
    """Give topics on the broker that is always there, and an audit."""
    return build(tansu, database)


@pytest.fixture
def any_house(broker: EmbeddedBroker | ApacheKafka, database: str) -> House:
    """Give topics on each kind of broker in turn, and an audit; for what depends on the broker."""
    return build(broker.address, database)


def build(address: str, database: str) -> House:
    """Create topics and migrate the database; the sink logs in with the rights of the writer only."""
    migrate(database)
    settings = Settings(
        broker=address,
        database=Dsn(make_conninfo(database, options="-c role=slotwise_write")),
        topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
        group=f"g{uuid.uuid4().hex[:8]}",
        partitions=PARTITIONS,
        rebalance_timeout_s=1.0,
        sink_rows_max=500,
    )
    create_topics(settings)
    return House(settings, database)


@asynccontextmanager
async def running(house: House, **named: Any) -> AsyncIterator[PostgresSink]:
    """Run a sink until the block ends; what stops it by itself is raised."""
    sink, stop = PostgresSink(house.settings, **named), asyncio.Event()
    task = asyncio.create_task(sink.run(stop))
    try:
        yield sink
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(DEADLINE_S):
        while not happened():  # noqa: ASYNC110 - a database cannot set an event
            await asyncio.sleep(0.05)


def steps(first: int, last: int, *, decisions: int = 1, partition: int = 0) -> list[Step]:
    """Give the steps with these numbers, each with some decisions about tasks of its own."""
    return [
        step(
            seq,
            *(
                decision(of=seq, task_id=f"t-{partition}-{seq}-{number}", decided_at_ms=START_MS + seq)
                for number in range(decisions)
            ),
            partition=partition,
        )
        for seq in range(first, last + 1)
    ]


@pytest.mark.rule("record.once")
async def test_each_decision_is_one_row(any_house: House) -> None:
    """Two partitions, every column of the step."""
    routed = decision(
        of=0, saved_vs_premium_uusd=120_000, ev=3.2, layer="docs", alternatives={"opus": {"gate": "premium"}}
    )
    await any_house.append(step(0, routed), step(1, work=(work(routed, cost_usd=0.041),)))
    await any_house.append(*steps(0, 4, decisions=3, partition=1), partition=1)
    async with running(any_house) as sink:
        await until(lambda: any_house.count() == 16 and sink.status().lag_records == 0)
        assert sink.status().partitions[1].seq == 4
    any_house.assert_whole(2, 1)
    any_house.assert_whole(5, 15, partition=1)
    row = any_house.ask(
        "SELECT saved_vs_premium_usd, ev, layer, alternatives, d.mode, o.cost_usd "
        "FROM model_routing_decisions d JOIN model_routing_outcomes o USING (decision_id, journal)"
    )
    assert [(str(row[0][0]), *row[0][1:5], str(row[0][5]))] == [
        ("0.120000", 3.2, "docs", {"opus": {"gate": "premium"}}, "live", "0.041000")
    ]


@pytest.mark.rule("record.once")
async def test_what_is_delivered_again_is_not_written_again(any_house: House) -> None:
    """The group's offsets are lost; the audit knows where it stands."""
    await any_house.append(*steps(0, 9))
    async with running(any_house):
        await until(lambda: any_house.count() == 10)
    any_house.join_another_group()
    await any_house.append(*steps(10, 11))
    async with running(any_house):
        await until(lambda: any_house.count() == 12)
    any_house.assert_whole(12, 12)


async def test_a_zombies_number_is_ignored(any_house: House) -> None:
    """A worker that had lost its partition appended steps 2 and 3 once more, with other decisions."""
    zombie = [step(seq, decision(of=seq, task_id="t-zombie")) for seq in (2, 3)]
    await any_house.append(*steps(0, 3), *zombie, *steps(4, 5))
    async with running(any_house) as sink:
        await until(lambda: any_house.count() == 6)
        await until(lambda: sink.status().lag_records == 0)
        assert sink.status().duplicates == 2
    any_house.assert_whole(6, 6)
    assert any_house.ask("SELECT count(*) FROM model_routing_decisions WHERE task_id = 't-zombie'") == [(0,)]


async def test_a_sink_that_ends_in_the_middle_of_a_batch_leaves_no_half(house: House) -> None:
    """Cut off again and again while it writes: in the end each row stands there once."""
    await house.append(*steps(0, 199, decisions=20))
    for delay_s in (0.0, 0.02, 0.06):
        house.join_another_group()
        sink = PostgresSink(house.settings)
        before = house.count()
        task = asyncio.create_task(sink.run(asyncio.Event()))
        await until(lambda: sink.status().partitions.get(0) is not None or task.done())  # noqa: B023 - awaited here
        await asyncio.sleep(delay_s)  # not to wait for anything: to be cut off somewhere else each time
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert house.count() % 20 == 0
        assert house.count() >= before
    async with running(house):
        await until(lambda: house.count() == 4000)
    house.assert_whole(200, 4000)


async def test_two_sinks_that_both_believe_they_own_a_partition_write_it_once(house: House) -> None:
    """Different groups, so that both get everything; the number in the database decides."""
    rival = House(house.settings, house.owner)
    rival.join_another_group()
    async with running(house), running(rival):
        await house.append(*steps(0, 299, decisions=5))
        await until(lambda: house.count() == 1500)
    house.assert_whole(300, 1500)


async def test_sessions_that_the_server_ends_cost_nothing(house: House) -> None:
    """An administrator terminates the sink's connection while it writes."""
    async with running(house) as sink:
        for part in range(5):
            await house.append(*steps(part * 20, part * 20 + 19, decisions=10))
            house.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'slotwise sink' AND datname = current_database()"
            )
        await until(lambda: house.count() == 1000)
        await until(lambda: sink.status().trouble is None)
    house.assert_whole(100, 1000)


async def test_an_outage_of_the_database_is_waited_out(
    house: House, postgres_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped as by a crash, twice, while the journal grows: the sink says so once each time, and catches up."""
    async with running(house) as sink:
        await house.append(*steps(0, 19, decisions=10))
        await until(lambda: house.count() == 200)
        for part in (1, 2):
            await asyncio.to_thread(postgres_server.stop, "immediate")
            await house.append(*steps(part * 20, part * 20 + 19, decisions=10))
            await until(lambda: sink.status().trouble is not None)
            await until(lambda: sink.status().lag_records > 0)
            await asyncio.to_thread(postgres_server.start)
            await until(lambda: house.count() == 200 * (part + 1))  # noqa: B023 - awaited here
        await until(lambda: sink.status().trouble is None and sink.status().lag_records == 0)
    house.assert_whole(60, 600)
    told = [message for message in caplog.messages if "trying until it is back" in message]
    assert len(told) == 2


async def test_a_locked_audit_stalls_only_the_sink(house: House) -> None:
    """A lock that lasts longer than the statement timeout: the batch is written when it is gone."""
    house.settings = _with(house.settings, database_statement_timeout_s=0.5)
    await house.append(*steps(0, 4))
    async with running(house) as sink:
        await until(lambda: house.count() == 5)
        with psycopg.connect(house.owner) as administrator:
            administrator.execute("LOCK TABLE journal_steps IN ACCESS EXCLUSIVE MODE")
            await house.append(*steps(5, 9))
            await until(lambda: sink.status().trouble is not None)
        await until(lambda: house.count() == 10)
    house.assert_whole(10, 10)


async def test_text_that_postgres_refuses_does_not_stop_the_audit(house: House) -> None:
    """NUL in a reason and in a model's name; the rest of the text, and the next step, are there."""
    await house.append(
        step(
            0, decision(of=0, reason="poi\x00son", layer="a\tb\\N\nc", alternatives={"opus\x00": {"gate": "premium"}})
        ),
        *steps(1, 1),
    )
    async with running(house):
        await until(lambda: house.count() == 2)
    assert house.ask("SELECT reason, layer, alternatives FROM model_routing_decisions WHERE seq = 0") == [
        ("poi\ufffdson", "a\tb\\N\nc", {"opus\ufffd": {"gate": "premium"}})
    ]


async def test_days_without_a_partition_get_one(house: House) -> None:
    """An old trace and a clock far ahead: nothing lands in DEFAULT."""
    await house.append(
        *(
            step(seq, decision(of=seq, task_id=f"t-{seq}", decided_at_ms=START_MS + days * DAY_MS))
            for seq, days in enumerate((-3000, -400, 0, 300))
        )
    )
    async with running(house):
        await until(lambda: house.count() == 4)
    assert house.ask("SELECT count(*) FROM model_routing_decisions_default") == [(0,)]


async def test_old_days_are_dropped_whole_and_the_sink_goes_on(house: House) -> None:
    """Retention takes decisions, outcomes and steps of old days; where the sink stands is kept, the check agrees."""
    old = [
        step(seq, decision(of=seq, task_id=f"t-{seq}", decided_at_ms=START_MS - 400 * DAY_MS + seq)) for seq in range(5)
    ]
    await house.append(*old, *steps(5, 9))
    async with running(house):
        await until(lambda: house.count() == 10)
        done = maintain(house.owner, keep_days=30)
        assert any(line.startswith("dropped model_routing_decisions_2025") for line in done)
        assert house.count() == 5
        await house.append(*steps(10, 10))
        await until(lambda: house.count() == 6)
    line = house.check()[0]
    assert (line["first_seq"], line["last_seq"], line["steps_missing"], line["links_broken"]) == (5, 10, 0, 0)
    assert line["decisions_told"] == line["decisions_found"] == 6


@pytest.mark.rule("record.shadow")
async def test_a_shadow_decides_the_same_ids_and_both_are_kept(house: House) -> None:
    """Ids are derived: a shadow of the same history has the same ones, at the same times; the journal differs."""
    live = steps(0, 2)
    await house.append(*live)
    async with running(house):
        await until(lambda: house.count() == 3)
    house.join_another_group()
    async with running(house, journal="decision.shadow"):
        await until(lambda: house.count() == 6)
    assert house.ask(
        "SELECT journal = 'decision.shadow', count(*) FROM model_routing_decisions GROUP BY 1 ORDER BY 1"
    ) == [
        (False, 3),
        (True, 3),
    ]


async def test_an_id_that_stands_twice_in_a_step_is_kept_once(house: House) -> None:
    """It must not happen; if it does, the audit goes on, and its check shows the difference."""
    one = decision(of=0)
    await house.append(step(0, one, one), *steps(1, 1))
    async with running(house):
        await until(lambda: house.count() == 2)
    line = house.check()[0]
    assert (line["decisions_told"], line["decisions_found"]) == (3, 2)
    assert [row[2] for row in house.ask(QUERIES["disagreements"], journal=None, rows_max=10)] == [0]


async def test_another_journal_of_the_same_name_stops_the_sink_with_a_sentence(house: House) -> None:
    """A broker that forgot, then the same topic from 0: the old audit is not written over."""
    await house.append(*steps(0, 4))
    async with running(house):
        await until(lambda: house.count() == 5)
    anew = _with(house.settings, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")
    create_topics(anew)
    renewed = House(anew, house.owner)
    renewed.join_another_group()
    await renewed.append(*steps(0, 5, decisions=2))
    with pytest.raises(JournalMismatch, match="it is another journal than the one followed so far"):
        await asyncio.wait_for(PostgresSink(anew, journal=house.topic).run(asyncio.Event()), DEADLINE_S)
    house.assert_whole(5, 5)
    renewed.join_another_group()
    async with running(renewed):
        await until(lambda: house.count() == 17)


async def test_explain_shows_a_wait_and_its_end(house: House) -> None:
    """What a person sees who asks why a task went where it went."""
    waited = decision(
        task_id="t-9", outcome="waiting", reason_code="reserved_for_ev", reason="Opus is kept for others.", position=3,
        alternatives={"opus": {"gate": "premium"}, "haiku": {"gate": "busy"}},
    )  # fmt: skip
    routed = decision(of=1, task_id="t-9", decided_at_ms=START_MS + 5000, at_ms=START_MS, estimated_cost_uusd=4100)
    await house.append(step(0, waited), step(1, routed), step(2, work=(work(routed, cost_usd=0.0041, quality=0.9),)))
    async with running(house):
        await until(lambda: house.check().get(0, {}).get("last_seq") == 2)
    reader = make_conninfo(house.owner, options="-c role=slotwise_read")
    history = explain(reader, "t-9")
    assert [one["outcome"] for one in history] == ["waiting", "routed"]
    assert [one["model"] for one in history[0]["alternatives"]] == ["haiku", "opus"]
    assert history[0]["alternatives"][1]["means"] == "is kept for tasks of higher expected value"
    assert history[0]["work"] is None
    assert history[1]["decided_at"] == "2026-11-21T10:00:05.000Z"
    assert history[1]["work"]["cost_usd"] == 0.0041
    assert explain(reader, "t-nobody-knows") == []
    assert explain(reader, "t-9", pool="other") == []


def _with(settings: Settings, **named: Any) -> Settings:
    return Settings(**{name: getattr(settings, name) for name in settings.__struct_fields__} | named)
