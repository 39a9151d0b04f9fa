"""The state of one partition, a state machine whose inputs are the steps of its journal.

Only `apply` changes it. A snapshot is the state as bytes, in chunks. Loading a snapshot of step n and applying the
steps from n on gives the same state as applying all steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct, field

from schemas.decision import Activated, Finished, LedgerRow, Percentiles, SlotGone, SlotRow, Step, TaskRow
from schemas.upgrade import upgrade_snapshot
from schemas.vocabulary import INPUT_TOPICS, Millis
from streams.core.state.marks import Marks, MarksDump
from streams.core.state.pool import Pool
from streams.core.state.spending import Scope
from streams.core.state.utilisation import BusyCurve

_CHUNK_BYTES: Final = 256 * 1024
_CONTROL_MEMORY_MS: Final = 24 * 3_600_000


#: Layout of a snapshot's rows; a snapshot without a number has layout 1.
_SNAPSHOT_VERSION: Final = 2


class SnapshotVersionError(Exception):
    """A snapshot has a layout that this version does not read. Read the journal instead, or use a newer slotwise."""


class StepOutOfOrder(Exception):
    """A step came whose number is not the next one. The journal's reader must accept only the next `seq`."""


class _Head(Struct, frozen=True, kw_only=True, tag="head"):
    v: int = 1
    seq: int
    now_ms: int
    positions: tuple[int, ...]
    controls: dict[str, int]
    counts: dict[str, int]
    unannounced: tuple[str, ...] = field(name="untold")
    marks: MarksDump
    activated: Activated | None


class _PoolHead(Struct, frozen=True, kw_only=True, tag="pool"):
    name: str
    percentiles: Percentiles | None
    cancels: dict[str, int]
    announced_ms: int = field(name="told_ms")
    gone: tuple[SlotGone, ...]
    minutes: tuple[tuple[int, bytes, tuple[float, ...]], ...]
    model_busy: dict[str, tuple[list[int], list[int], int]]
    marks: MarksDump
    ledgers: tuple[LedgerRow, ...]
    duplicates: int = 0
    spending: tuple[tuple[int, tuple[tuple[Scope, int], ...]], ...] = ()


class _Tasks(Struct, frozen=True, kw_only=True, tag="tasks"):
    pool: str
    rows: tuple[TaskRow, ...]


class _Slots(Struct, frozen=True, kw_only=True, tag="slots"):
    pool: str
    rows: tuple[tuple[SlotRow, tuple[list[int], list[int], int] | None], ...]


class _FinishedRows(Struct, frozen=True, kw_only=True, tag="finished"):
    rows: tuple[Finished, ...]


_Chunk = _Head | _PoolHead | _Tasks | _Slots | _FinishedRows
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Chunk).decode
_HEADS: Final = msgspec.msgpack.Decoder(_Head)


def positions_in(chunks: Iterable[bytes]) -> tuple[int, tuple[int, ...]]:
    """Return the number of the next step, and the last input of each topic, of a snapshot: its rows are not read.

    Raises:
        SnapshotVersionError: a later version wrote the snapshot.
        StopIteration, msgspec.MsgspecError: it is none.
    """
    head = _HEADS.decode(next(iter(chunks)))
    _check_version(head)
    return head.seq, head.positions


def _check_version(head: _Head) -> None:
    if head.v > _SNAPSHOT_VERSION:
        raise SnapshotVersionError(
            f"The snapshot has layout {head.v}; this slotwise reads layouts 1 to {_SNAPSHOT_VERSION}."
        )


class Partition:
    """Everything that one partition's decisions depend on."""

    def __init__(self, number: int, *, ev_window_ms: int, finished_memory_ms: int) -> None:
        self.number = number
        self.ev_window_ms = ev_window_ms
        self.finished_memory_ms = finished_memory_ms
        #: Number of the next step.
        self.seq = 0
        self.now_ms = Millis(0)
        #: Offset of the last input handled, by input topic; -1: none yet.
        self.positions = [-1] * len(INPUT_TOPICS)
        self.pools: dict[str, Pool] = {}
        #: Pools in which headlines changed for more tasks than one step announces.
        self.unannounced: tuple[str, ...] = ()
        #: The marks that concern all pools; a new pool begins with them.
        self.marks = Marks()
        #: The policy and catalogue activated last; None: those that the worker was started with.
        self.activated: Activated | None = None
        #: Control ids seen: id -> when.
        self.controls: dict[str, Millis] = {}
        #: Counts of ignored inputs and other events since the beginning, by word.
        self.counts: dict[str, int] = {}

    def pool(self, name: str) -> Pool:
        """Return the pool of that name; it is made at the first call."""
        pool = self.pools.get(name)
        if pool is None:
            pool = self.pools[name] = Pool(name, self.ev_window_ms, self.marks.copy())
        return pool

    def apply(self, step: Step) -> None:
        """Apply the next step.

        Raises:
            StepOutOfOrder: its `seq` is not the next one; nothing was changed.
        """
        if step.seq != self.seq:
            raise StepOutOfOrder(
                f"Partition {self.number} is at step {self.seq} and was given step {step.seq}: "
                "accept only the next seq and read again from there."
            )
        self.seq += 1
        now_ms = self.now_ms = step.now_ms
        positions = self.positions
        for item in step.inputs:
            positions[item.topic] = item.offset
        self._apply_marks(step)
        for sample in step.evs:
            self.pool(sample.pool).evs.add(sample.at_ms, sample.ev)
        for row in step.percentiles:
            self.pool(row.pool).percentiles = row
        # Old memories of a pool are dropped when a step changes the pool; readers check their age.
        touched: dict[str, None] = {}
        for slot in step.slots:
            touched[slot.pool] = None
            self.pool(slot.pool).put_slot(slot, now_ms)
        for gone in step.slots_gone:
            self.pool(gone.pool).put_gone(gone, now_ms)
        # Ends first: a task that ended in this step may have begun a new life in it.
        self._apply_ends(step, touched)
        for task in step.tasks:
            touched[task.task.pool] = None
            pool = self.pool(task.task.pool)
            pool.tasks[task.task.task_id] = task
            pool.finished.pop(task.task.task_id, None)
        for changed in step.tasks_changed:
            tasks = self.pool(changed.pool).tasks
            tasks[changed.task_id] = msgspec.structs.replace(tasks[changed.task_id], status=changed.status)
        for duplicate in step.duplicates:
            self.pool(duplicate.pool).duplicates += 1
        for pool_name, task_id, at_ms in step.cancels:
            self.pool(pool_name).cancels[task_id] = at_ms
        self.unannounced = step.unannounced
        for pool_name, announced_ms in step.announced:
            self.pool(pool_name).announced_ms = announced_ms
        for word, count in step.counts.items():
            self.counts[word] = self.counts.get(word, 0) + count
        self._forget(now_ms, touched)

    def _apply_ends(self, step: Step, touched: dict[str, None]) -> None:
        """Remember the tasks that ended, and forget those that may be sent again."""
        for finished in step.finished:
            touched[finished.pool] = None
            pool = self.pool(finished.pool)
            pool.put_finished(finished)
            pool.cancels.pop(finished.task_id, None)
        for pool_name, task_id in step.retried:
            pool = self.pool(pool_name)
            pool.finished.pop(task_id, None)
            pool.cancels.pop(task_id, None)

    def _apply_marks(self, step: Step) -> None:
        """Apply marks, ledgers, control ids and an activated policy."""
        if step.activated is not None:
            self._activate(step.activated)
        for mark in step.marks:
            for place in self._marks(mark.pool):
                place.put(mark)
        # Only after the last one: what a step decided by must not be forgotten while it is applied.
        for pool in dict.fromkeys(mark.pool for mark in step.marks):
            for place in self._marks(pool):
                place.forget(step.now_ms)
        for ledger in step.ledgers:
            self.pool(ledger.pool).ledgers[ledger.tenant_id] = ledger
        for spent in step.spent:
            self.pool(spent.pool).spending.add(spent)
        for taken in step.controls:
            self.controls[taken.control_id] = taken.at_ms

    def _activate(self, activated: Activated) -> None:
        self.activated = activated
        self.ev_window_ms = activated.ev_window_ms
        self.finished_memory_ms = activated.finished_memory_ms
        for pool in self.pools.values():
            pool.evs.window_ms = activated.ev_window_ms

    def _marks(self, pool: str | None) -> list[Marks]:
        """Return the marks of the pool, or for None those of all pools."""
        if pool is not None:
            return [self.pool(pool).marks]
        return [self.marks, *(known.marks for known in self.pools.values())]

    def _forget(self, now_ms: Millis, touched: Iterable[str]) -> None:
        before_ms = Millis(now_ms - self.finished_memory_ms)
        for name in touched:
            self.pools[name].forget(before_ms)
        while self.controls:
            control_id, at_ms = next(iter(self.controls.items()))
            if at_ms >= now_ms - _CONTROL_MEMORY_MS:
                break
            del self.controls[control_id]

    def snapshot(self) -> Iterator[bytes]:
        """Return the state as chunks of some 256 KiB; steps that are applied meanwhile do not change them."""
        head = _Head(
            v=_SNAPSHOT_VERSION,
            seq=self.seq,
            now_ms=self.now_ms,
            positions=tuple(self.positions),
            controls=dict(self.controls),
            counts=dict(self.counts),
            unannounced=self.unannounced,
            marks=self.marks.dump(),
            activated=self.activated,
        )
        pools = [
            (
                _PoolHead(
                    name=pool.name,
                    percentiles=pool.percentiles,
                    cancels=dict(pool.cancels),
                    announced_ms=pool.announced_ms,
                    gone=tuple(pool.gone.values()),
                    minutes=tuple(pool.evs.dump()),
                    model_busy={model: curve.dump() for model, curve in pool.model_busy.items()},
                    marks=pool.marks.dump(),
                    ledgers=tuple(pool.ledgers.values()),
                    duplicates=pool.duplicates,
                    spending=pool.spending.dump(),
                ),
                tuple(pool.tasks.values()),
                [
                    (row, pool.busy[row.slot_id].dump() if row.slot_id in pool.busy else None)
                    for row in pool.slots.values()
                ],
                tuple(pool.finished.values()),
            )
            for _, pool in sorted(self.pools.items())
            if not pool.is_empty() or pool.marks != self.marks
        ]
        return self._chunks(head, pools)

    @staticmethod
    def _chunks(head: _Head, pools: list) -> Iterator[bytes]:  # type: ignore[type-arg]  # a local tuple shape
        yield _encode(head)
        for pool_head, tasks, slots, finished in pools:
            yield _encode(pool_head)
            for i in range(0, len(slots), 64):
                yield _encode(_Slots(pool=pool_head.name, rows=tuple(slots[i : i + 64])))
            for i in range(0, len(tasks), 256):
                yield _encode(_Tasks(pool=pool_head.name, rows=tasks[i : i + 256]))
            for i in range(0, len(finished), 2048):
                yield _encode(_FinishedRows(rows=finished[i : i + 2048]))

    def load(self, chunks: Iterable[bytes]) -> None:
        """Load a snapshot; the partition must be empty.

        Raises:
            SnapshotVersionError: a later version wrote the snapshot.
        """
        earlier = False
        for raw in chunks:
            match _decode(upgrade_snapshot(raw) if earlier else raw):
                case _Head() as head:
                    _check_version(head)
                    earlier = head.v < _SNAPSHOT_VERSION
                    self.seq, self.now_ms = head.seq, Millis(head.now_ms)
                    self.positions = list(head.positions)
                    self.controls = {key: Millis(at) for key, at in head.controls.items()}
                    self.counts = dict(head.counts)
                    self.unannounced = head.unannounced
                    self.marks = Marks.load(head.marks)
                    if head.activated is not None:
                        self._activate(head.activated)
                case _PoolHead() as row:
                    pool = self.pool(row.name)
                    pool.percentiles = row.percentiles
                    pool.cancels = {key: Millis(at) for key, at in row.cancels.items()}
                    pool.announced_ms = Millis(row.announced_ms)
                    pool.gone = {gone.slot_id: gone for gone in row.gone}
                    pool.evs.load(row.minutes)
                    pool.model_busy = {model: BusyCurve(*dump) for model, dump in row.model_busy.items()}
                    pool.marks = Marks.load(row.marks)
                    pool.duplicates = row.duplicates
                    pool.spending.load(row.spending)
                    pool.ledgers = {ledger.tenant_id: ledger for ledger in row.ledgers}
                case _Slots() as part:
                    pool = self.pool(part.pool)
                    for slot, dump in part.rows:
                        pool.slots[slot.slot_id] = slot
                        pool.model_slots[slot.model] = pool.model_slots.get(slot.model, 0) + 1
                        if dump is not None:
                            pool.busy[slot.slot_id] = BusyCurve(*dump)
                case _Tasks() as part_of:
                    pool = self.pool(part_of.pool)
                    for task in part_of.rows:
                        pool.tasks[task.task.task_id] = task
                case _FinishedRows() as ended:
                    for finished in ended.rows:
                        self.pool(finished.pool).put_finished(finished)
