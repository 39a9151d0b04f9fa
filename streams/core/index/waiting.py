"""Waiting tasks in service order, without a scan of all of them.

Service order within a queue is: whole points of aged priority, then EV, then time of arrival, then id. A
task's points at `now` are `floor((now - birth) / ageing)`, where `birth = since - priority * ageing`; so
points depend on one number, and two tasks with births in one ageing-wide *band* differ by one point at most:

    band B = birth // ageing, phase = birth % ageing, and with now = K * ageing + now_phase
    points = K - B       for phase <= now_phase   (the "ripe" part of a band)
    points = K - B - 1   otherwise

The head of a queue is therefore in its oldest band's ripe part; or, if that is empty, in that band or the
ripe part of the next. A band has all its tasks on a heap by EV and, once it was looked up, its ripe ones on another
heap, which grows with the phase and starts again with each cycle. Nearly always the best task of all is ripe, and then
nothing else is read. The cost of a look-up does not depend on the number of tasks.

The queue is an index: entries of removed tasks stay until they reach the top. `Entry.take` hides an entry until the
decision's changes are undone (`undo.py`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from schemas.decision import TaskRow
from schemas.vocabulary import Millis
from streams.core.index.family import Costs
from streams.core.index.undo import Undo

if TYPE_CHECKING:
    from streams.core.index.groups import Group
    from streams.core.index.shape import Shape

NO_EV: Final = float("inf")


class Entry:
    """A waiting task's place in the index."""

    __slots__ = (
        "alive",
        "band",
        "birth_ms",
        "costs",
        "ev_key",
        "group",
        "phase_ms",
        "row",
        "shape",
        "since_ms",
        "taken",
        "task_id",
        "tenant",
    )

    def __init__(self, row: TaskRow, ageing_ms: int, shape: Shape, group: Group) -> None:
        self.row = row
        self.task_id = row.task.task_id
        self.since_ms = row.status.since_ms
        #: Time at which a task of priority 0 with the same points began to wait.
        self.birth_ms = self.since_ms - row.task.priority * ageing_ms
        self.band, self.phase_ms = divmod(self.birth_ms, ageing_ms)
        #: Negated EV, so that the smallest key is served first; unknown EV is last.
        self.ev_key = NO_EV if row.ev is None else -row.ev
        self.shape = shape
        self.group = group
        self.tenant = row.task.tenant_id or ""
        #: Estimated cost by model, for tasks of watched tenants.
        self.costs: Costs | None = None
        self.alive = True
        self.taken = False

    def take(self, undo: Undo) -> None:
        """Hide the entry for the rest of the decision."""
        self.taken = True
        undo.add(self.show)

    def show(self) -> None:
        """Show the entry again."""
        self.taken = False

    def __lt__(self, other: Entry) -> bool:
        # A removed entry may be on a heap beside a new one of the same task, with the same key.
        return self.alive < other.alive


_Item = tuple[float, int, str, Entry]


class _Band:
    """The tasks of one band, best EV on top; and the ripe ones of the cycle of the last look-up."""

    __slots__ = ("cycle", "heap", "live", "phase_max_ms", "phase_ms", "ripe", "unripe")

    def __init__(self) -> None:
        self.live = 0
        self.heap: list[_Item] = []
        self.phase_max_ms = 0
        #: The cycle of `ripe` and `unripe`, and the phase of the last look-up; unripe ones by phase.
        self.cycle: int | None = None
        self.phase_ms = 0
        self.ripe: list[_Item] = []
        self.unripe: list[tuple[int, _Item]] = []

    def push(self, item: _Item) -> None:
        """Add a task."""
        phase_ms = item[3].phase_ms
        self.live += 1
        self.phase_max_ms = max(self.phase_max_ms, phase_ms)
        heappush(self.heap, item)
        if self.cycle is not None:
            # Not ripe yet, or found to be ripe by the next look-up.
            heappush(self.unripe, (phase_ms, item))

    def ripen(self, cycle: int, phase_ms: int, hidden: list[_Item]) -> list[_Item]:
        """Return the heap of tasks that are ripe at this phase of this cycle; `hidden` ones are not on its own heap."""
        if self.cycle != cycle or phase_ms < self.phase_ms:
            self.cycle = cycle
            items = [item for item in (*self.heap, *hidden) if item[3].alive]
            self.ripe = [item for item in items if item[3].phase_ms <= phase_ms]
            self.unripe = [(item[3].phase_ms, item) for item in items if item[3].phase_ms > phase_ms]
            heapify(self.ripe)
            heapify(self.unripe)
        self.phase_ms = phase_ms
        while self.unripe and self.unripe[0][0] <= phase_ms:
            heappush(self.ripe, heappop(self.unripe)[1])
        return self.ripe


class AgeingQueue:
    """Waiting tasks that may use the same models, in service order."""

    __slots__ = ("_bands", "_keys", "_parked", "_undo", "ageing_ms", "live")

    def __init__(self, ageing_ms: int, undo: Undo) -> None:
        self.ageing_ms = ageing_ms
        self._undo = undo
        self.live = 0
        self._bands: dict[int, _Band] = {}
        self._keys: list[int] = []
        #: Hidden entries that reached the top, with the heap that they were on.
        self._parked: list[tuple[list[_Item], _Item]] = []

    def push(self, entry: Entry) -> None:
        """Add a task."""
        key = entry.band
        band = self._bands.get(key)
        if band is None:
            band = self._bands[key] = _Band()
            insort(self._keys, key)
        band.push((entry.ev_key, entry.since_ms, entry.task_id, entry))
        self.live += 1

    def remove(self, entry: Entry) -> None:
        """Remove a task."""
        entry.alive = False
        self.live -= 1
        key = entry.band
        band = self._bands[key]
        band.live -= 1
        if not band.live:
            del self._bands[key]
            del self._keys[bisect_left(self._keys, key)]

    def head(self, now_ms: Millis) -> tuple[Entry, int] | None:
        """Return the task to serve next and its points, or None."""
        cycle, phase_ms = divmod(now_ms, self.ageing_ms)
        carried: _Item | None = None
        carried_key = 0
        for key in self._keys:
            if carried is not None and key != carried_key + 1:
                break
            band = self._bands[key]
            top = self._top(band.heap)
            best = top
            if top is not None and top[3].phase_ms > phase_ms:
                hidden = [item for heap, item in self._parked if heap is band.heap]
                best = self._top(band.ripen(cycle, phase_ms, hidden))
            if carried is not None:
                if best is None or carried < best:
                    best = carried
                return best[3], cycle - key
            if best is not None:
                return best[3], cycle - key
            carried, carried_key = top, key
        if carried is None:
            return None
        return carried[3], cycle - carried_key - 1

    def bound(self, cycle: int) -> tuple[int, float]:
        """Return (negated points, EV key), a bound for the head in that cycle; the queue must not be empty."""
        key = self._keys[0]
        # The heap of a band whose tasks are all hidden may be empty.
        heap = self._bands[key].heap
        return key - cycle, heap[0][0] if heap else -NO_EV

    def show(self) -> None:
        """Put entries that are no longer hidden back into the queue, before the decision ends."""
        hidden = []
        for heap, item in self._parked:
            if item[3].taken:
                hidden.append((heap, item))
            elif item[3].alive:
                heappush(heap, item)
        self._parked = hidden

    def _put_back(self) -> None:
        for heap, item in self._parked:
            if item[3].alive:
                heappush(heap, item)
        self._parked.clear()

    def _top(self, heap: list[_Item]) -> _Item | None:
        while heap:
            entry = heap[0][3]
            if not entry.alive:
                heappop(heap)
            elif entry.taken:
                if not self._parked:
                    self._undo.add(self._put_back)
                self._parked.append((heap, heappop(heap)))
            else:
                return heap[0]
        return None
