"""The slots of one pool by cell: registered, in service, free, least used and longest free."""

from __future__ import annotations

from schemas.decision import SlotRow
from schemas.vocabulary import Millis
from streams.core.index.due import DueList, silent_ms
from streams.core.index.fleet import Cell, Fleet, cell_of
from streams.core.index.free_slots import FreeSlots
from streams.core.index.undo import Undo
from streams.core.state.pool import Pool


def is_registered(slot: SlotRow) -> bool:
    """Whether the slot is part of the fleet: it is not retired."""
    return not slot.retired


def is_in_service(slot: SlotRow) -> bool:
    """Whether the slot is registered and not lost."""
    return not slot.retired and slot.state != "lost"


class SlotIndex:
    """The slots of one pool, without those that the decision in progress has taken."""

    def __init__(self, pool: Pool, step_ms: int, due: DueList, undo: Undo) -> None:
        """`step_ms` is the busy time that makes a step of use."""
        self._pool = pool
        self._step_ms = step_ms
        self._due = due
        self._undo = undo
        self._rows: dict[str, SlotRow] = {}
        self._free: dict[Cell, FreeSlots] = {}
        self._bit: dict[Cell, int] = {}
        #: Registered slots by cell, and those in service; cells without any are absent. The decision in progress
        #: does not change them.
        self.registered: dict[Cell, int] = {}
        #: Lost slots by id, as the state has them.
        self.lost: dict[str, Cell] = {}
        self.in_service: dict[Cell, int] = {}
        #: Free slots by bit of the fleet. The decision in progress does not change it.
        self.free_counts: list[int] = []

    def align(self, fleet: Fleet) -> None:
        """Use the bits of this fleet from here on."""
        self._bit = fleet.bit
        self.free_counts = [len(self.free(cell)) for cell in fleet.cells]

    def sync(self, slot_id: str) -> None:
        """Follow a change of the slot's row."""
        row, old = self._pool.slots.get(slot_id), self._rows.get(slot_id)
        if old is row:
            return
        if old is not None and is_registered(old):
            self._leave(old)
        if row is None:
            del self._rows[slot_id]
            return
        self._rows[slot_id] = row
        if is_registered(row):
            self._join(row)
        if row.state == "leased" and row.lease_expires_at_ms is not None:
            self._due.push((row.lease_expires_at_ms, "lease", slot_id, row.lease))
        if (at_ms := silent_ms(row)) is not None:
            self._due.push((at_ms, "silence", slot_id, row.lease))

    def free(self, cell: Cell) -> FreeSlots:
        """Return the free slots of a cell."""
        free = self._free.get(cell)
        if free is None:
            free = self._free[cell] = FreeSlots(self._pool.busy, self._step_ms, self._undo)
        return free

    def free_mask(self) -> int:
        """Cells with a free slot in the state."""
        return sum([1 << bit for bit, count in enumerate(self.free_counts) if count])

    def is_free(self, slot_id: str) -> bool:
        """Whether the slot is free in the state and not taken."""
        row = self._rows.get(slot_id)
        return row is not None and self.free(cell_of(row)).is_free(slot_id)

    def longest_free(self, cell: Cell) -> tuple[Millis, str] | None:
        """Return (since, slot id) of the cell's slot that has been free longest and is not taken."""
        return self.free(cell).longest_free()

    def _join(self, row: SlotRow) -> None:
        cell = cell_of(row)
        _add(self.registered, cell, 1)
        if is_in_service(row):
            _add(self.in_service, cell, 1)
        else:
            self.lost[row.slot_id] = cell
        if row.state == "free":
            self.free(cell).add(row.slot_id, row.since_ms)
            self._count(cell, 1)

    def _leave(self, row: SlotRow) -> None:
        cell = cell_of(row)
        _add(self.registered, cell, -1)
        if is_in_service(row):
            _add(self.in_service, cell, -1)
        else:
            del self.lost[row.slot_id]
        if row.state == "free":
            self.free(cell).remove(row.slot_id)
            self._count(cell, -1)

    def _count(self, cell: Cell, by: int) -> None:
        bit = self._bit.get(cell)
        if bit is not None:
            self.free_counts[bit] += by


def _add(counts: dict[Cell, int], cell: Cell, by: int) -> None:
    counts[cell] = counts.get(cell, 0) + by
    if not counts[cell]:
        del counts[cell]
