"""Who waits, in service order, without ever looking at all who wait.

Service order within a queue is: whole points of aged priority, then EV, then time of arrival, then id. A
task's points at `now` are `floor((now - birth) / ageing)`, where `birth = since - priority * ageing`; so
points depend on one number, and two tasks with births in one ageing-wide *band* differ by one point at most:

    band B = birth // ageing, phase = birth % ageing, and with now = K * ageing + now_phase
    points = K - B       for phase <= now_phase   (the "ripe" part of a band)
    points = K - B - 1   otherwise

The head of a queue is therefore in its oldest band's ripe part; or, if that is empty, in that band or the
ripe part of the next. "Best EV among phases up to X" is asked of a tree of heaps over the phase, split only
where it was asked. Everything is O(log n) amortised and independent of how many wait.

The queue is an index, not the truth: entries of removed tasks stay until they surface. `take` hides an entry
for the decision being computed, `release` shows all of those again; nothing else that a decision does is seen.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush
from typing import Any, Final

from schemas.decision import TaskRow
from schemas.vocabulary import Millis

_SPLIT: Final = 16
_SCAN_MAX: Final = 24
NO_EV: Final = float("inf")


class Entry:
    """A waiting task's place in the index."""

    __slots__ = ("alive", "birth_ms", "ev_key", "group", "row", "shape", "since_ms", "taken", "task_id")

    def __init__(self, row: TaskRow, birth_ms: int, shape: Any) -> None:
        self.row = row
        self.task_id = row.task.task_id
        self.since_ms = row.standing.since_ms
        self.birth_ms = birth_ms
        #: Negated EV, so that the smallest key is served first; unknown EV is last.
        self.ev_key = NO_EV if row.ev is None else -row.ev
        self.shape = shape
        self.group: Any = None
        self.alive = True
        self.taken = False


_Item = tuple[float, int, str, Entry]


class _Node:
    """All entries of a band with a phase in [low, low + width), best EV on top; parts of it once asked for."""

    __slots__ = ("heap", "low_ms", "parts", "width_ms")

    def __init__(self, low_ms: int, width_ms: int) -> None:
        self.low_ms = low_ms
        self.width_ms = width_ms
        self.heap: list[_Item] = []
        self.parts: list[_Node] | None = None


class _Band:
    __slots__ = ("live", "root")

    def __init__(self, width_ms: int) -> None:
        self.live = 0
        self.root = _Node(0, width_ms)


class AgeingQueue:
    """Waiting tasks that may use the same models, in service order."""

    __slots__ = ("_bands", "_keys", "_parked", "_taken", "ageing_ms", "live")

    def __init__(self, ageing_ms: int) -> None:
        self.ageing_ms = ageing_ms
        self.live = 0
        self._bands: dict[int, _Band] = {}
        self._keys: list[int] = []
        self._taken: list[Entry] = []
        #: Hidden entries that surfaced, with the node they were lifted out of.
        self._parked: list[tuple[_Node, _Item]] = []

    def push(self, entry: Entry) -> None:
        """The task waits here from now on."""
        key, phase_ms = divmod(entry.birth_ms, self.ageing_ms)
        band = self._bands.get(key)
        if band is None:
            band = self._bands[key] = _Band(self.ageing_ms)
            insort(self._keys, key)
        band.live += 1
        self.live += 1
        item = (entry.ev_key, entry.since_ms, entry.task_id, entry)
        node = band.root
        heappush(node.heap, item)
        while node.parts is not None:
            node = node.parts[(phase_ms - node.low_ms) // node.parts[0].width_ms]
            heappush(node.heap, item)

    def remove(self, entry: Entry) -> None:
        """The task waits here no longer."""
        entry.alive = False
        self.live -= 1
        key = entry.birth_ms // self.ageing_ms
        band = self._bands[key]
        band.live -= 1
        if not band.live:
            del self._bands[key]
            del self._keys[bisect_left(self._keys, key)]

    def head(self, now_ms: Millis) -> tuple[Entry, int] | None:
        """The task to serve next and its points, or None."""
        cycle, now_phase_ms = divmod(now_ms, self.ageing_ms)
        carried: _Item | None = None
        carried_key = 0
        for key in self._keys:
            if carried is not None and key != carried_key + 1:
                break
            root = self._bands[key].root
            best = self._best(root, now_phase_ms)
            if carried is not None:
                if best is None or carried < best:
                    best = carried
                return best[3], cycle - key
            if best is not None:
                return best[3], cycle - key
            carried, carried_key = self._top(root), key
        if carried is None:
            return None
        return carried[3], cycle - carried_key - 1

    def take(self, entry: Entry) -> None:
        """Hide the entry from this decision's further look-ups."""
        entry.taken = True
        self._taken.append(entry)

    def release(self) -> None:
        """End of a decision: what `take` hid is in the queue again, unless it was removed."""
        for entry in self._taken:
            entry.taken = False
        self._taken.clear()
        for node, item in self._parked:
            if item[3].alive:
                heappush(node.heap, item)
        self._parked.clear()

    def _top(self, node: _Node) -> _Item | None:
        heap = node.heap
        while heap:
            entry = heap[0][3]
            if not entry.alive:
                heappop(heap)
            elif entry.taken:
                self._parked.append((node, heappop(heap)))
            else:
                return heap[0]
        return None

    def _best(self, node: _Node, phase_max_ms: int) -> _Item | None:
        """Best entry of the node with a phase of at most `phase_max_ms`."""
        if phase_max_ms >= node.low_ms + node.width_ms - 1:
            return self._top(node)
        top = self._top(node)
        if top is None:
            return None
        # The best of all is usually ripe too; then there is nothing to look for.
        if top[3].birth_ms % self.ageing_ms <= phase_max_ms:
            return top
        if node.parts is None:
            if len(node.heap) <= _SCAN_MAX:
                return min(
                    (
                        item
                        for item in node.heap
                        if item[3].alive and not item[3].taken and item[3].birth_ms % self.ageing_ms <= phase_max_ms
                    ),
                    default=None,
                )
            self._split(node)
        best: _Item | None = None
        for part in node.parts or ():
            if part.low_ms > phase_max_ms:
                break
            found = self._best(part, phase_max_ms)
            if found is not None and (best is None or found < best):
                best = found
        return best

    def _split(self, node: _Node) -> None:
        width_ms = -(-node.width_ms // _SPLIT)
        count = -(-node.width_ms // width_ms)
        node.parts = [_Node(node.low_ms + i * width_ms, width_ms) for i in range(count)]
        hidden = [item for parked_from, item in self._parked if parked_from is node]
        for item in [*node.heap, *hidden]:
            if item[3].alive:
                node.parts[(item[3].birth_ms % self.ageing_ms - node.low_ms) // width_ms].heap.append(item)
        for part in node.parts:
            heapify(part.heap)
