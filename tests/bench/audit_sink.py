"""How fast the audit sink writes, beside a bare COPY of the same rows: `python -m tests.bench.audit_sink`.

The bare COPY sends rows that were encoded beforehand into the same tables, in transactions of the same size: what
Postgres can take in at best. The sink starts from journal records: it decodes, hashes, links and writes them. It needs
a core beside the server's: where other work takes that core, the ratio falls towards that of the CPU times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from streams.embedded import EmbeddedPostgres
from streams.settings import Settings
from streams.sinks import rows
from streams.sinks.clock import SystemClock
from streams.sinks.database import connect_async
from streams.sinks.follow import NOWHERE, Cursor, Follower, Journaled, Record
from streams.sinks.migrations import migrate
from streams.sinks.postgres import PostgresStore
from streams.sinks.sql import QUERIES
from tests.builders import START_MS, decision, journal, step
from tests.journals import HandClock, MemoryRecords

MODELS = ("opus", "sonnet", "haiku", "gpt-5", "gpt-5-mini", "gemini-pro", "gemini-flash", "qwen-local", "llama-local")


def records(decisions: int, a_step: int) -> list[bytes]:
    """Give a journal of ordinary steps: nine models a decision, two decisions in three routed."""
    return journal(
        step(
            seq,
            *(
                decision(
                    of=seq, task_id=f"t-{number}", decided_at_ms=START_MS + number, input_offset=number,
                    outcome="waiting" if number % 3 == 0 else "routed",
                    reason=f"Cheapest capable class for coding>={number % 9}.",
                    layer="docs", lane="maintenance", agent_role="editor", task_type="code", complexity="simple",
                    tenant_id="acme", ev=number % 97 / 7, ev_percentile=0.25, p50=41.0, p90=88.5, utilisation=0.125,
                    estimated_cost_uusd=4100, saved_vs_premium_uusd=120_000, saved_vs_next_free_uusd=0, propensity=1.0,
                    alternatives={model: {"gate": "busy", "score": number % 100 / 100} for model in MODELS},
                )
                for number in range(seq * a_step, (seq + 1) * a_step)
            ),
        )
        for seq in range(decisions // a_step)
    )  # fmt: skip


def taken(values: list[bytes]) -> list[Journaled]:
    """Give the records as steps."""
    cursor = Cursor(0, NOWHERE)
    steps = [cursor.take(Record(0, offset, 0, value)) for offset, value in enumerate(values)]
    return [one for one in steps if one is not None]


def bare_copy(dsn: str, batches: list[list[Journaled]]) -> float:
    """Copy what was encoded beforehand; give the seconds."""
    encoded = [
        (
            "".join(rows.step_line("bare", one) for one in batch).encode(),
            "".join(line for one in batch for line in rows.decision_lines("bare", one)).encode(),
        )
        for batch in batches
    ]
    with psycopg.connect(dsn, autocommit=True) as connection:
        began = time.perf_counter()
        for steps, decisions in encoded:
            with connection.transaction(), connection.cursor() as cursor:
                for query, lines in (("copy_steps", steps), ("copy_decisions", decisions)):
                    with cursor.copy(QUERIES[query].encode()) as copy:
                        copy.write(lines)
        return time.perf_counter() - began


def sink(dsn: str, values: list[bytes], rows_max: int) -> float:
    """Let the sink follow the records; give the seconds."""

    async def follow() -> float:
        topic = MemoryRecords(HandClock())
        topic.append(*values)
        settings = Settings()
        store = PostgresStore(
            lambda: connect_async(dsn), journal="sink", name="bench",
            transaction_s_max=settings.database_statement_timeout_s,
        )  # fmt: skip
        follower = Follower(topic, store, SystemClock(), lambda: 1.0, rows_max=rows_max)
        stop = asyncio.Event()
        began = time.perf_counter()
        running = asyncio.create_task(follower.run(stop))
        while follower.status().steps < len(values) and not running.done():  # noqa: ASYNC110 - polled, to disturb nothing
            await asyncio.sleep(0.002)
        took_s = time.perf_counter() - began
        stop.set()
        await running
        return took_s

    return asyncio.run(follow())


def main() -> None:
    """Measure both, in turn, each on tables of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=50_000)
    parser.add_argument("--step", type=int, default=100, help="decisions a step")
    parser.add_argument("--batch", type=int, default=Settings().sink_rows_max, help="rows a transaction")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    values = records(options.decisions, options.step)
    steps = taken(values)
    steps_a_batch = max(1, options.batch // (options.step + 1))
    batches = [steps[start : start + steps_a_batch] for start in range(0, len(steps), steps_a_batch)]
    best: dict[str, float] = {}
    cpu_us = float("inf")
    with (
        tempfile.TemporaryDirectory(prefix="slotwise-bench-") as directory,
        EmbeddedPostgres(Path(directory)) as server,
    ):
        for number in range(options.rounds):
            for name in ("bare", "sink"):
                dsn = prepared(server, f"{name}_{number}")
                cpu_began_s = time.process_time()
                took_s = bare_copy(dsn, batches) if name == "bare" else sink(dsn, values, options.batch)
                if name == "sink":
                    cpu_us = min(cpu_us, (time.process_time() - cpu_began_s) / options.decisions * 1e6)
                best[name] = max(best.get(name, 0.0), options.decisions / took_s)
                say(what=name, round=number, rows_per_s=round(options.decisions / took_s))
    say(
        bare_rows_per_s=round(best["bare"]),
        sink_rows_per_s=round(best["sink"]),
        ratio=round(best["sink"] / best["bare"], 3),
        sink_cpu_us_per_row=round(cpu_us, 1),
    )


def prepared(server: EmbeddedPostgres, name: str) -> str:
    """Make a database with the audit's tables and the day's partition; give its DSN."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    dsn = server.dsn_of(name)
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("SELECT audit_make_partition('2026-11-21')")
        admin.execute("CHECKPOINT")
    return dsn


def say(**told: object) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
