"""The free slots of one round: those of the index and those that the step freed, without those taken."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from schemas.decision import SlotRow
from schemas.vocabulary import Millis
from streams.core.index.fleet import Cell, cell_of
from streams.core.index.pool_index import PoolIndex
from streams.core.state.utilisation import SHORT_MS
from streams.core.step.draft import PoolDraft


class FreeView:
    """The free slots of one pool within a step."""

    def __init__(self, draft: PoolDraft, now_ms: Millis) -> None:
        self._index: PoolIndex = draft.index
        self._draft = draft
        self._now_ms = now_ms
        self._step_ms = draft.index.rulebook.use_step_ms
        #: Slots that this step freed, by bit: (step of use, slot id, free since).
        self._fresh: dict[int, list[tuple[int, str, Millis]]] = {}
        self._fresh_ids: dict[str, int] = {}
        #: Free slots by bit.
        self.counts: list[int] = self._index.slots.free_counts.copy()
        # Cached for the round, until a slot of the cell is taken.
        self._least: dict[int, tuple[int, str]] = {}
        self._longest: dict[int, tuple[Millis, str, int]] = {}
        self._model_steps: dict[str, int] = {}
        self._lines: dict[int, list[tuple[Millis, str]]] = {}
        self._taken: set[str] = set()
        if draft.slots or draft.slots_gone:
            self._count_changes(draft)
        #: Cells with a free slot.
        self.mask = 0
        one = 1
        for count in self.counts:
            if count:
                self.mask |= one
            one <<= 1

    def single(self) -> int:
        """Cells with exactly one free slot."""
        return sum([1 << bit for bit, count in enumerate(self.counts) if count == 1])

    def least_used(self, bit: int) -> tuple[int, str]:
        """Return (step of use, slot id) of the cell's least used free slot; there must be one."""
        known = self._least.get(bit)
        if known is None:
            fresh = self._fresh.get(bit)
            while fresh and fresh[0][1] in self._taken:
                heappop(fresh)
            free = self._index.slots.free(self._index.fleet.cells[bit])
            # The count says that there is one, in the index or in this step.
            found = [slot for slot in (free.least_used(self._now_ms), fresh[0][:2] if fresh else None) if slot]
            known = self._least[bit] = min(found)
        return known

    def bit_of(self, slot_id: str) -> int | None:
        """Return the bit of the slot's cell, if it is free."""
        slot = self._draft.slot(slot_id)
        if slot is None or not _is_free(slot) or slot_id in self._taken:
            return None
        if slot_id not in self._fresh_ids and not self._index.slots.is_free(slot_id):
            return None
        return self._index.fleet.bit[cell_of(slot)]

    def busy_ms(self, slot_id: str) -> int:
        """Return the busy time of a slot within the last 5 min."""
        curve = self._index.pool.busy.get(slot_id)
        return curve.busy_ms(self._now_ms, SHORT_MS) if curve is not None else 0

    def model_share(self, model: str) -> float:
        """Return the busy share of all slots of the model over 5 min, 0..1."""
        busy_ms, slots = self._model_busy(model)
        return busy_ms / (SHORT_MS * slots) if slots else 0.0

    def model_step(self, model: str) -> int:
        """Return the step of use of all slots of the model."""
        step = self._model_steps.get(model)
        if step is None:
            busy_ms, slots = self._model_busy(model)
            step = self._model_steps[model] = busy_ms // (self._step_ms * slots) if slots else 0
        return step

    def take(self, bit: int, slot_id: str) -> None:
        """Take the slot: it is no longer free."""
        if slot_id in self._fresh_ids:
            self._taken.add(slot_id)
        else:
            self._index.slots.free(self._index.fleet.cells[bit]).take(slot_id)
        self._least.pop(bit, None)
        self._longest.pop(bit, None)
        self.counts[bit] -= 1
        if not self.counts[bit]:
            self.mask &= ~(1 << bit)

    def next_free_model(self, able_mask: int) -> str | None:
        """Return the model of the slot that has been free longest among those that can do the work."""
        index = self._index
        mask = self.mask & able_mask
        if not mask:
            return None
        if mask.bit_count() == 1:
            return index.fleet.cells[mask.bit_length() - 1].model
        best: tuple[Millis, str, int] | None = None
        while mask:
            bit = mask.bit_length() - 1
            mask &= ~(1 << bit)
            known = self._longest.get(bit)
            if known is None:
                # Slots that this step freed have been free for a shorter time than all others.
                found = index.slots.longest_free(index.fleet.cells[bit]) or self._fresh_line(bit)[0]
                known = self._longest[bit] = (*found, bit)
            if best is None or known < best:
                best = known
        return index.fleet.cells[best[2]].model if best is not None else None

    def _count_changes(self, draft: PoolDraft) -> None:
        index = self._index
        bits = index.fleet.bit
        for slot_id in (*draft.slots, *draft.slots_gone):
            old, new = index.pool.slots.get(slot_id), draft.slot(slot_id)
            if old is not None and _is_free(old) and (old_bit := bits.get(cell_of(old))) is not None:
                if new is not None and _is_free(new) and _place(new) == _place(old):
                    continue
                index.slots.free(cell_of(old)).take(slot_id)
                self.counts[old_bit] -= 1
            if new is not None and _is_free(new):
                bit = bits[cell_of(new)]
                step = self.busy_ms(slot_id) // self._step_ms
                heappush(self._fresh.setdefault(bit, []), (step, slot_id, new.since_ms))
                self._fresh_ids[slot_id] = bit
                self.counts[bit] += 1

    def _model_busy(self, model: str) -> tuple[int, int]:
        pool = self._index.pool
        curve = pool.model_busy.get(model)
        return (0, 0) if curve is None else (curve.busy_ms(self._now_ms, SHORT_MS), pool.model_slots.get(model, 0))

    def _fresh_line(self, bit: int) -> list[tuple[Millis, str]]:
        """Return slots that this step freed and that are not taken, free longest first."""
        line = self._lines.get(bit)
        if line is None:
            line = [
                (slot.since_ms, slot_id)
                for slot_id, of in self._fresh_ids.items()
                if of == bit and (slot := self._draft.slot(slot_id)) is not None
            ]
            heapify(line)
            self._lines[bit] = line
        while line[0][1] in self._taken:
            heappop(line)
        return line


def _is_free(slot: SlotRow | None) -> bool:
    return slot is not None and slot.state == "free" and not slot.retired


def _place(slot: SlotRow) -> tuple[Cell, Millis]:
    return cell_of(slot), slot.since_ms
