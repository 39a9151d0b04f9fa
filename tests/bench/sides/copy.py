"""Their side of (d): psycopg's COPY, of rows that are in memory already; prints how long it took, and the decoding.

`rows` sends tuples, which psycopg writes as text; `text` sends text that is finished, the most that COPY can do.

Run: python -m tests.bench.sides.copy JOURNAL_FILE DSN rows|text
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from msgspec import Struct

from streams.database.sql import QUERIES
from streams.sinks import rows
from streams.sinks.cursor import Cursor
from streams.sinks.ports import BEFORE_FIRST, JournalRecord

if TYPE_CHECKING:
    from streams.sinks.ports import JournaledStep


class Copied(Struct, frozen=True, kw_only=True):
    """What was reached."""

    rows: int
    seconds: float
    rows_per_s: float
    #: Decoding, checking and hashing the journal, without anything else.
    decode_us_per_row: float
    #: Making the text that COPY takes of what was decoded.
    lines_us_per_row: float


def main(file: Path, dsn: str, how: str) -> None:
    """Decode, then copy; only the copying is what the sink is compared with."""
    partitions = msgspec.msgpack.decode(file.read_bytes(), type=tuple[tuple[bytes, ...], ...])
    begun_s = time.process_time()
    taken = [one for partition, values in enumerate(partitions) for one in _decoded(partition, values)]
    decoded_s = time.process_time()
    steps = [rows.step_line("bench", one) for one in taken]
    decisions = [line for one in taken for line in rows.decision_lines("bench", one)]
    outcomes = [line for one in taken for line in rows.outcome_lines("bench", one)]
    made_s = time.process_time()
    count = len(steps) + len(decisions) + len(outcomes)
    tables: list[tuple[str, list[Any]]] = [
        ("copy_steps", steps), ("copy_decisions", decisions), ("copy_outcomes", outcomes)
    ]  # fmt: skip
    if how == "rows":
        tables = [(query, [_tuple(line) for line in lines]) for query, lines in tables]
    with psycopg.connect(dsn) as connection:
        copying_s = time.monotonic()
        with connection.transaction(), connection.cursor() as cursor:
            for query, some in tables:
                with cursor.copy(QUERIES[query]) as copy:
                    write = copy.write_row if how == "rows" else copy.write
                    for row in some:
                        write(row)
        seconds = time.monotonic() - copying_s
    copied = Copied(
        rows=count,
        seconds=round(seconds, 3),
        rows_per_s=round(count / seconds, 1),
        decode_us_per_row=round((decoded_s - begun_s) / count * 1e6, 2),
        lines_us_per_row=round((made_s - decoded_s) / count * 1e6, 2),
    )
    sys.stdout.write(msgspec.json.encode(copied).decode())


def _tuple(line: str) -> tuple[str | None, ...]:
    """Read a line back; nothing in it but the hashes of a step is escaped."""
    return tuple(
        None if value == r"\N" else value.replace("\\\\", "\\") for value in line.removesuffix("\n").split("\t")
    )


def _decoded(partition: int, values: tuple[bytes, ...]) -> list[JournaledStep]:
    cursor = Cursor(partition, BEFORE_FIRST)
    taken = [cursor.take(JournalRecord(partition, offset, 0, value)) for offset, value in enumerate(values)]
    return [one for one in taken if one is not None]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
