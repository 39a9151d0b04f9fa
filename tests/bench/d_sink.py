"""(d) Rows a second that the sink brings from the journal into Postgres, against COPY of the same rows.

The sink reads the journal from the broker, checks and decodes it, and writes in transactions of bounded size. The
other side has the rows in memory already, as tuples, and sends them by psycopg's COPY into the same tables (partitions
and indexes included) of another database, all in one transaction; beside it, without a goal, the same with the text
that COPY takes made beforehand, and the sink with the records in memory, which is what is left without the broker. The
sink's clock runs from its first commit on.
"""

from __future__ import annotations

import asyncio
import uuid
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
import psycopg
from msgspec import Struct
from msgspec.structs import replace
from psycopg import sql

from schemas.steps import encode_step
from streams.core.router import Router
from streams.database.migrations import migrate
from streams.secret import Dsn
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import names
from tests.bench.report import Finding
from tests.bench.sides.copy import Copied
from tests.bench.sides.sink import Sunk
from tests.bench.stage import PARTITIONS, now_ms, producer, run_program
from tests.bench.workload import Churn, in_steps, pools_at_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.input import Input
    from streams.local.postgres import EmbeddedPostgres
    from tests.bench.bench import Bench

SLOTS: Final = 100
STEP_INPUTS: Final = 64
#: Enough for several transactions of the sink.
EVENTS_MIN: Final = 16_000


class Journal(Struct, frozen=True):
    """Steps as they stand in a journal, by partition; how many rows they make."""

    partitions: tuple[tuple[bytes, ...], ...]
    steps: int
    decisions: int
    rows: int


class Played:
    """The history of one partition, which can go on."""

    def __init__(self, router: Router, churn: Churn) -> None:
        self.churn = churn
        self.records: list[bytes] = []
        self.decisions = self.work = 0
        self._router = router

    def take(self, inputs: Sequence[Input]) -> bytes:
        """Have one step made, and return its record."""
        step = self._router.handle(inputs)
        self.records.append(encode_step(step))
        self._router.apply(step)
        self.churn.see(step)
        self.decisions += len(step.decisions)
        self.work += len(step.work)
        return self.records[-1]


def measure(bench: Bench) -> list[Finding]:
    """Measure both, in turn, each time on databases that are new."""
    journal = make_journal(max(EVENTS_MIN, bench.options.events))
    file = bench.stage.directory / "journal.msgpack"
    file.write_bytes(msgspec.msgpack.encode(journal.partitions))
    server = bench.stage.postgres()
    sunk: list[Sunk] = []
    alone: list[Sunk] = []
    copied: list[Copied] = []
    sent: list[Copied] = []
    for number in range(bench.options.repeat):
        bench.stage.clear()
        sides = ("sink", "memory", "rows", "text")
        for side in sides if number % 2 == 0 else reversed(sides):
            database = new_database(server)
            if side == "sink":
                sunk.append(_sink(bench, journal, database))
                bench.tell(
                    f"sink: {sunk[-1].rows_per_s:,.0f} rows/s, {sunk[-1].cpu_us_per_row:.1f} us of its processor"
                )
                continue
            if side == "memory":
                alone.append(_sink_alone(journal, str(file), database))
                bench.tell(f"sink from memory: {alone[-1].rows_per_s:,.0f} rows/s")
                continue
            found = msgspec.json.decode(run_program("copy", str(file), database, side), type=Copied)
            (copied if side == "rows" else sent).append(found)
            bench.tell(
                f"COPY of {side}: {found.rows_per_s:,.0f} rows/s; decoding alone {found.decode_us_per_row:.1f} us "
                f"a row, making the text {found.lines_us_per_row:.1f} us"
            )
    if profile := bench.profile_file("d_sink"):
        bench.stage.clear()
        _sink(bench, journal, new_database(server), "--profile", str(profile))
        bench.tell(f"profile of the sink: {profile}")
    server.stop()
    ratios = [a.rows_per_s / b.rows_per_s for a, b in zip(sunk, copied, strict=True)]
    return [
        Finding(
            key="d",
            title="Journal to Postgres, against COPY of the same rows",
            value=round(median(ratios), 3),
            unit="x",
            ours=f"{median(one.rows_per_s for one in sunk):,.0f} rows/s",
            theirs=f"{median(one.rows_per_s for one in copied):,.0f} rows/s",
            spread=(round(min(ratios), 3), round(max(ratios), 3)),
            details={
                "steps": journal.steps,
                "decisions": journal.decisions,
                "rows": journal.rows,
                "ratios": ratios,
                "ours": msgspec.to_builtins(sunk),
                "theirs": msgspec.to_builtins(copied),
            },
        ),
        Finding(
            key="d.text",
            title="The same, against COPY of finished text (no goal)",
            value=round(median(a.rows_per_s / b.rows_per_s for a, b in zip(sunk, sent, strict=True)), 3),
            unit="x",
            ours=f"{median(one.rows_per_s for one in sunk):,.0f} rows/s",
            theirs=f"{median(one.rows_per_s for one in sent):,.0f} rows/s",
            details={"theirs": msgspec.to_builtins(sent)},
        ),
        Finding(
            key="d.memory",
            title="The sink from records in memory, against COPY of the same rows (no goal)",
            value=round(median(a.rows_per_s / b.rows_per_s for a, b in zip(alone, copied, strict=True)), 3),
            unit="x",
            ours=f"{median(one.rows_per_s for one in alone):,.0f} rows/s",
            theirs=f"{median(one.rows_per_s for one in copied):,.0f} rows/s",
            details={"ours": msgspec.to_builtins(alone)},
        ),
        Finding.of(
            "d.decode_us",
            "us to decode a row's share of the journal, alone (no goal)",
            median(one.decode_us_per_row for one in copied),
            "us",
        ),
    ]


def make_journal(events: int) -> Journal:
    """What a router makes of so many events, in steps as group commit makes them."""
    played = [play(number, pool, events // PARTITIONS, backlog=1000) for number, pool in _pools()]
    steps, decisions = sum(len(one.records) for one in played), sum(one.decisions for one in played)
    rows = steps + decisions + sum(one.work for one in played)
    return Journal(tuple(tuple(one.records) for one in played), steps, decisions, rows)


def play(partition: int, pool: str, events: int, *, backlog: int) -> Played:
    """Have a router take a fleet and a backlog, and then slots that come free and tasks, so many events in all."""
    router = Router(partition, file_rulebook(Settings()))
    churn = Churn(pool, now_ms() - max(events, backlog), seed=partition)
    played = Played(router, churn)
    inputs = churn.announce(SLOTS) + churn.arrive(backlog)
    while inputs:
        for some in in_steps(inputs, STEP_INPUTS):
            played.take(some)
        inputs = churn.turn(STEP_INPUTS // 2) if churn.sent < events else []
    return played


def _pools() -> Iterable[tuple[int, str]]:
    return enumerate(pools_at_home(PARTITIONS))


def _sink(bench: Bench, journal: Journal, database: str, *profile: str) -> Sunk:
    settings = replace(bench.stage.settings("sink"), database=Dsn(database))
    asyncio.run(write_journal(settings, journal.partitions))
    variables = {"SLOTWISE_BROKER": settings.broker, "SLOTWISE_DATABASE": database}
    variables |= {"SLOTWISE_GROUP": settings.group, "SLOTWISE_TOPIC_PREFIX": settings.topic_prefix}
    arguments = [str(journal.steps), str(journal.rows), *profile]
    return msgspec.json.decode(run_program("sink", *arguments, environment=variables), type=Sunk)


def _sink_alone(journal: Journal, file: str, database: str) -> Sunk:
    arguments = [str(journal.steps), str(journal.rows), "--journal", file]
    return msgspec.json.decode(run_program("sink", *arguments, environment={"SLOTWISE_DATABASE": database}), type=Sunk)


async def write_journal(settings: Settings, partitions: Sequence[Sequence[bytes]]) -> None:
    """Write the records of all partitions to the topic of an installation."""
    topic = names(settings).journal
    async with producer(settings, linger_ms=20, max_request_size=settings.step_bytes_max) as client:
        sent = [
            await client.send(topic, value, partition=partition)
            for partition, values in enumerate(partitions)
            for value in values
        ]
        await asyncio.gather(*sent)


def new_database(server: EmbeddedPostgres) -> str:
    """Make a database with an empty audit."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    dsn = server.dsn_of(name)
    migrate(dsn)
    return dsn
