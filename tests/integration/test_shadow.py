"""Shadows and dry runs on a real broker and a real database: what they find, once, and that they touch nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from schemas.codec import write_event
from schemas.decision import Step
from schemas.shadow import ShadowDifference
from schemas.vocabulary import TASK_PENDING
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.router import Router
from streams.database.migrations import migrate
from streams.kafka.client import Broker
from streams.operate.handled import following_handled
from streams.operate.lag import LagReader
from streams.operate.parts import _workers
from streams.replay.recording import Recording
from streams.secret import Dsn
from streams.settings import Settings
from streams.shadow.against import choices_in_table, compare
from streams.shadow.own_world import OwnWorld
from streams.shadow.report import ShadowView, end, report, shadows
from streams.shadow.run import ShadowUnderWay, follow
from streams.shadow.twin import ShadowCannotFollow, Twin
from streams.shipped import file_rulebook, shipped
from streams.sinks.postgres import PostgresSink
from streams.topics import create_topics, name_in_audit, names, topics
from streams.views.lag import report as lag_report
from tests.support.builders import START_MS, task
from tests.support.installation import Installation, environment_of
from tests.support.installation import until as until_found
from tests.support.live_journal import LiveJournal
from tests.support.partition_world import until

ROOT = Path(__file__).parents[2]
CHANGED = ("\npriority_min = 90", "\npriority_min = 60")


@pytest.fixture
async def settings(tansu: str, database: str) -> Settings:
    """Topics of their own, and an empty audit."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    made = Settings(
        broker=tansu,
        database=Dsn(database),
        group=unique,
        topic_prefix=f"{unique}.",
        partitions=2,
        session_timeout_s=3.0,
        rebalance_timeout_s=1.0,
        checkpoint_changes_min=100,
    )
    await asyncio.to_thread(create_topics, made)
    await asyncio.to_thread(migrate, database)
    return made


@pytest.fixture
async def live(settings: Settings) -> AsyncIterator[LiveJournal]:
    """A fleet at work before any shadow is there."""
    async with LiveJournal(settings) as journal:
        await journal.go_on(10)
        yield journal


@asynccontextmanager
async def following(
    settings: Settings, name: str, rules: Rulebook, fleet: dict[str, int] | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Run a shadow in this process; it has joined its group when this goes on."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(follow(settings, name, rules, stop, lambda _: ready.set(), fleet=fleet))
    await until(lambda: ready.is_set() or task.done())
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


def process(settings: Settings, name: str) -> subprocess.Popen[bytes]:
    """Start a shadow of the live rules as a process."""
    words = [sys.executable, "-m", "streams.cli", "shadow", "start", "--name", name]
    return subprocess.Popen(
        words, cwd=ROOT, env=environment_of(settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def run_of(settings: Settings, name: str) -> ShadowView:
    """Give the latest run of a shadow."""
    return shadows(settings.database, name=name)[0]


async def members(settings: Settings, name: str) -> int:
    """Count the processes of a shadow that share its partitions."""
    group = names(settings).shadow_groups + name
    found = await _workers(msgspec.structs.replace(settings, group=group))
    return len(found or ())


async def until_true(what: str, condition: Callable[[], bool]) -> None:
    """Wait until something blocking says yes."""
    await until_found(what, lambda: asyncio.to_thread(condition))


async def compared(settings: Settings, live: LiveJournal, *shadow_names: str) -> None:
    """Wait until shadows have compared every step."""
    wanted = {str(partition): seq for partition, seq in live.ends.items()}

    def reached() -> bool:
        return all(run_of(settings, name).partitions == wanted for name in shadow_names)

    await until_true(f"{shadow_names} have compared {wanted}", reached)


async def ends(settings: Settings) -> dict[tuple[str, int], int]:
    """Give the ends of all partitions of all topics, but of those that are a shadow's."""
    async with Broker(settings) as broker:
        return {
            (topic.name, partition): (await broker.bounds(topic.name, partition))[1]
            for topic in topics(settings)
            if not topic.name.endswith(("decision.difference", "slotwise.shadow"))
            for partition in range(settings.partitions)
        }


def checksums(dsn: str) -> dict[str, Any]:
    """Give a checksum of each table that is not a shadow's."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
            "AND relname NOT LIKE 'shadow%' ORDER BY 1"
        ).fetchall()
        return {
            name: connection.execute(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} AS t"
            ).fetchone()
            for (name,) in tables
        }


def expected(live: LiveJournal, rules: Rulebook, first: dict[int, int]) -> Iterator[ShadowDifference]:
    """Give what a shadow finds that never stops, from these steps on."""
    for partition, steps in live.steps.items():
        router = Router(partition, file_rulebook(live.settings))
        for step, _ in steps[: first[partition] + 1]:
            router.apply(step)
        twin = Twin.beside(router, rules, run="r", name="n")
        for step, inputs in steps[first[partition] + 1 :]:
            yield from twin.take(step, inputs)


async def differences(settings: Settings) -> list[ShadowDifference]:
    """Give what stands on the topic."""
    broker, found = Broker(settings), list[ShadowDifference]()
    async with broker:
        topic = settings.topic_prefix + "decision.difference"
        for partition in range(settings.partitions):
            first, last = await broker.bounds(topic, partition)
            async for records in broker.read(topic, partition, first, last):
                for record in records:
                    one = msgspec.json.decode(record.value or b"", type=ShadowDifference)
                    assert record.key == one.task_id.encode()
                    found.append(one)
    return found


async def test_through_restart_rebalance_and_kill_a_shadow_finds_each_difference_once_and_touches_nothing(
    settings: Settings, live: LiveJournal, database: str
) -> None:
    """The same rules: none. One threshold changed: what a shadow in memory finds. All else stays as it was (I11)."""
    sink, stop_sink = PostgresSink(settings), asyncio.Event()
    sinking = asyncio.create_task(sink.run(stop_sink))
    await until(lambda: sink.status().steps >= 20)
    stop_sink.set()
    await asyncio.wait_for(sinking, 30)

    same = file_rulebook(settings)
    other = load_rulebook(shipped("catalog.toml"), shipped("policy.toml").replace(*CHANGED))
    first = live.ends
    untouched = await asyncio.to_thread(checksums, database)
    async with following(settings, "other", other):
        async with following(settings, "same", same):
            await live.go_on(10)
            await compared(settings, live, "same", "other")
            # Another process joins, and takes a share of the partitions; then it is killed.
            second = process(settings, "same")
            try:

                async def shared() -> bool:
                    return await members(settings, "same") == 2

                await until_found("two processes share the partitions", shared)
                await live.go_on(10)
            finally:
                second.kill()
                second.wait()
            await live.go_on(5)
            await compared(settings, live, "same", "other")
        # Stopped, behind, and started again; the other one restarts in the middle of its work.
        await live.go_on(10)
    await live.go_on(5)
    before = await ends(settings)
    async with following(settings, "same", same), following(settings, "other", other):
        await compared(settings, live, "same", "other")
    assert await ends(settings) == before
    assert await asyncio.to_thread(checksums, database) == untouched

    decisions = sum(len(step.decisions) for n, steps in live.steps.items() for step, _ in steps[first[n] + 1 :])
    equal, unequal = run_of(settings, "same"), run_of(settings, "other")
    assert (equal.decisions, equal.differences) == (decisions, {})
    assert equal.live == equal.shadow
    wanted = list(expected(live, other, first))
    assert wanted
    found = report(settings.database, "other", limit=10_000).differences
    assert {one.difference_id for one in found} == {one.difference_id for one in wanted}
    assert len(found) == len(wanted) == sum(unequal.differences.values())
    assert {one.policy for one in found} == {other.policy_hash}
    # The topic may repeat what a crash has left out of the transaction, and lacks nothing.
    on_topic = {one.difference_id: one for one in await differences(settings)}
    assert on_topic.keys() == {one.difference_id for one in wanted}
    plain = {one.difference_id: msgspec.structs.replace(one, run="", name="") for one in wanted}
    assert {key: msgspec.structs.replace(one, run="", name="") for key, one in on_topic.items()} == plain


async def test_a_shadow_with_other_slots_finds_what_it_finds_in_memory_and_touches_nothing(
    settings: Settings, live: LiveJournal, database: str
) -> None:
    """Stopped, behind and started again; what its times were fitted to is in its checkpoints (I11 holds)."""
    await live.go_on(60)
    rules, fleet = file_rulebook(settings), {"opus": 2, "haiku": 3}
    first, untouched = live.ends, await asyncio.to_thread(checksums, database)
    ended = [
        one.seen
        for partition, steps in live.steps.items()
        for one in recorded([step for step, _ in steps], Recording(partition, rules)).ended
    ]
    async with following(settings, "more", rules, fleet):
        await live.go_on(10)
        await compared(settings, live, "more")
        with pytest.raises(ShadowUnderWay, match="other rules or slots"):
            await follow(settings, "more", rules, asyncio.Event(), lambda _: None)
    await live.go_on(10)
    before = await ends(settings)
    async with following(settings, "more", rules, fleet):
        await compared(settings, live, "more")
    assert await ends(settings) == before
    assert await asyncio.to_thread(checksums, database) == untouched

    wanted: dict[str, ShadowDifference] = {}
    for partition, steps in live.steps.items():
        router = Router(partition, rules)
        for step, _ in steps[: first[partition] + 1]:
            router.apply(step)
        own = OwnWorld.beside(router, rules, fleet, ended, run="r", name="n")
        for step, _ in steps[first[partition] + 1 :]:
            wanted |= {one.difference_id: one for one in own.take(step)}
    found = report(settings.database, "more", limit=10_000)
    assert wanted
    assert {one.difference_id: (one.kind, one.shadow) for one in found.differences} == {
        key: (one.kind, one.shadow) for key, one in wanted.items()
    }
    assert found.run.fleet == fleet
    assert set(found.run.shadow.models) <= fleet.keys()
    assert "slots of its own (opus=2,haiku=3)" in found.run.says


def recorded(steps: list[Step], recording: Recording) -> Recording:
    """Hand steps to a recording."""
    for step in steps:
        recording.add(step)
    return recording


async def test_a_run_that_is_stopped_ends_its_processes_and_the_next_one_begins_where_the_journal_is(
    settings: Settings, live: LiveJournal
) -> None:
    """And a name whose run is under way is refused to other rules."""
    same = file_rulebook(settings)
    other = load_rulebook(shipped("catalog.toml"), shipped("policy.toml").replace(*CHANGED))
    async with following(settings, "same", same) as task:
        with pytest.raises(ShadowUnderWay, match="under way with other rules or slots"):
            await follow(settings, "same", other, asyncio.Event(), lambda _: None)
        assert await asyncio.to_thread(end, settings.database, "same", forget=False) == 1
        await asyncio.wait_for(asyncio.shield(task), 30)
    await live.go_on(3)
    async with following(settings, "same", other):
        await live.go_on(2)
        await compared(settings, live, "same")
    async with following_handled(settings) as handled:
        with LagReader(settings, handled) as reader:
            lag = lag_report(await asyncio.to_thread(reader.look))
    (behind,) = [one for one in lag.readers if one.reader == "shadow"]
    assert (behind.group, behind.basis, behind.records) == (names(settings).shadow_groups + "same", "audit", 0)
    runs = shadows(settings.database, name="same")
    assert [(one.state, one.policy, one.steps) for one in runs] == [
        ("under way", other.policy_hash, 4),
        ("ended", same.policy_hash, 0),
    ]
    assert await asyncio.to_thread(end, settings.database, "same", forget=True) == 2
    assert shadows(settings.database, name="same") == ()


@pytest.mark.usefixtures("live")
async def test_a_shadow_that_cannot_begin_leaves_no_connection_open(settings: Settings, tmp_path: Path) -> None:
    """The files here are not the live rules: it is refused after it has asked the database for its place."""
    (tmp_path / "policy.toml").write_text(shipped("policy.toml").replace(*CHANGED))
    mistaken = msgspec.structs.replace(settings, policy=str(tmp_path / "policy.toml"))
    with pytest.raises(ShadowCannotFollow, match="name theirs with SLOTWISE_POLICY"):
        await follow(mistaken, "mistaken", file_rulebook(mistaken), asyncio.Event(), lambda _: None)
    with psycopg.connect(settings.database.reveal(), autocommit=True) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'slotwise shadow'"
        await until_true("no connection is left", lambda: connection.execute(asked).fetchone() == (0,))


async def test_a_worker_that_routes_nothing_decides_records_and_touches_nothing_live(
    tansu: str, database: str, tmp_path: Path
) -> None:
    """Its journal and its checkpoints are its own (I11); what it decided is compared with the dispatcher's choices."""
    async with Installation(tansu, tmp_path, dry_run=True, database=Dsn(database)) as installation:
        live = msgspec.structs.replace(installation.settings, dry_run=False)
        await asyncio.to_thread(create_topics, live)
        await asyncio.to_thread(migrate, database)
        await installation.slots(2, pools=2)
        await installation.tasks(6, pools=2)
        # On the partition that is not its key's: no live worker is there to forward it, and this one does not.
        stray = write_event(TASK_PENDING, task("stray", pool="pool-0"), ce_id="s", source="test", time_ms=START_MS)
        elsewhere = 1 - installation.home(b"pool-0")
        await installation.send(TASK_PENDING, stray.value, stray.key, partition=elsewhere, headers=stray.headers)
        await installation.send(TASK_PENDING, b"no JSON", b"pool-0")
        before = await ends(live)
        worker = installation.worker()
        await worker.ready(2)
        audits = await installation.sound()
        assert sum(len(one.routed()) for one in audits) == 4
        assert await worker.stop() == 0, worker.log()
        assert await ends(live) == before

        sink, stop = PostgresSink(installation.settings), asyncio.Event()
        sinking = asyncio.create_task(sink.run(stop))
        steps = len(await installation.records(installation.names.journal))
        await until(lambda: sink.status().steps >= steps)
        stop.set()
        await asyncio.wait_for(sinking, 30)
        with psycopg.connect(database, autocommit=True) as connection:
            modes = connection.execute("SELECT DISTINCT mode, journal FROM model_routing_decisions").fetchall()
            connection.execute(
                "CREATE TABLE choices AS SELECT 't-' || n AS task_id, 'haiku' AS model FROM generate_series(0, 5) n"
            )
            connection.execute("UPDATE choices SET model = 'opus' WHERE task_id = 't-0'")
            connection.execute("INSERT INTO choices VALUES ('never-sent', 'opus')")
        journal = name_in_audit(installation.settings)
        assert modes == [("shadow", journal)]
        assert journal.endswith("decision.shadow")
        found = compare(database, journal, choices_in_table(database, "choices"))
        assert found.counts == {"other_model": 1, "undecided": 2, "only_there": 1, "only_here": 0, "same": 3}
        assert [(one.task_id, one.theirs, one.model) for one in found.tasks[:1]] == [("t-0", "opus", "haiku")]
