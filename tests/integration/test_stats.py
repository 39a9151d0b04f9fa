"""The hourly sums equal what plain Python counts in the same steps, however they were written."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import math
import random
import uuid
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import escape
from msgspec.structs import asdict, replace
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from schemas.decision import Decision, Step
from schemas.steps import encode_step
from schemas.vocabulary import from_millis
from streams.cli import main
from streams.clock import SystemClock
from streams.database import migrations
from streams.database.connection import DEFAULT_TIMEOUTS, connect_async
from streams.database.migrations import maintain, migrate
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.sinks import postgres as sink
from streams.sinks.cursor import Cursor
from streams.sinks.ports import BEFORE_FIRST, ConflictError, JournaledStep, JournalRecord
from streams.sinks.postgres import PostgresStore
from streams.topics import name_in_audit
from streams.views import decisions
from streams.views import stats as view
from streams.views.lane_state import lane_state
from streams.web.application import guarded
from tests.bench.filled_audit import fill_audit
from tests.support.builders import START_MS, decision, step, work
from tests.support.lanes import BOUNDARIES
from tests.support.page_numbers import page
from tests.support.stats import HOUR_MS, numbers
from tests.support.web_rig import WebRig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streams.local.postgres import EmbeddedPostgres

PARTITIONS = (0, 1)
#: (model, tier, provider)
MODELS = (("haiku", 1, "anthropic"), ("sonnet", 2, "anthropic"), ("opus", 3, "anthropic"), ("local", 1, None))


@pytest.fixture(scope="module")
def audit(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """Give one migrated database to all tests of this file; each has a journal of its own."""
    name = f"stats_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    dsn = postgres_server.dsn_of(name)
    migrate(dsn)
    yield dsn
    with psycopg.connect(postgres_server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def make_history(rng: random.Random, steps_of_each: int, *, start_ms: int = START_MS) -> list[Step]:
    """Give the steps of two partitions: decisions over some days, and work that ends soon, late or not at all."""
    made: list[Step] = []
    for partition in PARTITIONS:
        now_ms = start_ms + rng.randrange(HOUR_MS)
        running: list[Decision] = []
        for seq in range(steps_of_each):
            before_ms, now_ms = now_ms, now_ms + rng.choice((0, 1, 900_000, 3 * HOUR_MS, 60 * HOUR_MS))
            decided = [
                _decision(rng, f"{partition}-{seq}-{number}", before_ms, now_ms) for number in range(rng.randrange(5))
            ]
            rng.shuffle(running)
            ending = [running.pop() for _ in range(rng.randrange(len(running) + 1))]
            running += [one for one in decided if one.outcome == "routed"]
            done = tuple(_work(rng, one) for one in ending)
            made.append(step(seq, *decided, partition=partition, now_ms=now_ms, work=done))
    return made


def _decision(rng: random.Random, task_id: str, from_ms: int, to_ms: int) -> Decision:
    outcome = rng.choice(("routed", "routed", "routed", "waiting", "expired"))
    at_ms = rng.choice((from_ms, to_ms, rng.randint(from_ms, to_ms)))
    named: dict[str, Any] = {
        "task_id": task_id,
        "of": rng.random(),
        "outcome": outcome,
        "decided_at_ms": at_ms,
        "waiting_since_ms": at_ms - rng.choice((-5, 0, 1, 250, 61_234, rng.randrange(10_000_000))),
        "agent_role": rng.choice((None, "writer", "coder")),
        "lane": rng.choice((None, "docs", "app")),
        "tenant_id": rng.choice((None, "acme")),
        "layer": rng.choice((None, "docs", "<script>alert(1)</script>", "l\\2\t")),
        "complexity": rng.choice((None, "trivial", "expert")),
        "ev": rng.choice((None, -3.0, 0.0, 7.5, 1e12)),
    }
    if outcome == "routed":
        model, tier, provider = rng.choice(MODELS)
        named |= {"chosen_model": model, "tier": tier, "chosen_provider": provider, "fallback": rng.random() < 0.3}
        named |= {"reason_code": rng.choice(("cheapest_capable", "router_error"))}
        if rng.random() < 0.8:
            named |= {"estimated_cost_uusd": rng.randrange(10**6), "saved_vs_premium_uusd": rng.randrange(-9, 10**6)}
            named |= {"saved_vs_next_free_uusd": rng.randrange(10**5)}
    else:
        named |= {"reason_code": "capable_busy" if outcome == "waiting" else "expired"}
    return decision(**named)


def _work(rng: random.Random, of: Decision) -> Any:
    outcome: dict[str, Any] = {"status": rng.choice(("success", "success", "failure"))}
    if rng.random() < 0.7:
        outcome |= {"input_tokens": rng.randrange(5_000), "output_tokens": rng.randrange(1, 900)}
    if rng.random() < 0.6:
        outcome["quality"] = rng.choice((0.0, 0.1, 0.735, 1.0, round(rng.random(), 3)))
    done = work(of, **outcome)
    return done if rng.random() < 0.2 else type(done)(**{**_fields(done), "cost_uusd": rng.randrange(10**6)})


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def journaled(steps: list[Step]) -> list[JournaledStep]:
    """Give steps as the follower gives them to a store."""
    cursors = {partition: Cursor(partition, BEFORE_FIRST) for partition in PARTITIONS}
    taken = [
        cursors[one.partition].take(JournalRecord(one.partition, one.seq, one.now_ms, encode_step(one)))
        for one in steps
    ]
    return [one for one in taken if one is not None]


def store_of(dsn: str, journal: str) -> PostgresStore:
    """Give the sink's store, with the rights of the writer only."""
    writer = make_conninfo(dsn, options="-c role=slotwise_write")
    return PostgresStore(
        lambda: connect_async(writer, application="slotwise sink"), journal=journal, name="audit", transaction_s_max=60
    )


async def write_badly(dsn: str, journal: str, history: list[Step], rng: random.Random, *, from_seq: int = 0) -> None:
    """Write a history in batches as bad days bring them: again, by a rival, and cut off in the middle."""
    store, rival = store_of(dsn, journal), store_of(dsn, journal)
    steps = {partition: journaled([one for one in history if one.partition == partition]) for partition in PARTITIONS}
    rest = {partition: [one for one in some if one.step.seq >= from_seq] for partition, some in steps.items()}
    while any(rest.values()):
        batch = []
        for partition in rng.sample(PARTITIONS, rng.randint(1, len(PARTITIONS))):
            count = rng.randrange(6)
            batch += rest[partition][:count]
            del rest[partition][:count]
        if not batch:
            continue
        if rng.random() < 0.3:
            cut_off = asyncio.create_task(store.write(batch))
            await asyncio.sleep(rng.random() * 0.01)  # not to wait for anything: to be cut off somewhere else each time
            cut_off.cancel()
            with suppress(asyncio.CancelledError):
                await cut_off
        for writer in rng.sample((store, rival, store), rng.randint(1, 3)):
            with suppress(ConflictError):
                await writer.write(batch)
    await store.close()
    await rival.close()


def assert_equal(dsn: str, journal: str, history: list[Step], since_ms: int = 0) -> None:
    """The sums of a journal are those that Python counts, percentiles within their step."""
    want = numbers(history, since_ms=since_ms)
    with psycopg.connect(dsn, row_factory=dict_row, autocommit=True) as connection:
        connection.execute("SET ROLE slotwise_read")
        since = f"to_timestamp({since_ms} / 1000.0)"
        found = connection.execute(
            f"SELECT * FROM stats_since({since}) WHERE journal = %s",  # type: ignore[arg-type, unused-ignore]
            [journal],
        ).fetchall()
    assert {(row["by"], tuple(row["key"])) for row in found} == set(want)
    for row in found:
        by, key = row["by"], tuple(row["key"])
        wanted = want[by, key].row(by)
        sd = wanted.pop("quality_sd")
        for name in ("wait_p50_s", "wait_p95_s"):
            exact = wanted.pop(name)
            if exact is None:
                assert row[name] is None
            else:
                assert exact <= float(row[name]) <= exact * 1.1 + 0.001
        for name, value in wanted.items():
            rounding = 6e-5 if name.endswith(("share", "mean", "million_tokens")) else 1e-6
            near = pytest.approx(value, abs=rounding)
            assert row[name] is None if value is None else float(row[name]) == near, (by, key, name)
        if sd is None:
            assert row["quality_low"] is row["quality_high"] is None
        elif wanted["quality_n"] - 1 in T95:
            half = T95[wanted["quality_n"] - 1] * sd / wanted["quality_n"] ** 0.5
            assert float(row["quality_high"] - row["quality_low"]) == pytest.approx(2 * half, rel=5e-4, abs=3e-4)


#: Student's t for 95 %, two-sided, by degrees of freedom: from tables.
T95 = {
    **dict(enumerate((12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228), start=1)),
    30: 2.042,
    31: 2.040,
    60: 2.000,
    120: 1.980,
    1000: 1.962,
}


def test_the_confidence_interval_is_students(audit: str) -> None:
    """The factors are those of the tables, from one degree of freedom to a thousand; without one there is none."""
    with psycopg.connect(audit) as connection:
        found = connection.execute("SELECT n, stats_t95(n) FROM unnest(%s::bigint[]) AS n", [[0, *T95]]).fetchall()
    assert found[0] == (0, None)
    assert {n: round(float(t), 3) for n, t in found[1:]} == T95


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_sums_are_those_of_the_steps_however_they_were_written(audit: str, seed: int) -> None:
    """Batches come again, from two sinks, and are cut off; work ends in another hour, or after days."""
    rng = random.Random(seed)
    journal, history = f"j-{uuid.uuid4().hex}", make_history(rng, 14)
    # Some hours are merged, and then their work ends, or decisions come late.
    early = [one for one in history if one.seq < 8]
    asyncio.run(write_badly(audit, journal, early, rng))
    merge(audit, journal)
    assert_equal(audit, journal, early)
    asyncio.run(write_badly(audit, journal, history, rng, from_seq=8))
    for _ in range(2):
        assert_equal(audit, journal, history)
        assert_equal(audit, journal, history, since_ms=rng.choice(history).now_ms)
        merge(audit, journal)


def merge(dsn: str, journal: str) -> None:
    """Merge every hour and day that is over."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "SELECT audit_merge(%s, 3, interval '100 years', interval '0')"
        while connection.execute(query, [journal]).fetchone() != (0,):
            pass


def tokens(dsn: str, journal: str, pool: str | None = None) -> int:
    """Return the input tokens of everything."""
    with psycopg.connect(dsn) as connection:
        query = "SELECT input_tokens FROM stats_since('1970-01-01', %s, ARRAY['all']) WHERE journal = %s"
        (found,) = connection.execute(query, [pool, journal]).fetchone() or (0,)
    return int(found)


def test_merged_sums_are_read_while_they_hold_as_much_as_the_hourly_ones(audit: str) -> None:
    """Changed ones show where all pools are asked for, not where one is, and not once they are stale."""
    journal, history = f"j-{uuid.uuid4().hex}", make_history(random.Random(3), 30)
    asyncio.run(write_badly(audit, journal, history, random.Random(3)))
    plain = tokens(audit, journal)
    assert plain == numbers(history)["all", ()].row("all")["input_tokens"]
    merge(audit, journal)
    assert tokens(audit, journal) == plain
    with psycopg.connect(audit, autocommit=True) as connection:
        spans = "SELECT span, count(*) FROM stats_spans('1970-01-01', NULL) WHERE journal = %s GROUP BY span"
        used: dict[str, int] = dict(connection.execute(spans, [journal]).fetchall())
        assert set(used) >= {"day", "sums"}, "days that are over, and the present hour"
        assert used["sums"] == 1
        connection.execute(
            "UPDATE stats_merged SET input_tokens = input_tokens + 1000000 WHERE journal = %s", [journal]
        )
        assert tokens(audit, journal) == plain + (used["day"] + used.get("hour", 0)) * 1_000_000
        assert tokens(audit, journal, "main") == plain
        connection.execute("UPDATE stats_merges SET counted = counted - 1 WHERE journal = %s", [journal])
        assert tokens(audit, journal) == plain
    merge(audit, journal)
    assert_equal(audit, journal, history)


def test_hours_are_merged_also_where_the_planner_takes_the_sums_for_empty(database: str) -> None:
    """Analysed before the first rows came: it took longer than a statement may."""
    fill_audit(database, "j", 20_000, 4, lambda _: None)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) > 20 FROM stats_merges").fetchone() == (True,)


def test_the_sink_merges_behind_its_transaction_and_goes_on_without(
    audit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rights of the writer; where that fails the steps are written all the same, and it is tried again."""
    journal, history = f"j-{uuid.uuid4().hex}", make_history(random.Random(4), 12)
    steps = journaled(sorted(history, key=lambda one: (one.partition, one.seq)))
    monkeypatch.setattr(sink, "MERGE_EVERY_S", 0.0)

    async def write(some: list[JournaledStep]) -> None:
        store = store_of(audit, journal)
        await store.write(some)
        await store.write([])
        await store.close()

    def merges() -> int:
        with psycopg.connect(audit) as connection:
            query = "SELECT count(*) FROM stats_merges WHERE journal = %s"
            (found,) = connection.execute(query, [journal]).fetchone() or (0,)
        return int(found)

    with monkeypatch.context() as broken:
        broken.setattr(sink, "MERGE_SPANS_MAX", "many")
        asyncio.run(write(steps[:12]))
    assert merges() == 0
    asyncio.run(write(steps[12:]))
    assert merges() > 0
    assert_equal(audit, journal, history)


def test_steps_that_a_sink_of_before_wrote_are_taken_in_by_the_migration(
    audit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the steps without sums, then some with; the rest is made up for in several transactions, once."""
    rng = random.Random(11)
    journal, history = f"j-{uuid.uuid4().hex}", make_history(rng, 40)
    steps = [one for partition in PARTITIONS for one in journaled([x for x in history if x.partition == partition])]

    async def write(some: list[JournaledStep]) -> None:
        store = store_of(audit, journal)
        await store.write(some)
        await store.close()

    async def nothing(*_: object) -> None: ...

    with monkeypatch.context() as before:
        before.setattr(PostgresStore, "_roll_up", nothing)
        asyncio.run(write([one for one in steps if one.step.seq < 30]))
    asyncio.run(write([one for one in steps if one.step.seq >= 30]))
    monkeypatch.setattr(migrations, "ROLL_UP_ROWS", 7)
    taken: list[int] = []
    migrate(audit, progress=taken.append)
    assert len(taken) > 4
    assert_equal(audit, journal, history)
    with psycopg.connect(audit, autocommit=True) as connection:
        behind = connection.execute("SELECT sum(seqs_behind) FROM v_stats_progress WHERE journal = %s", [journal])
        assert behind.fetchone() == (0,)
    migrate(audit, progress=taken.append)
    assert_equal(audit, journal, history)


def test_rows_of_before_the_sums_are_in_them_after_the_migration_and_old_days_go(database: str) -> None:
    """A database of the version before, with rows; its days are dropped later with their sums."""
    number = next(one.number for one in migrations.shipped() if one.name.endswith("_stats.sql"))
    migrate(database, migrations=migrations.shipped()[: number - 1])
    with psycopg.connect(database, autocommit=True) as connection:
        for days in (0, 500):
            at = f"now() - interval '{days} days'"
            connection.execute(
                "INSERT INTO model_routing_decisions (decision_id, partition, seq, pool, task_id, outcome, "
                "chosen_model, tier, alternatives, reason_code, reason, decided_at, at, strategy, priority, lifted, "
                "attempt, mode, policy, catalog, input_topic, input_partition, input_offset, journal) "
                "SELECT gen_random_uuid(), 0, "
                f"{500 - days}, 'main', 't', 'routed', 'opus', 3, '{{}}', 'r', 'r', {at}, {at} - interval '9 s', "
                "'s', 50, false, 1, 'live', 'p', 'c', 't', 0, 0, 'j'"
            )
            connection.execute(
                "INSERT INTO journal_steps (journal, partition, seq, journal_offset, now, mode, inputs, rejected, "
                f"decisions, work, record_sha256, chain_sha256) VALUES ('j', 0, {500 - days}, 0, {at}, 'live', 1, 0, "
                "1, 0, '', '')"
            )
        migrate(database)
        query = "SELECT routed, wait_max_s::float FROM stats_since('1970-01-01') WHERE by = 'model' AND key = '{opus}'"
        assert connection.execute(query).fetchall() == [(2, 9.0)]
        assert connection.execute("SELECT routed FROM v_stats WHERE by = 'tier'").fetchall() == [(1,)]
        maintain(database, keep_days=400)
        assert connection.execute(query).fetchall() == [(1, 9.0)]


@pytest.mark.parametrize("summed", [True, False])
def test_decisions_by_a_filter_are_those_of_a_plain_search(
    audit: str, monkeypatch: pytest.MonkeyPatch, *, summed: bool
) -> None:
    """Also page by page, where no hour has any, and while the sums lack steps, which then say nothing."""
    rng = random.Random(21 + summed)  # the ids of decisions follow from it
    journal, history = f"j-{uuid.uuid4().hex}", make_history(rng, 40)

    async def nothing(*_: object) -> None: ...

    with monkeypatch.context() as before:
        if not summed:
            before.setattr(PostgresStore, "_roll_up", nothing)
        asyncio.run(write_badly(audit, journal, history, rng))
    newest_ms = max(one.now_ms for one in history)
    since = from_millis(newest_ms - 6 * 24 * HOUR_MS)
    noted = _Noted(QUERIES)
    monkeypatch.setattr(decisions, "QUERIES", noted)
    with psycopg.connect(audit, row_factory=dict_row) as connection:
        within = {"since": since, "until": None, "rows_max": 10_000, "journal": journal}
        within |= zip(("at", "id"), decisions.NEWEST, strict=True)
        query = QUERIES["decisions_by_time"].format(behind="<", order="DESC")
        every = connection.execute(query, asdict(decisions.Wanted()) | within).fetchall()
        named: dict[str, Any]
        matched = 0
        for named in (
            *({"lane": "docs"}, {"lane": "none"}, {"model": "opus", "layer": "docs"}, {"tenant": "acme"}),
            *({"role": "(none)"}, {"tier": "1"}, {"tier": "(none)"}, {"provider": "(none)", "outcome": "routed"}),
            *({"complexity": "expert"}, {"role": "coder", "complexity": "(none)", "model": "haiku"}),
            *({"ev_from": 5.0}, {"ev_below": 5.0}, {"ev_from": -math.inf, "model": "haiku"}),
        ):
            wanted = decisions.Wanted(**named)
            plain = connection.execute(query, asdict(wanted) | within).fetchall()
            ids = [str(row["decision_id"]) for row in plain]
            matched += bool(ids)
            assert not ids or named != {"lane": "none"}
            assert ids == [str(row["decision_id"]) for row in every if wanted.takes(row)]
            for oldest_first in (False, True):
                found: list[str] = []
                key = decisions.OLDEST if oldest_first else decisions.NEWEST
                while True:
                    some = decisions.decisions_by_time(
                        audit, wanted, behind=key, since=since, limit=7, timeouts=DEFAULT_TIMEOUTS, journal=journal,
                        oldest_first=oldest_first,
                    )  # fmt: skip
                    found += [row["decision_id"] for row in some]
                    if len(some) < 7:
                        break
                    key = (some[-1]["decided_at"], some[-1]["decision_id"])
                assert found == (ids[::-1] if oldest_first else ids)
    assert matched > 9
    assert ("hours_with" in noted.used) == summed
    migrate(audit)


class _Noted(dict[str, str]):
    """Queries that note which of them are used."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        super().__init__(queries)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.used.add(name)
        return super().__getitem__(name)


def test_the_command_shows_what_the_views_have(audit: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A sentence, a line a model and one for all; the same numbers as JSON; and what to do where there is nothing."""
    rng = random.Random(5)
    journal = f"j-{uuid.uuid4().hex}"
    history = make_history(rng, 20)
    asyncio.run(write_badly(audit, journal, history, rng))
    arguments = ["stats", "--database", audit, "--since", "2026-11-21T00:00:00Z", "--topic-prefix", ""]
    found = view.stats(
        audit, journal, by=("model", view.MATRIX), since=datetime.fromisoformat("2026-11-21T00:00:00Z"), pool=None,
        timeouts=DEFAULT_TIMEOUTS,
    )  # fmt: skip
    want = numbers(history)
    assert found.total is not None
    assert found.total.routed == want["all", ()].routed
    assert f"{found.total.routed} tasks routed since 2026-11-21T00:00:00.000Z" in found.headline
    assert {one.key: one.decisions for one in found.by["model"]} == {
        key: one.decisions for (by, key), one in want.items() if by == "model"
    }
    cells = view.matrix(found).cells
    assert {(one.model, one.layer): one.routed for one in cells} == {
        key: one.routed for (by, key), one in want.items() if by == "model, layer"
    }
    for layer in view.matrix(found).layers:
        assert sum(one.share for one in cells if one.layer == layer) == pytest.approx(1, abs=1e-3)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--by", "weather"])
    assert ended.value.code == 2
    assert "use role, lane, tenant, layer, provider, model, tier" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        main(arguments)
    assert "Nothing was decided since 2026-11-21T00:00:00.000Z." in capfd.readouterr().out


def test_the_state_of_a_lane_has_one_definition(audit: str) -> None:
    """SQL and Python give the same word on both sides of each threshold, and for all small counts."""
    counts = [*BOUNDARIES, *itertools.product(range(4), repeat=4)]
    with psycopg.connect(audit) as connection:
        query = (
            "SELECT lane_state(a, b, c, d) FROM unnest(%s::int[], %s::int[], %s::int[], %s::int[]) AS of (a, b, c, d)"
        )
        found = [
            state for (state,) in connection.execute(query, [list(column) for column in zip(*counts, strict=True)])
        ]
    assert found == [lane_state(*one) for one in counts]


async def test_pages_and_routes_show_what_the_views_have(audit: str) -> None:
    """The headline, the matrix and the tables, as HTML, CSV and JSON; a layer that is a script is a text."""
    rng = random.Random(7)
    life = uuid.uuid4().hex
    rig = web_rig(audit, life)
    for address in ("/ui/routing", "/ui/analytics?by=lane"):
        empty = await rig.ask("GET", address)
        assert (empty.status, "slotwise send task" in empty.body.decode()) == (200, True)
    history = make_history(rng, 25, start_ms=SystemClock().now_ms() - 20 * 24 * HOUR_MS)
    await write_badly(audit, name_in_audit(rig.web.settings), history, rng)
    want = numbers(history)
    stats = (await rig.ask("GET", "/api/stats?by=lane&hours=2000")).json
    assert {tuple(one["key"]): one["routed"] for one in stats["by"]["lane"]} == {
        key: one.routed for (by, key), one in want.items() if by == "lane"
    }
    cells = (await rig.ask("GET", "/api/routing-matrix?hours=2000")).json["cells"]
    assert {(one["model"], one["layer"]): one["routed"] for one in cells} == {
        key: one.routed for (by, key), one in want.items() if by == "model, layer"
    }
    routing = (await rig.ask("GET", "/ui/routing?hours=2000")).body.decode()
    assert f"<h1>{stats['headline']}</h1>" in routing
    assert "&lt;script&gt;alert(1)" in routing
    assert "<script>alert" not in routing
    assert routing.count('<svg class="columns"') == 2
    for assumption in view.ASSUMPTIONS:
        assert str(escape(assumption)) in routing
    files = {"/ui/routing": ("matrix", "tiers", "evs"), "/ui/analytics": ("stats", "quality", "use", "lanes")}
    for address, tables in files.items():
        for table in tables:
            rows = (await rig.ask("GET", f"{address}?hours=2000&table={table}&format=json")).json["rows"]
            text = (await rig.ask("GET", f"{address}?hours=2000&table={table}&format=csv")).body.decode()
            assert len(list(csv.reader(io.StringIO(text)))) == len(rows) + 1
            assert rows or table == "lanes"
    evs = (await rig.ask("GET", "/ui/routing?hours=2000&table=evs&format=json")).json["rows"]
    with_ev = [one for step in history for one in step.decisions if one.outcome == "routed" and one.ev is not None]
    assert sum(one["routed"] for one in evs) == len(with_ev)
    assert all(one["ev_from"] in (None, -5.0, 0.0, 5.0, 1e12, 5e9) for one in evs)
    assert (await rig.ask("GET", "/ui/routing?hours=0")).status == 422
    away = await web_rig("postgresql://reader@127.0.0.1:9/none", life).ask("GET", "/ui/analytics")
    assert (away.status, "cannot be reached" in away.body.decode()) == (503, True)


@pytest.mark.parametrize("hours", [180, 2000])
async def test_each_count_of_the_sums_leads_to_as_many_decisions(audit: str, hours: int) -> None:
    """By every thing, also where decisions do not say it; within the week that is searched by the sums, and before."""
    rng = random.Random(hours)
    rig = web_rig(audit, uuid.uuid4().hex)
    history = make_history(rng, 25, start_ms=SystemClock().now_ms() - 10 * 24 * HOUR_MS)
    await write_badly(audit, name_in_audit(rig.web.settings), history, rng)
    counts: set[tuple[str, int]] = set()
    for address in ("/ui/routing?", *(f"/ui/analytics?by={by}&" for by in view.BY)):
        counts |= (await page(rig, f"{address}hours={hours}&pool=main")).counted
    assert len(counts) > 40
    for to, count in counts:
        assert len((await rig.ask("GET", f"{to}&format=json")).json["rows"]) == count, to


def web_rig(dsn: str, life: str) -> WebRig:
    """Give the HTTP API and the pages of a journal in an audit."""
    rig = WebRig(tokens=False)
    rig.web = replace(rig.web, settings=replace(rig.settings, database=Dsn(dsn), journal=life))
    rig.app = guarded(rig.web)
    return rig
