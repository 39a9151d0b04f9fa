"""The tables say what the journal says, and say the same after a crash between any two rows."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from schemas.decision import EvSample, Percentiles, SlotRow
from schemas.steps import encode_step
from schemas.vocabulary import Millis
from streams.partition.memory import Log, MemoryJournal
from streams.tables import Key, Row, Rows, Tables
from tests.support.builders import START_MS, step

if TYPE_CHECKING:
    from schemas.decision import Step

MINUTE_MS = 60_000


class Table(MutableMapping[Key, Row]):
    """A dictionary that keeps its changelog."""

    def __init__(self, changelog: list[tuple[int, Key, Row | None]], number: int) -> None:
        self._changelog, self._number = changelog, number
        self._rows: dict[Key, Row] = {}
        for table, key, row in changelog:
            if table == number:
                self._rows.pop(key, None)
                if row is not None:
                    self._rows[key] = row

    def __getitem__(self, key: Key) -> Row:
        return self._rows[key]

    def __setitem__(self, key: Key, row: Row) -> None:
        self._rows[key] = row
        self._changelog.append((self._number, key, row))

    def __delitem__(self, key: Key) -> None:
        del self._rows[key]
        self._changelog.append((self._number, key, None))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def forget(self, key: Key) -> None:
        """Drop a row without telling the changelog."""
        self._rows.pop(key, None)


class World:
    """A journal, and tables made from a changelog."""

    def __init__(self, steps: list[Step]) -> None:
        self.log = Log()
        for one in steps:
            self.log.append(encode_step(one))

    def tables(self, changelog: list[tuple[int, Key, Row | None]]) -> Tables:
        """As a worker has them after recovery."""

        def forget(rows: Rows, key: Key) -> None:
            assert isinstance(rows, Table)
            rows.forget(key)

        made = Tables(
            Table(changelog, 0), Table(changelog, 1), journal=lambda _: MemoryJournal(self.log), forget=forget
        )
        made.assign({0})
        return made


def slot(slot_id: str, state: str, at_ms: int, lease: int) -> SlotRow:
    """A slot of the pool `main`."""
    return SlotRow(
        slot_id=slot_id, pool="main", model="haiku", state=state, lease=lease, since_ms=Millis(START_MS + at_ms)  # type: ignore[arg-type]
    )  # fmt: skip


def at(seq: int, at_ms: int, **rows: Any) -> Step:
    """A step at a moment after the start."""
    return step(seq, now_ms=Millis(START_MS + at_ms), **rows)


#: Two slots through four minutes: busy 1.5 of them, and from the third minute on.
STEPS = [
    at(0, 0, slots=(slot("a", "free", 0, 0), slot("b", "free", 0, 0))),
    at(1, 30_000, slots=(slot("a", "leased", 30_000, 1),), evs=(EvSample("main", Millis(START_MS + 30_000), 10.0),)),
    at(2, 120_000, slots=(slot("a", "free", 120_000, 1),), evs=(EvSample("main", Millis(START_MS + 31_000), 20.0),)),
    at(3, 180_000, slots=(slot("b", "leased", 180_000, 1),), evs=(EvSample("main", Millis(START_MS + 180_000), 30.0),)),
    at(
        4,
        200_000,
        percentiles=(Percentiles(pool="main", at_ms=Millis(START_MS + 200_000), samples=3, p50=20.0, p90=30.0),),
    ),
]


async def test_busy_time_is_counted_by_the_minute_and_what_is_open_until_now() -> None:
    """Five minutes and an hour."""
    world = World(STEPS)
    tables = world.tables([])
    await tables.project(0, world.log.records)
    a, b = tables.ask("utilisation", START_MS + 5 * MINUTE_MS)
    assert (a["slot_id"], a["state"], a["busy_share_5min"], a["busy_share_1h"]) == ("a", "free", 0.3, 0.025)
    assert (b["slot_id"], b["state"], b["busy_share_5min"]) == ("b", "leased", 0.4)


async def test_percentiles_are_those_of_the_hour_beside_those_in_use() -> None:
    """The sketch, and the percentiles that the router used last."""
    world = World(STEPS)
    tables = world.tables([])
    await tables.project(0, world.log.records)
    (row,) = tables.ask("ev_percentiles", START_MS + 5 * MINUTE_MS)
    assert (row["samples_1h"], row["p50_1h"], row["p50_used"], row["p90_used"]) == (3, 20.0, 20.0, 30.0)
    (later,) = tables.ask("ev_percentiles", START_MS + 62 * MINUTE_MS)
    assert later["samples_1h"] == 1


async def test_a_crash_between_any_two_rows_changes_nothing() -> None:
    """Whatever the changelog had taken, projecting again gives the same rows."""
    world = World(STEPS)
    whole: list[tuple[int, Key, Row | None]] = []
    tables = world.tables(whole)
    for record in world.log.records:
        await tables.project(0, [record])
    now_ms = START_MS + 5 * MINUTE_MS
    want = [tables.ask(name, now_ms) for name in ("utilisation", "ev_percentiles")]
    for length in range(len(whole)):
        again = world.tables(whole[:length])
        start = again.offset(0) or 0
        await again.project(0, world.log.records[start:])
        assert [again.ask(name, now_ms) for name in ("utilisation", "ev_percentiles")] == want, length


async def test_steps_that_were_not_delivered_are_fetched_and_fenced_ones_ignored() -> None:
    """The journal is the truth here, too."""
    world = World([*STEPS[:3], at(1, 500_000, slots=(slot("a", "leased", 500_000, 9),)), *STEPS[3:]])
    tables = world.tables([])
    await tables.project(0, world.log.records[:1])
    await tables.project(0, world.log.records[5:])
    a, _ = tables.ask("utilisation", START_MS + 5 * MINUTE_MS)
    assert (a["state"], a["busy_share_5min"]) == ("free", 0.3)


async def test_a_gap_stops_the_tables_of_its_partition_until_it_is_assigned_again() -> None:
    """The rows stay what they were before it, and the reason is kept for the page."""
    world = World([STEPS[0], STEPS[1], STEPS[3], STEPS[4]])
    tables = world.tables([])
    await tables.project(0, world.log.records)
    a, b = tables.ask("utilisation", START_MS + 5 * MINUTE_MS)
    assert (a["state"], b["state"], tables.offset(0)) == ("leased", "free", 2)
    assert "step 2 is missing" in str(tables.stopped[0])
    await tables.gather(0, world.log.records[3:])
    await tables.flush()
    assert tables.offset(0) == 2
    assert tables.assign({0}) == {0: 2}
    assert tables.stopped == {}


async def test_a_journal_that_retention_cut_is_joined_where_it_begins_now() -> None:
    """What was before it is older than the hour that the tables show."""
    world = World(STEPS)
    world.log.cut(2)
    tables = world.tables([])
    await tables.project(0, world.log.records[1:])
    a, b = tables.ask("utilisation", START_MS + 5 * MINUTE_MS)
    assert (a["state"], b["state"], tables.offset(0), tables.stopped) == ("free", "leased", 5, {})


async def test_few_rows_are_written_for_many_steps() -> None:
    """Each row once, and progress once a table."""
    world = World(STEPS)
    changelog: list[tuple[int, Key, Row | None]] = []
    await world.tables(changelog).project(0, world.log.records)
    keys = [(table, key) for table, key, _ in changelog]
    assert len(keys) == len(set(keys))
    assert [key for key in keys if key[1][0] == "progress"] == [(0, ("progress", 0)), (1, ("progress", 0))]


async def test_what_is_gathered_is_written_once_and_what_a_move_forgets_comes_again() -> None:
    """Record by record makes no more rows than all at once; what was gathered before a move is delivered again."""
    world = World(STEPS)
    at_once: list[tuple[int, Key, Row | None]] = []
    await world.tables(at_once).project(0, world.log.records)
    gathered: list[tuple[int, Key, Row | None]] = []
    tables = world.tables(gathered)
    await tables.gather(0, world.log.records[:2])
    for record in world.log.records[tables.assign({0})[0] :]:
        await tables.gather(0, [record])
    assert gathered == []
    await tables.flush()
    assert gathered == at_once


async def test_rows_older_than_an_hour_are_deleted() -> None:
    """The table stays small."""
    world = World([*STEPS, at(5, 70 * MINUTE_MS, slots=(slot("b", "free", 70 * MINUTE_MS, 1),))])
    tables = world.tables([])
    for record in world.log.records:
        await tables.project(0, [record])
    left = [key for key in tables._tables["utilisation"] if key[0] == "busy" and key[3] == "a"]
    assert left == []


async def test_rows_of_partitions_that_went_away_are_forgotten() -> None:
    """Another worker has them now."""
    world = World(STEPS)
    tables = world.tables([])
    await tables.project(0, world.log.records)
    assert tables.assign({1}) == {1: 0}
    assert tables.ask("utilisation", START_MS) == []


async def test_records_and_rows_of_before_0_1_0_are_of_leased_slots() -> None:
    """Their word was `held`. Busy time goes on through it, and the answer has the new word."""
    old = World([])
    for record in World(STEPS[:2]).log.records:
        old.log.append((record.value or b"").replace(b'{"v":2,', b'{"v":1,').replace(b'"leased"', b'"held"'))
    changelog: list[tuple[int, Key, Row | None]] = []
    tables = old.tables(changelog)
    await tables.project(0, old.log.records)
    changelog[:] = [(table, key, row and {**row, **_old_word(row)}) for table, key, row in changelog]
    tables = old.tables(changelog)
    a, _ = tables.ask("utilisation", START_MS + 90_000)
    assert (a["state"], a["busy_share_5min"]) == ("leased", 0.2)
    old.log.append(encode_step(STEPS[2]))
    await tables.project(0, old.log.records[2:])
    a, _ = tables.ask("utilisation", START_MS + 5 * MINUTE_MS)
    assert (a["state"], a["busy_share_5min"]) == ("free", 0.3)


def _old_word(row: Row) -> Row:
    return {"state": "held"} if row.get("state") == "leased" else {}
