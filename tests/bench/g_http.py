"""(g) `POST /tasks`: tasks a second in lists and alone, and milliseconds at 100 a second, against a bare endpoint.

Theirs is FastAPI in front of aiokafka as a user would write it. Both are processes of their own under uvicorn, on the
same broker, beside a worker that decides about what they send; ours also follows the journal of that worker, and
checks a token. Rates come from a few connections that send as soon as they are answered, latency from a timetable, so
that a stall is felt by all that it delays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.codec import encode_event
from streams.web.access import new_token
from tests.bench.http_client import Connection
from tests.bench.report import Finding, at_ms
from tests.bench.stage import PARTITIONS, BenchError, Side, now_ms
from tests.bench.workload import Tasks, pools_at_home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.bench import Bench

#: Tasks of a list.
LIST: Final = 100
#: Connections that send lists, and that send tasks alone.
CONNECTIONS: Final = 4
CONNECTIONS_ALONE: Final = 16
WARM_S: Final = 2.0
MEASURED_S: Final = 10.0
QUICK_S: Final = 2.0
#: Single tasks a second of the latency.
RATE: Final = 100


class Served(Struct, frozen=True, kw_only=True):
    """What one side reached, once."""

    side: str
    #: Tasks a second that were acknowledged, in lists and alone.
    in_lists_per_s: float
    alone_per_s: float
    #: Its own processor time for each of them.
    in_lists_us: float
    alone_us: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    #: How late the timetable itself was kept: what is not the server's fault.
    late_p99_ms: float


def measure(bench: Bench) -> list[Finding]:
    """Race the two, the one that begins changing."""
    runs: tuple[list[Served], list[Served]] = ([], [])
    for number in range(bench.options.repeat):
        bench.stage.clear()
        for one in (0, 1) if number % 2 == 0 else (1, 0):
            found = _run(bench, ("http", "bare_http")[one])
            runs[one].append(found)
            bench.tell(_sentence(found))
    if file := bench.profile_file("g_http"):
        bench.stage.clear()
        _run(bench, "http", file)
        bench.tell(f"profile of the HTTP API: {file}")
    ours, theirs = runs
    details = {"ours": msgspec.to_builtins(ours), "theirs": msgspec.to_builtins(theirs)}
    alone = f"POST /tasks of one task at {RATE} a second"
    return [
        Finding.of("g.in_lists_per_s", f"POST /tasks: tasks a second, in lists of {LIST}",
                   median(run.in_lists_per_s for run in ours), "/s", details),
        _ratio("g.in_lists", "The same, against a bare endpoint", ours, theirs,
               lambda run: run.in_lists_per_s, lambda run: run.in_lists_us),
        _ratio("g.alone", f"POST /tasks of one task, {CONNECTIONS_ALONE} connections, against a bare endpoint",
               ours, theirs, lambda run: run.alone_per_s, lambda run: run.alone_us),
        Finding.of("g.p99_ms", f"{alone}: p99", median(run.p99_ms for run in ours), "ms"),
        Finding.of("g.bare_p99_ms", "The same, bare endpoint (no goal)", median(run.p99_ms for run in theirs), "ms"),
        Finding.of("g.p50_ms", f"{alone}: p50 (no goal)", median(run.p50_ms for run in ours), "ms"),
        Finding.of("g.bare_p50_ms", "The same, bare endpoint (no goal)", median(run.p50_ms for run in theirs), "ms"),
    ]  # fmt: skip


def _ratio(
    key: str,
    title: str,
    ours: list[Served],
    theirs: list[Served],
    rate: Callable[[Served], float],
    cost_us: Callable[[Served], float],
) -> Finding:
    ratios = [rate(a) / rate(b) for a, b in zip(ours, theirs, strict=True)]

    def text(runs: list[Served]) -> str:
        return f"{median(map(rate, runs)):,.0f}/s ({median(map(cost_us, runs)):.0f} us)"

    return Finding(
        key=key,
        title=title,
        value=round(median(ratios), 3),
        unit="x",
        ours=text(ours),
        theirs=text(theirs),
        spread=(round(min(ratios), 3), round(max(ratios), 3)),
        details={"ratios": ratios},
    )


def _sentence(found: Served) -> str:
    return (
        f"{found.side}: {found.in_lists_per_s:,.0f} tasks/s in lists ({found.in_lists_us:.0f} us of its processor), "
        f"{found.alone_per_s:,.0f} alone ({found.alone_us:.0f} us); at {RATE}/s p50 {found.p50_ms:.1f} ms, p99 "
        f"{found.p99_ms:.1f} ms, longest {found.max_ms:.0f} ms; the timetable was kept to {found.late_p99_ms:.1f} ms"
    )


def _run(bench: Bench, program: str, profile: Path | None = None) -> Served:
    stage = bench.stage
    token, line = new_token(("producer",), "bench")
    tokens = stage.directory / "tokens.txt"
    tokens.write_text(f"{line}\n")
    settings = replace(stage.settings(program), http_tokens=str(tokens), http_token_rate=0.0)
    arguments = () if profile is None else ("--profile", str(profile))
    worker = Side(settings, stage.directory, "worker", pages=True)
    server = Side(settings, stage.directory, program, *arguments, pages=True)
    worker.start()
    try:
        server.start()
        if profile is not None:
            server.profile()
        return asyncio.run(_Play(server, token, QUICK_S if bench.options.quick else MEASURED_S).run(program))
    finally:
        server.stop()
        worker.stop()


class _Play:
    """The producers."""

    def __init__(self, server: Side, token: str, seconds: float) -> None:
        self._server, self._token, self._seconds = server, token, seconds
        self._sources = [Tasks(pool, seed=partition) for partition, pool in enumerate(pools_at_home(PARTITIONS))]
        self._bodies = self._endless()

    async def run(self, side: str) -> Served:
        """Warm up, and measure one after the other."""
        await self._rate(CONNECTIONS, LIST, WARM_S)
        times_s, late_s = await self._timetable()
        alone_per_s, alone_us = await self._rate(CONNECTIONS_ALONE, 1, self._seconds)
        in_lists_per_s, in_lists_us = await self._rate(CONNECTIONS, LIST, self._seconds)
        return Served(
            side=side,
            in_lists_per_s=round(in_lists_per_s, 1),
            alone_per_s=round(alone_per_s, 1),
            in_lists_us=round(in_lists_us, 1),
            alone_us=round(alone_us, 1),
            p50_ms=at_ms(times_s, 0.5),
            p99_ms=at_ms(times_s, 0.99),
            max_ms=at_ms(times_s, 1.0),
            late_p99_ms=at_ms(late_s, 0.99),
        )

    async def _rate(self, connections: int, size: int, seconds: float) -> tuple[float, float]:
        """Send lists of a size for so long; return tasks a second and the server's processor time for each."""
        end_s = time.perf_counter() + seconds
        acknowledged = 0

        async def produce() -> None:
            nonlocal acknowledged
            async with Connection(self._server.port, self._token) as connection:
                while time.perf_counter() < end_s:
                    await self._post(connection, size)
                    acknowledged += size

        begun_s, cpu_s = time.perf_counter(), self._server.cpu_s()
        await asyncio.gather(*(produce() for _ in range(connections)))
        cpu_s = self._server.cpu_s() - cpu_s
        return acknowledged / (time.perf_counter() - begun_s), cpu_s / acknowledged * 1e6

    async def _timetable(self) -> tuple[list[float], list[float]]:
        """Send single tasks when they are due; return how long each took from then on, and how late it was sent."""
        times_s: list[float] = []
        late_s: list[float] = []
        async with AsyncExitStack() as stack:
            # In turn: a server closes a connection that is idle for some seconds.
            free: asyncio.Queue[Connection] = asyncio.Queue()
            for _ in range(CONNECTIONS_ALONE):
                await free.put(await stack.enter_async_context(Connection(self._server.port, self._token)))

            async def send(due_s: float) -> None:
                connection = await free.get()
                await self._post(connection, 1)
                times_s.append(time.perf_counter() - due_s)
                free.put_nowait(connection)

            async with asyncio.TaskGroup() as group:
                start_s = time.perf_counter()
                for number in range(int(self._seconds * RATE)):
                    due_s = start_s + number / RATE
                    await asyncio.sleep(max(due_s - time.perf_counter(), 0))
                    late_s.append(time.perf_counter() - due_s)
                    group.create_task(send(due_s))
        return sorted(times_s), sorted(late_s)

    async def _post(self, connection: Connection, size: int) -> None:
        some = [next(self._bodies) for _ in range(size)]
        status, answer = await connection.post(some[0] if size == 1 else b"[%b]" % b",".join(some))
        if status != HTTPStatus.ACCEPTED or msgspec.json.decode(answer)["acknowledged"] != size:
            self._server.require_alive()
            raise BenchError(f"POST /tasks of {size} tasks was answered with {status}: {answer[:200]!r}.")

    def _endless(self) -> Iterator[bytes]:
        while True:
            for source in self._sources:
                yield encode_event(source.next(now_ms()))
