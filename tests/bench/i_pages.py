"""(i) Every page and read of the web server, with 10^6 decisions in the audit and 10^5 tasks that wait.

The server is `slotwise web` as it is. It follows a journal in which 10^5 tasks wait, and which brings a hundred more
decisions a second; the audit holds a day of 10^6 decisions with their sums. Each address is asked cold, as the first
request of a server that has just started, with Postgres started again, and then warm, over some connections at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec
import psycopg
from msgspec import Struct
from msgspec.structs import replace

from streams.secret import Dsn
from streams.topics import name_in_audit, names
from streams.web.access import new_token
from tests.bench.d_sink import Played, new_database, play, write_journal
from tests.bench.filled_audit import FilledAudit, fill_audit
from tests.bench.http_client import Connection
from tests.bench.report import Finding, at_ms
from tests.bench.stage import PARTITIONS, BenchError, Side, now_ms, producer
from tests.bench.workload import pools_at_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.local.postgres import EmbeddedPostgres
    from streams.settings import Settings
    from tests.bench.bench import Bench

DECISIONS: Final = 1_000_000
WAITING: Final = 100_000
DECISIONS_QUICK: Final = 20_000
WAITING_QUICK: Final = 4_000
#: Requests of each address, over so many connections at a time.
REQUESTS: Final = 120
REQUESTS_QUICK: Final = 20
CONNECTIONS: Final = 4
#: Starts of the server, each with one cold request of every address.
COLD: Final = 2
#: Turns of a slot and a task a second that the journal goes on with.
TURNS_PER_S: Final = 50


class Address(Struct, frozen=True):
    """Something to ask for; what is asked for in turn differs in its details only."""

    name: str
    paths: tuple[str, ...]
    is_page: bool = True
    #: Warm requests at most.
    requests_max: int = REQUESTS


class Measured(Struct, frozen=True, kw_only=True):
    """What one address took."""

    name: str
    is_page: bool
    cold_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    #: Processor time of the server for one request, warm; what Postgres takes is not in it.
    cpu_ms: float
    size: int
    gzipped: int


def measure(bench: Bench) -> list[Finding]:
    """Fill, serve, ask."""
    quick = bench.options.quick
    stage = bench.stage
    stage.clear()
    token, line = new_token(("operator", "reader"), "bench")
    tokens = stage.directory / "tokens.txt"
    tokens.write_text(f"{line}\n")
    server = stage.postgres()
    database = new_database(server)
    settings = replace(stage.settings("http"), http_tokens=str(tokens), http_token_rate=0.0, database=Dsn(database))
    decisions = DECISIONS_QUICK if quick else DECISIONS
    filled = fill_audit(database, name_in_audit(settings), decisions, PARTITIONS, bench.tell)
    bench.tell(f"audit: {msgspec.json.encode(filled).decode()}")
    backlog = (WAITING_QUICK if quick else WAITING) // PARTITIONS
    played = [play(number, pool, 2 * backlog, backlog=backlog) for number, pool in enumerate(pools_at_home(PARTITIONS))]
    asyncio.run(write_journal(settings, [one.records for one in played]))
    bench.tell(f"journal: {sum(len(one.records) for one in played):,} steps, {PARTITIONS * backlog:,} tasks wait")
    found = asyncio.run(_Visit(settings, bench, server, token, played[0], _addresses(database)).run())
    return _findings(found, filled)


def _findings(found: Sequence[Measured], filled: FilledAudit) -> list[Finding]:
    slowest = max(found, key=lambda one: one.p95_ms)
    pages = [one for one in found if one.is_page]
    largest = max(pages, key=lambda one: one.size)
    details = {"audit": msgspec.to_builtins(filled), "addresses": msgspec.to_builtins(found)}
    return [
        Finding.of("i.p95_ms", f"The slowest address, warm: {slowest.name}", slowest.p95_ms, "ms", details),
        Finding.of("i.cold_ms", "The slowest page, cold", max(one.cold_ms for one in pages), "ms"),
        Finding.of("i.page_bytes", f"The largest page: {largest.name}", largest.size, "bytes"),
    ]


#: The table of docs/bench.md, written line by line: a run that is cut off has said what it found.
HEAD: Final = (
    "| | cold, ms | p50, ms | p95, ms | slowest, ms | server's processor, ms | bytes | gzip |",
    "|---|---|---|---|---|---|---|---|",
)


def _line(one: Measured) -> str:
    return (
        f"| {one.name} | {one.cold_ms:.0f} | {one.p50_ms:.0f} | {one.p95_ms:.0f} | {one.max_ms:.0f} "
        f"| {one.cpu_ms:.1f} | {one.size:,} | {one.gzipped:,} |"
    )


def _addresses(database: str) -> tuple[Address, ...]:
    pool, other = pools_at_home(PARTITIONS)[:2]
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT task_id, pool, to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') "
            "|| '~' || decision_id FROM model_routing_decisions TABLESAMPLE system (0.5) "
            "WHERE outcome = 'routed' LIMIT 40"
        ).fetchall()
    audited = tuple(f"/ui/tasks/{task_id}?pool={of}" for task_id, of, _ in rows)
    waits = tuple(f"/ui/tasks/{pool}-t{number}?pool={pool}" for number in range(500, 540))
    older = tuple(f"/ui/decisions?before={before}" for _, _, before in rows)
    uses = (("role-1", "expert"), ("role-14", "trivial"))
    every = ("role", "lane", "tenant", "layer", "provider", "model", "tier")
    return (
        Address("Now `/`", ("/", f"/?pool={pool}")),
        Address("Fleet", ("/ui/fleet", f"/ui/fleet?pool={pool}&model=haiku")),
        Address("Waiting", ("/ui/waiting", f"/ui/waiting?pool={other}", "/ui/waiting?sort=-waiting.since")),
        Address("Waiting, from the middle", (f"/ui/waiting?pool={pool}&after=AFTER",)),
        Address("Waiting, by a tenant", ("/ui/waiting?tenant=acme", "/ui/waiting?tenant=initech")),
        Address("Waiting, by a text", ("/ui/waiting?q=t1234", "/ui/waiting?q=migration")),
        Address("Waiting, by EV, by priority", ("/ui/waiting?sort=-waiting.ev", "/ui/waiting?sort=-waiting.priority")),
        Address("Waiting, by title, by lane", ("/ui/waiting?sort=waiting.title", "/ui/waiting?sort=-waiting.lane")),
        Address("Decisions", ("/ui/decisions",)),
        Address("Decisions, older", older),
        Address("Decisions, the oldest first", ("/ui/decisions?sort=decisions.decided_at",)),
        Address("Decisions, by model", ("/ui/decisions?model=haiku&outcome=routed", "/ui/decisions?model=local")),
        Address("Decisions, by a busy tenant", ("/ui/decisions?tenant=tenant-1", "/ui/decisions?tenant=tenant-2")),
        Address("Decisions, by a rare tenant", ("/ui/decisions?tenant=tenant-180", "/ui/decisions?tenant=tenant-190")),
        Address(
            "Decisions, by role, complexity and model",
            tuple(f"/ui/decisions?role={role}&complexity={of}&model=haiku&outcome=routed" for role, of in uses),
        ),
        Address("Decisions, by tier, by provider", ("/ui/decisions?tier=2", "/ui/decisions?provider=anthropic")),
        Address("Decisions, by what is not there", ("/ui/decisions?tenant=none", "/ui/decisions?lane=none")),
        Address("Task that waits", waits),
        Address("Task of the audit", audited),
        Address("Routing, 24 h", ("/ui/routing", f"/ui/routing?pool={pool}")),
        Address("Analytics by model, 24 h", ("/ui/analytics",)),
        Address("Analytics by tenant, 24 h", ("/ui/analytics?by=tenant",)),
        Address("Analytics by the others, 24 h", tuple(f"/ui/analytics?by={by}" for by in every)),
        Address("Analytics of a pool, 24 h", (f"/ui/analytics?pool={pool}", f"/ui/analytics?pool={pool}&by=tenant")),
        Address("Flow", ("/ui/flow",)),
        Address("Dead letters", ("/ui/dead-letters",)),
        Address("Controls", ("/ui/controls",)),
        Address("`/api/stats`", tuple(f"/api/stats?by={by}&hours=25" for by in every), is_page=False),
        Address("`/api/stats?by=tenant`", ("/api/stats?by=tenant&hours=25",), is_page=False),
        Address("`/api/routing-matrix`", ("/api/routing-matrix", f"/api/routing-matrix?pool={pool}"), is_page=False),
        Address("`/fleet`", ("/fleet", f"/fleet?pool={pool}"), is_page=False),
        Address("`/waiting`", (f"/waiting?pool={pool}", f"/waiting?pool={other}&limit=1000"), is_page=False),
        Address("`/decisions`", ("/decisions", "/decisions?find=migration"), is_page=False),
        Address("`/tasks/ID`", (f"/tasks/{pool}-t600?pool={pool}",), is_page=False),
        Address("`/tasks/ID/decisions`", tuple(f"/tasks/{one}/decisions" for one, *_ in rows), is_page=False),
        Address("`/health`", ("/health",), is_page=False),
        # It asks the broker about every topic, each time.
        Address("`/api/lag`", ("/api/lag",), is_page=False, requests_max=8),
    )


class _Visit:
    """Who looks at everything."""

    def __init__(
        self,
        settings: Settings,
        bench: Bench,
        server: EmbeddedPostgres,
        token: str,
        played: Played,
        addresses: tuple[Address, ...],
    ) -> None:
        self._settings, self._bench, self._server = settings, bench, server
        self._token, self._played, self._addresses = token, played, addresses
        self._middle = ""

    async def run(self) -> list[Measured]:
        """Ask each address cold, after each start of the server, and then warm."""
        cold: dict[str, list[float]] = {one.name: [] for one in self._addresses}
        sizes: dict[str, tuple[int, int]] = {}
        found: list[Measured] = []
        starts = 1 if self._bench.options.quick else COLD
        going_on = asyncio.create_task(self._go_on())
        try:
            for start in range(starts):
                await asyncio.to_thread(self._server.restart)
                side = Side(self._settings, self._bench.stage.directory, "http", pages=True)
                await asyncio.to_thread(side.start)
                try:
                    await self._find_middle(side)
                    for one in self._addresses:
                        took_s, body = await self._ask_once(side, one.paths[start % len(one.paths)])
                        cold[one.name].append(took_s)
                        sizes[one.name] = max(sizes.get(one.name, (0, 0)), (len(body), len(gzip.compress(body, 6))))
                    if start == starts - 1:
                        for text in HEAD:
                            self._bench.tell(text)
                        for one in self._addresses:
                            found.append(await self._measure(side, one, cold[one.name], sizes[one.name]))
                            self._bench.tell(_line(found[-1]))
                finally:
                    await asyncio.to_thread(side.stop)
        finally:
            going_on.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await going_on
        return found

    async def _measure(self, side: Side, one: Address, cold_s: list[float], size: tuple[int, int]) -> Measured:
        before_s = side.cpu_s()
        warm_s = await self._ask_often(side, one)
        return Measured(
            name=one.name,
            is_page=one.is_page,
            cold_ms=round(max(cold_s) * 1000, 1),
            p50_ms=at_ms(warm_s, 0.5),
            p95_ms=at_ms(warm_s, 0.95),
            max_ms=at_ms(warm_s, 1.0),
            cpu_ms=round((side.cpu_s() - before_s) / len(warm_s) * 1000, 2),
            size=size[0],
            gzipped=size[1],
        )

    async def _ask_often(self, side: Side, one: Address) -> list[float]:
        took_s: list[float] = []
        left = iter(range(min(one.requests_max, REQUESTS_QUICK if self._bench.options.quick else REQUESTS)))

        async def visit() -> None:
            async with Connection(side.port, self._token) as connection:
                for number in left:
                    one_s, _ = await self._ask(side, connection, one.paths[number % len(one.paths)])
                    took_s.append(one_s)

        await asyncio.gather(*(visit() for _ in range(CONNECTIONS)))
        return sorted(took_s)

    async def _ask_once(self, side: Side, path: str) -> tuple[float, bytes]:
        async with Connection(side.port, self._token) as connection:
            return await self._ask(side, connection, path)

    async def _ask(self, side: Side, connection: Connection, path: str) -> tuple[float, bytes]:
        begun_s = time.perf_counter()
        status, body = await connection.get(path.replace("AFTER", self._middle))
        took_s = time.perf_counter() - begun_s
        if status != HTTPStatus.OK:
            side.require_alive()
            raise BenchError(f"GET {path} was answered with {status}: {body[:300]!r}.")
        return took_s, body

    async def _find_middle(self, side: Side) -> None:
        """Find the key of a task that waits in the middle of a pool."""
        pool = pools_at_home(PARTITIONS)[0]
        _, body = await self._ask_once(side, f"/ui/waiting?pool={pool}&format=json")
        rows = msgspec.json.decode(body)["rows"]
        _, text = await self._ask_once(side, f"/ui/waiting?pool={pool}")
        found = re.search(rb"after=(\d+)~", text.replace(b"%7E", b"~"))
        if found is None:
            raise BenchError("The page of waiting tasks has no link to the next ones.")
        since_ms = int(found[1]) + len(rows)
        self._middle = f"{since_ms}~{pool}~t"

    async def _go_on(self) -> None:
        """Have the journal of the first partition go on, as a worker does that has slots coming free."""
        topic, churn = names(self._settings).journal, self._played.churn
        async with producer(self._settings) as client:
            while True:
                churn.now_ms = now_ms()
                record = self._played.take(churn.turn(TURNS_PER_S // 10))
                await client.send_and_wait(topic, record, partition=0)
                await asyncio.sleep(0.1)
