"""All readers of the journal accept the same steps of any history, and stop at the same record for the same reason.

A history is made of next steps, fenced steps, gaps and damaged records, at offsets with holes; some of the damaged ones
are skipped by a note that stands somewhere behind them. What must come of it is
said by `outcome`, which shares no code with the reader. Each reader is driven through its own door.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec import Raw

from schemas.decision import STEP_VERSION, Accepted, ControlTaken, EvSample, Step, TaskRow
from schemas.events import ModelDrained
from schemas.skips import Skip, encode_skip
from schemas.steps import encode_step
from schemas.vocabulary import Millis, from_millis
from streams.operate.orders import CONTROL, Position, Trace
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.memory import Log, ManualClock, MemoryCompacted, MemoryJournal
from streams.partition.outputs import Outgoing
from streams.partition.ports import JournalError, JournalPosition
from streams.partition.publish import Publisher
from streams.partition.reader import RecordDamaged, StepsMissing
from streams.partition.recovery import recover
from streams.partition.skips import Skips
from streams.sinks.cursor import Cursor
from streams.sinks.ports import BEFORE_FIRST, JournalRecord
from streams.tables import Tables
from streams.views.journal_stats import JournalStats
from tests.support.builders import START_MS, decision, step
from tests.support.partition_world import RULEBOOK, World, until

# fmt: off
Kind = Literal[
    "next", "fenced", "skipped", "note",
    "gap", "torn", "empty", "other version", "other partition", "other journal", "wrong hash",
]
# fmt: on
ORDINARY: tuple[Kind, ...] = ("next", "next", "next", "fenced", "skipped", "note")
FATAL: tuple[Kind, ...] = ("gap", "torn", "empty", "other version", "other partition", "other journal", "wrong hash")
#: What a foreign record may be that an operator passes over.
FOREIGN: tuple[Kind, ...] = ("torn", "empty", "other version", "other partition", "other journal")
ORDER = ModelDrained(control_id="c-1", at=from_millis(START_MS), by="ops", model="opus")


class Outcome(NamedTuple):
    """What a reader makes of a history."""

    #: Offsets of the records that count.
    accepted: tuple[int, ...]
    #: What stopped it, and at which offset; None: it came to the end.
    stopped: tuple[str, int] | None


class History(NamedTuple):
    """The records of a partition, and what must come of them."""

    log: Log
    outcome: Outcome


class Entry(NamedTuple):
    """One record to be: how many offsets are left out before it, what it is, and a number to choose with."""

    hole: int
    kind: Kind
    chance: int


ENTRIES = st.lists(
    st.builds(Entry, st.sampled_from((0, 0, 0, 1, 3)), st.sampled_from(ORDINARY), st.integers(0, 30)), max_size=12
)
STOPS = st.builds(Entry, st.just(0), st.sampled_from(FATAL), st.integers(0, 30))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Ordinary records; in two of three histories one that stops a reader; and some more behind it."""
    entries = draw(ENTRIES)
    if draw(st.integers(0, 2)):
        entries += [draw(STOPS), *draw(ENTRIES)]
    return history(entries)


def history(entries: Iterable[Entry]) -> History:
    """Write the records; note what a reader must make of them."""
    log, accepted, stopped, seq = Log(), list[int](), None, 0
    due: list[tuple[int, bytes]] = []
    for place, entry in enumerate(entries):
        log.skip(entry.hole)
        for _, late in [one for one in due if one[0] <= place]:
            log.append(late)
        due = [one for one in due if one[0] > place]
        offset, number = log.end, seq
        kind: Kind = "next" if entry.kind == "fenced" and seq == 0 else entry.kind
        if kind == "fenced":
            number = entry.chance % seq
        elif kind == "gap":
            number = seq + 1 + entry.chance % 3
        # Which journal this is, is known from its first step on.
        kind = "torn" if kind == "other journal" and seq == 0 else kind
        foreign = FOREIGN[entry.chance % (len(FOREIGN) if seq else len(FOREIGN) - 1)]
        match kind:
            case "skipped":
                value = _value(foreign, offset, number)
                due.append((place + 1 + entry.chance % 4, note(offset, value)))
            case "wrong hash":
                value = _value("empty", offset, number)
                due.append((place + 1, note(offset, b"another record")))
            case "note":  # about a step that counts, which stays a step
                steps = [one for one in log.records if one.offset in accepted]
                value = note(steps[0].offset, steps[0].value or b"") if steps else note(0, b"another record")
            case _:
                value = _value(kind, offset, number)
        log.append(value)
        if kind == "next":
            seq += 1
        if stopped is None:
            if kind == "next":
                accepted.append(offset)
            elif kind not in ("fenced", "skipped", "note"):
                stopped = ("missing" if kind == "gap" else "damaged", offset)
    for _, late in due:
        log.append(late)
    return History(log, Outcome(tuple(accepted), stopped))


def note(offset: int, value: bytes) -> bytes:
    """An operator's note about a record."""
    sha256 = hashlib.sha256(value).hexdigest()
    return encode_skip(
        Skip(skip=offset, partition=0, sha256=sha256, reason="foreign", by="ops", at="now", journal="one")
    )


def _value(kind: Kind, offset: int, number: int) -> bytes:
    """A record that any reader can be asked about afterwards: each thing in it is named after its offset."""
    raw = encode_step(
        step(
            number,
            decision(task_id=f"t-{offset}", of=offset),
            partition=1 if kind == "other partition" else 0,
            journal="two" if kind == "other journal" else "one",
            inputs=(Accepted(CONTROL, offset, Millis(START_MS)),),
            controls=(ControlTaken(control_id="c-1", at_ms=Millis(START_MS), kind="model.drained", event=Raw(b"{}")),),
            evs=(EvSample(f"at-{offset}", Millis(START_MS), 1.0),),
        )
    )
    match kind:
        case "torn":
            return raw[: len(raw) // 2]
        case "empty":
            return b""
        case "other version":
            return raw.replace(b'{"v":%d,' % STEP_VERSION, b'{"v":99,')
        case _:
            return raw


def kind_of(error: BaseException) -> tuple[str, int]:
    """What an error says, as `Outcome` writes it."""
    assert isinstance(error, StepsMissing | RecordDamaged), error
    return "missing" if isinstance(error, StepsMissing) else "damaged", error.offset


# The readers, each through its own door ------------------------------------------------------------------------------


class Machine:
    """A state machine that keeps what is applied."""

    def __init__(self) -> None:
        self.applied: list[int] = []
        self.changes = self.rows = 0
        self.rulebook = RULEBOOK
        self.seq = 0
        self.now_ms = Millis(START_MS)

    def handle(self, inputs: Sequence[Any]) -> Step:
        """Decide nothing."""
        raise NotImplementedError

    def apply(self, applied: Step) -> None:
        """Keep the offset after which the step is named."""
        self.applied.append(applied.inputs[0].offset)
        self.seq = applied.seq + 1

    def position(self, topic: int) -> int:
        """Nothing was handled."""
        del topic
        return -1

    def task(self, pool: str, task_id: str) -> TaskRow | None:
        """No task is unfinished."""

    def due_ms(self) -> Millis | None:
        """Nothing falls due."""

    def snapshot(self) -> Iterable[bytes]:
        """Nothing to keep."""
        return ()


async def by_recovery(log: Log) -> Outcome:
    """As a worker begins, and as operators read a partition."""
    machine = Machine()
    checkpoints = AlternatingCheckpoints(0, MemoryCompacted(), ManualClock(0))
    try:
        await recover(0, MemoryJournal(log), checkpoints, lambda _: machine)
    except JournalError as error:
        return Outcome(tuple(machine.applied), kind_of(error))
    return Outcome(tuple(machine.applied), None)


async def by_the_worker(log: Log) -> Outcome:
    """At work: the second half of the journal is there when it reads back."""
    world, machine = World(), Machine()
    world.make = lambda _: machine
    worker = world.new_worker()
    try:
        for records in (log.records[: len(log.records) // 2], log.records):
            world.journal.log = Log()
            for record in records:
                world.journal.log.skip(record.offset - world.journal.log.end)
                world.journal.log.append(record.value)
            try:
                await worker.recover()
            except JournalError:
                if records is log.records:
                    raise
                machine.__init__()  # type: ignore[misc] # the note may stand in the second half: it starts again then
                worker = world.new_worker()
    except JournalError as error:
        return Outcome(tuple(machine.applied), kind_of(error))
    return Outcome(tuple(machine.applied), None)


class Outputs:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    async def send(self, outgoing: Sequence[Outgoing]) -> Sequence[Awaitable[object]]:
        """Take all."""
        self.offsets += [int(json.loads(one.record.value)["task_id"].removeprefix("t-")) for one in outgoing]
        return []


class Progress:
    """Keeps what is committed."""

    saved: JournalPosition | None = None

    async def load(self) -> tuple[int, int | None] | None:
        """Nothing is published yet."""
        return None

    async def save(self, position: JournalPosition, _journal_id: str | None) -> None:
        """Keep it."""
        self.saved = position


async def by_the_publisher(log: Log) -> Outcome:
    """From the journal, as after a crash; progress must never pass what stopped it."""
    outputs, progress = Outputs(), Progress()
    publisher = Publisher(0, MemoryJournal(log), outputs, progress)
    await publisher.start(JournalPosition(0, 0), JournalPosition(log.end, 0), Machine().task)
    failed = asyncio.create_task(publisher.failed())
    end = log.end
    await until(lambda: failed.done() or (progress.saved.offset if progress.saved else 0) == end)
    await publisher.stop()
    error = failed.exception() if failed.done() else None
    failed.cancel()
    stopped = None if error is None else kind_of(error)
    if stopped is not None:
        saved = progress.saved or JournalPosition(0, 0)
        assert saved.offset <= stopped[1]
        assert saved.seq == len(outputs.offsets)
    return Outcome(tuple(outputs.offsets), stopped)


async def by_the_tables(log: Log) -> Outcome:
    """In one delivery that leaves out the first half, which is fetched."""
    tables = Tables({}, {}, journal=lambda _: MemoryJournal(log), forget=lambda _rows, _key: None)
    tables.assign({0})
    await tables.gather(0, log.records[len(log.records) // 2 :])
    await tables.flush()
    found = sorted(int(row["pool"].removeprefix("at-")) for row in tables.ask("ev_percentiles", START_MS))
    stopped = tables.stopped.get(0)
    return Outcome(tuple(found), None if stopped is None else kind_of(stopped))


async def by_the_sink(log: Log) -> Outcome:
    """Record by record, as they are fetched, with the notes that its look ahead has found."""
    skips, found = Skips(0), list[int]()
    for record in log.records:
        skips.learn(record.offset, record.value or b"")
    cursor = Cursor(0, BEFORE_FIRST, skips=skips)
    for record in log.records:
        try:
            taken = cursor.take(JournalRecord(0, record.offset, 0, record.value))
        except JournalError as error:
            return Outcome(tuple(found), kind_of(error))
        if taken is not None:
            found.append(taken.offset)
    return Outcome(tuple(found), None)


async def by_the_statistics(log: Log) -> Outcome:
    """As `up` watches the journal."""
    found: list[int] = []
    stats = JournalStats()
    count = stats.add

    def add(counted: Step) -> None:
        found.append(counted.inputs[0].offset)
        count(counted)

    stats.add = add  # type: ignore[method-assign,assignment] # a note lets several count at once
    stats.join(0, 0)
    for record in log.records:
        stats.read(0, record.offset, record.value or b"")
    stopped = stats.stopped.get(0)
    return Outcome(tuple(found), None if stopped is None else kind_of(stopped))


async def by_orders(log: Log) -> Outcome:
    """Look for an order at each position in turn; it is found where its step counts."""
    found, stopped = [], None
    for wanted in [*(record.offset for record in log.records), 10**9]:
        trace = Trace(ORDER, Position(partition=0, offset=wanted), journal_end=0)
        for record in log.records:
            trace.read(record.offset, record.value or b"")
        if trace.stopped is not None:
            stopped = kind_of(trace.stopped)
        if trace.position.status == "taken":
            found.append(wanted)
    return Outcome(tuple(found), stopped)


READERS: dict[str, Callable[[Log], Awaitable[Outcome]]] = {
    "recovery": by_recovery,
    "worker": by_the_worker,
    "publisher": by_the_publisher,
    "tables": by_the_tables,
    "sink": by_the_sink,
    "statistics": by_the_statistics,
    "orders": by_orders,
}


@given(recorded=histories())
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_accepts_the_same_steps_and_stops_at_the_same_record(reader: str, recorded: History) -> None:
    """With any fenced, missing or damaged records, at any place."""
    event("stops" if recorded.outcome.stopped else "comes to the end")
    assert asyncio.run(_read(reader, recorded.log)) == recorded.outcome


async def _read(reader: str, log: Log) -> Outcome:
    return await READERS[reader](log)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", FATAL)
async def test_nothing_behind_a_stop_counts(reader: str, kind: Kind) -> None:
    """The case that once lost steps: 0, 2, 3 made one reader go on and another commit past them."""
    entries = [Entry(0, "next", 0), Entry(0, kind, 0), Entry(0, "next", 0), Entry(0, "next", 0)]
    recorded = history(entries)
    assert recorded.outcome == Outcome((0,), ("missing" if kind == "gap" else "damaged", 1))
    assert await READERS[reader](recorded.log) == recorded.outcome
