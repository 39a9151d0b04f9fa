"""The Faust tables `utilisation` and `ev_percentiles`: projections of the journal. No decision reads them.

A row has an absolute value, the start of its minute in the key, and the number of the last step that it includes; that
step and earlier ones are skipped for the row. So a crash between two rows changes nothing. For a run of steps each row
is written once: sums first, then open intervals, progress last. A journal with a gap or a damaged record stops the
tables of its partition there; the page says so.

    utilisation     busy  partition pool slot minute -> busy ms         open partition pool slot -> leased since
    ev_percentiles  ev    partition pool minute -> n, sketch            usual partition pool -> P50, P90
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec
from fastdigest import TDigest
from msgspec import Struct

from schemas.decision import EvSample, Percentiles, SlotGone, SlotRow
from schemas.skips import read_skip
from schemas.steps import decode_step_by
from streams import metrics
from streams.partition.ports import Entry, Journal, JournalPosition, Raw
from streams.partition.reader import JournalReader, ReadingError, RecordDamaged
from streams.partition.skips import Skips, look_ahead
from streams.topic_names import TABLES

_log = logging.getLogger(__name__)

MINUTE_MS: Final = 60_000
SHORT_MS: Final = 5 * MINUTE_MS
LONG_MS: Final = 60 * MINUTE_MS
_CENTROIDS: Final = 512
#: How often rows are written, unless a table is read: a changelog record each is most of a table's cost.
FLUSH_S: Final = 5.0
GATHERED_BYTES_MAX: Final = 32_000_000

Key = tuple[Any, ...]
Row = dict[str, Any]
Rows = MutableMapping[Key, Row]


class _StepPart(Struct, frozen=True, kw_only=True, gc=False):
    """The part of a step that the tables use; the rest is skipped while decoding."""

    journal: str | None = None
    partition: int
    seq: int
    now_ms: int
    slots: tuple[SlotRow, ...] = ()
    slots_gone: tuple[SlotGone, ...] = ()
    evs: tuple[EvSample, ...] = ()
    percentiles: tuple[Percentiles, ...] = ()


_PARTS = msgspec.json.Decoder(_StepPart)


def _read_part(raw: bytes) -> _StepPart:
    return decode_step_by(_PARTS, raw)


class Tables:
    """Both tables of a worker, for the partitions it has."""

    def __init__(
        self,
        utilisation: Rows,
        ev_percentiles: Rows,
        *,
        journal: Callable[[int], Journal],
        forget: Callable[[Rows, Key], None],
    ) -> None:
        self._tables = {"utilisation": utilisation, "ev_percentiles": ev_percentiles}
        self._journal = journal
        #: Removes a row from the local table without a record in the changelog.
        self._forget = forget
        self._partitions: set[int] = set()
        #: Errors that stopped a partition's projection until it is assigned again.
        self.stopped: dict[int, ReadingError] = {}
        #: Notes about records to pass over, by partition.
        self._skips: dict[int, Skips] = {}
        #: Delivered and not projected yet, by partition.
        self._gathered: dict[int, list[Raw]] = {}
        self._gathered_bytes = 0
        self._projecting = asyncio.Lock()
        #: The minute in which a partition's old rows were last pruned, by table.
        self._pruned: dict[tuple[str, int], int] = {}

    def assign(self, partitions: Collection[int]) -> dict[int, int]:
        """Keep the rows of these partitions only; return the journal offset at which each continues."""
        self._partitions = set(partitions)
        self._pruned.clear()
        # Not projected yet, so it is delivered again or read from the journal.
        self._gathered.clear()
        self._gathered_bytes = 0
        self.stopped.clear()
        self._skips = {partition: Skips(partition) for partition in self._partitions}
        for rows in self._tables.values():
            for key in [key for key in rows if key[1] not in self._partitions]:
                self._forget(rows, key)
        return {partition: self.offset(partition) or 0 for partition in self._partitions}

    def offset(self, partition: int) -> int | None:
        """Return the journal offset at which the partition continues; None: nothing is projected yet."""
        found = [rows.get(("progress", partition)) for rows in self._tables.values()]
        return None if any(row is None for row in found) else min(row["offset"] for row in found if row is not None)

    async def gather(self, partition: int, records: Sequence[Raw]) -> None:
        """Add records for the next `flush`; rows are absolute, so only the last value of each is written."""
        if partition in self.stopped:
            if not any(read_skip(record.value or b"") for record in records):
                return
            del self.stopped[partition]  # it may be about the record that stopped the tables
        self._gathered.setdefault(partition, []).extend(records)
        self._gathered_bytes += sum(len(record.value or b"") for record in records)
        if self._gathered_bytes >= GATHERED_BYTES_MAX:
            await self.flush()

    async def flush(self) -> None:
        """Project the gathered records."""
        async with self._projecting:
            self._gathered_bytes = 0
            while self._gathered:
                partition, records = self._gathered.popitem()
                await self.project(partition, records)

    async def project(self, partition: int, records: Sequence[Raw]) -> None:
        """Project these records, and first those that are missing before them."""
        if not records:
            return
        journal, expected, joins_at = self._journal(partition), self.offset(partition) or 0, 0
        if records[0].offset > expected:
            first, _ = await journal.bounds()
            if first > expected:
                # Retention removed the next records: the rows begin where the journal begins now.
                _log.warning("partition %d: the tables join the journal at offset %d", partition, first)
                expected = joins_at = first
            async with aclosing(journal.read(expected, records[0].offset)) as runs:
                async for run in runs:
                    await self._project(partition, journal, run, joins_at)
        await self._project(
            partition, journal, [Entry(record.offset, record.value or b"") for record in records], joins_at
        )

    async def _project(self, partition: int, journal: Journal, entries: Sequence[Entry], joins_at: int) -> None:
        while partition not in self.stopped:
            found = [self._project_to(table, partition, entries, joins_at) for table in self._tables]
            errors = [error for error in found if error is not None]
            if not errors:
                return
            error = errors[0]
            # Each table goes on from where it got to, once a note passes over the record.
            if isinstance(error, RecordDamaged):
                skips = self._skips.setdefault(partition, Skips(partition))
                if await look_ahead(skips, journal, error.offset, error.sha256):
                    continue
            _log.error("partition %d: the tables stop: %s", partition, error)
            metrics.INVARIANT_VIOLATIONS.labels("tables_stopped").inc()
            self.stopped[partition] = error

    def _project_to(self, table: str, partition: int, entries: Sequence[Entry], joins_at: int) -> ReadingError | None:
        """Project records into one table, up to the end or to the record that stops the reader."""
        rows = self._tables[table]
        progress = rows.get(("progress", partition), {"seq": 0, "offset": 0})
        if progress["offset"] < joins_at:
            reader = JournalReader.joining(partition, _read_part, offset=joins_at)
        else:
            start = JournalPosition(progress["offset"], progress["seq"])
            reader = JournalReader(partition, _read_part, start=start, journal=progress.get("journal"))
        reader.skips = self._skips.setdefault(partition, reader.skips)
        draft: _Draft = _Utilisation(partition, rows) if table == "utilisation" else _EvPercentiles(partition, rows)
        stopped, now_ms = None, None
        for entry in entries:
            try:
                step = reader.take(entry.offset, entry.value)
            except ReadingError as error:
                stopped = error
                break
            if step is not None:
                draft.add(step)
                now_ms = step.now_ms
        for key, row in draft.rows():
            if row is not None:
                rows[key] = row
            elif key in rows:
                del rows[key]
        if now_ms is not None:
            self._prune(partition, table, now_ms)
        if reader.offset > progress["offset"]:
            rows["progress", partition] = {"seq": reader.seq, "offset": reader.offset, "journal": reader.journal}
        return stopped

    def _prune(self, partition: int, table: str, now_ms: int) -> None:
        """Delete rows that have left the hour, once a minute."""
        minute = now_ms // MINUTE_MS
        if self._pruned.get((table, partition)) == minute:
            return
        self._pruned[table, partition] = minute
        rows = self._tables[table]
        oldest_ms = now_ms - LONG_MS - MINUTE_MS
        for key in [k for k in rows if k[0] in {"busy", "ev"} and k[1] == partition and k[-1] < oldest_ms]:
            del rows[key]

    def ask(self, table: str, now_ms: int) -> list[Row]:
        """Return a table as plain rows; `now_ms` is the right edge of the windows.

        Raises:
            KeyError: there is no such table.
        """
        if table not in TABLES:
            raise KeyError(table)
        rows = self._tables[table]
        answer = _utilisation_rows(rows, now_ms) if table == "utilisation" else _ev_rows(rows, now_ms)
        return sorted(answer, key=lambda row: (row["pool"], row.get("slot_id", "")))


class _Draft(Protocol):
    """Changes of rows by a run of steps."""

    def add(self, step: _StepPart) -> None:
        """Add one step."""

    def rows(self) -> Iterator[tuple[Key, Row | None]]:
        """Return the rows to write, in this order; None: delete it."""


class _Utilisation:
    """Busy time by slot and minute."""

    def __init__(self, partition: int, rows: Rows) -> None:
        self._partition = partition
        self._rows = rows
        self._busy: dict[Key, Row] = {}
        self._open: dict[Key, Row | None] = {}

    def add(self, step: _StepPart) -> None:
        for slot in step.slots:
            self._stands(slot, step.seq)
        for gone in step.slots_gone:
            key = ("open", self._partition, gone.pool, gone.slot_id)
            self._close(key, step.now_ms, step.seq)
            self._open[key] = None

    def rows(self) -> Iterator[tuple[Key, Row | None]]:
        yield from self._busy.items()
        yield from self._open.items()

    def _stands(self, slot: SlotRow, seq: int) -> None:
        key = ("open", self._partition, slot.pool, slot.slot_id)
        was = self._was(key)
        if was is not None and was["seq"] >= seq:
            return
        since = None if was is None else (was["state"], was["lease"], was["since_ms"])
        if since != (slot.state, slot.lease, slot.since_ms):
            self._close(key, slot.since_ms, seq)
        self._open[key] = {
            "seq": seq, "state": slot.state, "model": slot.model, "lease": slot.lease, "since_ms": slot.since_ms,
        }  # fmt: skip

    def _close(self, key: Key, at_ms: int, seq: int) -> None:
        was = self._was(key)
        if was is None or not _is_leased(was):
            return
        _, partition, pool, slot_id = key
        for minute_ms, busy_ms in _by_minute(was["since_ms"], at_ms):
            busy = ("busy", partition, pool, slot_id, minute_ms)
            row = self._busy.get(busy) or self._rows.get(busy) or {"seq": -1, "busy_ms": 0, "model": was["model"]}
            if row["seq"] < seq:
                self._busy[busy] = {**row, "seq": seq, "busy_ms": row["busy_ms"] + busy_ms}

    def _was(self, key: Key) -> Row | None:
        return self._open[key] if key in self._open else self._rows.get(key)


class _EvPercentiles:
    """EV samples by pool and minute, and the percentiles that the router uses."""

    def __init__(self, partition: int, rows: Rows) -> None:
        self._partition = partition
        self._rows = rows
        self._minutes: dict[Key, tuple[int, TDigest]] = {}
        self._percentiles: dict[Key, Row] = {}

    def add(self, step: _StepPart) -> None:
        samples: dict[Key, list[float]] = {}
        for sample in step.evs:
            minute_ms = sample.at_ms - sample.at_ms % MINUTE_MS
            samples.setdefault(("ev", self._partition, sample.pool, minute_ms), []).append(sample.ev)
        for key, evs in samples.items():
            seq, digest = self._minute(key)
            if seq < step.seq:
                digest.batch_update(evs)
                self._minutes[key] = (step.seq, digest)
        for percentiles in step.percentiles:
            key = ("usual", self._partition, percentiles.pool)
            self._percentiles[key] = {
                "seq": step.seq,
                "at_ms": percentiles.at_ms,
                "samples": percentiles.samples,
                "p50": percentiles.p50,
                "p90": percentiles.p90,
            }

    def rows(self) -> Iterator[tuple[Key, Row | None]]:
        for key, (seq, digest) in self._minutes.items():
            yield key, {"seq": seq, "n": digest.n_values, "sketch": base64.b64encode(digest.to_bytes()).decode()}
        yield from self._percentiles.items()

    def _minute(self, key: Key) -> tuple[int, TDigest]:
        if key in self._minutes:
            return self._minutes[key]
        row = self._rows.get(key)
        if row is None:
            return -1, TDigest(_CENTROIDS)
        return row["seq"], TDigest.from_bytes(base64.b64decode(row["sketch"]))


def _by_minute(start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Cut an interval at the minutes; of a long one only the last hour counts."""
    at_ms = max(start_ms, end_ms - LONG_MS)
    while at_ms < end_ms:
        minute_ms = at_ms - at_ms % MINUTE_MS
        until_ms = min(end_ms, minute_ms + MINUTE_MS)
        yield minute_ms, until_ms - at_ms
        at_ms = until_ms


def _utilisation_rows(rows: Rows, now_ms: int) -> Iterator[Row]:
    busy: dict[Key, list[tuple[int, int]]] = {}
    for key, row in list(rows.items()):
        if key[0] == "busy":
            busy.setdefault(key[1:4], []).append((key[4], row["busy_ms"]))
    for key, row in list(rows.items()):
        if key[0] != "open":
            continue
        _, partition, pool, slot_id = key
        minutes = list(busy.get((partition, pool, slot_id), ()))
        leased = _is_leased(row)
        if leased:
            minutes += _by_minute(row["since_ms"], now_ms)
        yield {
            "pool": pool,
            "slot_id": slot_id,
            "model": row["model"],
            "state": "leased" if leased else row["state"],
            "since_ms": row["since_ms"],
            "busy_share_5min": _share(minutes, now_ms, SHORT_MS),
            "busy_share_1h": _share(minutes, now_ms, LONG_MS),
            "partition": partition,
        }


def _is_leased(row: Row) -> bool:
    # Rows that a version before 0.1.0 wrote say "held".
    return row["state"] in ("leased", "held")


def _share(minutes: Iterable[tuple[int, int]], now_ms: int, window_ms: int) -> float:
    """Return the busy share of the window that ends now; a minute at its edge counts in part."""
    start_ms = now_ms - window_ms
    total = 0.0
    for minute_ms, busy_ms in minutes:
        inside = min(1.0, max(0.0, (minute_ms + MINUTE_MS - start_ms) / MINUTE_MS))
        total += busy_ms * inside
    return round(min(1.0, total / window_ms), 4)


def _ev_rows(rows: Rows, now_ms: int) -> Iterator[Row]:
    pools: dict[tuple[int, str], TDigest] = {}
    for key, row in list(rows.items()):
        if key[0] == "ev":
            whole = pools.setdefault((key[1], key[2]), TDigest(_CENTROIDS))
            if key[3] > now_ms - LONG_MS - MINUTE_MS:
                whole.merge_inplace(TDigest.from_bytes(base64.b64decode(row["sketch"])))
    for (partition, pool), whole in pools.items():
        percentiles = rows.get(("usual", partition, pool), {})
        yield {
            "pool": pool,
            "samples_1h": whole.n_values,
            "p50_1h": whole.quantile(0.5) if whole.n_values else None,
            "p90_1h": whole.quantile(0.9) if whole.n_values else None,
            "p50_used": percentiles.get("p50"),
            "p90_used": percentiles.get("p90"),
            "used_at_ms": percentiles.get("at_ms"),
            "partition": partition,
        }
