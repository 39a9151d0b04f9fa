"""One round: all waiting tasks and all free slots of a pool, matched in service order.

The order: lifted tasks, then those for which exactly one free slot is admissible, then by points (priority and
waiting), EV, arrival and id. A task with `patience_points` ranks with lifted ones. Each task takes a slot by its
strategy (`choosing.py`); then better slots go to higher EVs (`swaps.py`).

Groups are merged by their heads, so that only about as many tasks are examined as are served.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace

from schemas.vocabulary import MicroUsd, Millis
from streams.core.index.fleet import Verdicts
from streams.core.index.groups import Group
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import NO_EV, Entry
from streams.core.step.choosing import choose
from streams.core.step.draft import PoolDraft
from streams.core.step.free_view import FreeView
from streams.core.step.swaps import Pair, swap

_Key = tuple[int, int, int, float, int, str]
_Waiting = tuple[int, float, int, str, Entry]


class Round:
    """One pool's round within a step."""

    def __init__(self, draft: PoolDraft, unindexed: Iterable[Entry], now_ms: Millis) -> None:
        self._index: PoolIndex = draft.index
        self._now_ms = now_ms
        self._patience_points = draft.index.rulebook.patience_points
        self._free = FreeView(draft, now_ms)
        #: Cells with a free slot when the round began.
        self.free_before = self._free.mask
        #: Tasks that are not in the index, and the same as heaps in service order.
        self._waiting = {entry.task_id: entry for entry in unindexed}
        #: Reservations have moved tasks to other groups: entries from before are invalid.
        self.regrouped = False
        self._unindexed: dict[Group, list[_Waiting]] = {}
        #: Entries of the index whose tenant could not pay in this turn, though others of their group could.
        self._passed_over: list[Entry] = []

    @property
    def free_mask(self) -> int:
        """Cells with a free slot now."""
        return self._free.mask

    def pairs(self) -> list[Pair]:
        """Serve until no waiting task may use a free slot."""
        pairs: list[Pair] = []
        index = self._index
        while self._free.mask:
            served = self._turn()
            pairs += served
            if not self._may_have_opened(served) and not (self._swap(pairs) and self._free.mask):
                break
            while index.look_at_credit():
                self.regrouped = True
                self._waiting = {task_id: index.classify(entry.row) for task_id, entry in self._waiting.items()}
        return pairs

    def _may_have_opened(self, served: list[Pair]) -> bool:
        """Whether the reservations of these pairs may have opened a free slot: in an emergency, or below a bar."""
        free, index = self._free.mask, self._index
        if all(pair.entry.costs is None for pair in served):
            return False
        return bool(free & index.fleet.emergency_mask) or any(free & one.below_mask for one in index.groups.values())

    def _swap(self, pairs: list[Pair]) -> bool:
        """Swap slots within the round; return whether that gave a tenant money back, or took some."""
        return len(pairs) > 1 and swap(pairs, self._index)

    def _turn(self) -> list[Pair]:
        """Serve one turn: each task once, in service order."""
        self._sort()
        served = self._serve()
        for entry in self._passed_over:
            entry.taken = False
            entry.group.queue.show()
        self._passed_over.clear()
        return served

    def _serve(self) -> list[Pair]:
        view, index = self._free, self._index
        # (key, group, entry); without an entry the key is only a bound that no head of the group is better than.
        heads: list[tuple[_Key, int, Entry | None]] = []
        groups: list[Group] = []
        ranks: list[tuple[int, int]] = []
        # A task with exactly one admissible free slot ranks before others.
        single = view.single()
        cycle = self._now_ms // index.rulebook.ageing_ms
        free, unindexed = view.mask, self._unindexed
        # Cells that any of them may use; they only become fewer during a turn.
        wanted = 0
        for group in index.groups.values():
            admissible = group.mask & free
            if admissible and (group.queue.live or group in unindexed):
                only_here = admissible.bit_count() == 1 and admissible & single
                rank = (0 if group.lifted else 1, 0 if only_here else 1)
                heads.append((self._key(rank, (*self._bound(group, cycle), 0, "")), len(groups), None))
                groups.append(group)
                ranks.append(rank)
                wanted |= group.mask
        heapify(heads)
        pairs: list[Pair] = []
        while heads and view.mask & wanted:
            _, i, entry = heads[0]
            group = groups[i]
            if group.bill is not None and not group.is_valid(index.balances.left[group.bill.tenant]):
                group.look(index.fleet, index.conditions, index.balances.left, keep_shut=True)
            admissible = group.mask & view.mask
            if not admissible:
                heappop(heads)
                continue
            if entry is not None:
                gates = self._gates(entry)
                if gates is not group.gates:
                    admissible &= sum([1 << bit for bit, gate in enumerate(gates) if gate is None])
                self._take_task(entry, served=admissible != 0)
                if admissible:
                    pairs.append(self._take_slot(entry, admissible, gates))
                if not view.mask & wanted:
                    break
            head = self._head(group)
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, (self._key(ranks[i], head[0]), i, head[1]))
        return pairs

    def _key(self, rank: tuple[int, int], place: tuple[int, float, int, str]) -> _Key:
        """Return the key of service order; `place` begins with the negated points."""
        return (0, 0, *place) if -place[0] >= self._patience_points else (*rank, *place)

    def _sort(self) -> None:
        ageing_ms = self._index.rulebook.ageing_ms
        self._unindexed.clear()
        for entry in self._waiting.values():
            points = (self._now_ms - entry.birth_ms) // ageing_ms
            item = (-points, entry.ev_key, entry.since_ms, entry.task_id, entry)
            self._unindexed.setdefault(entry.group, []).append(item)
        for waiting in self._unindexed.values():
            heapify(waiting)

    def _bound(self, group: Group, cycle: int) -> tuple[int, float]:
        """Return (negated points, EV key), a bound for every head of the group."""
        unindexed = self._unindexed.get(group) if self._unindexed else None
        if not group.queue.live:
            return unindexed[0][:2] if unindexed else (0, NO_EV)
        bound = group.queue.bound(cycle)
        return min(bound, unindexed[0][:2]) if unindexed else bound

    def _head(self, group: Group) -> tuple[tuple[int, float, int, str], Entry] | None:
        found = group.queue.head(self._now_ms) if group.queue.live else None
        best: tuple[int, float, int, str] | None = None
        entry: Entry | None = None
        if found is not None:
            entry = found[0]
            best = (-found[1], entry.ev_key, entry.since_ms, entry.task_id)
        unindexed = self._unindexed.get(group) if self._unindexed else None
        if unindexed and (best is None or unindexed[0][:4] < best):
            best, entry = unindexed[0][:4], unindexed[0][4]
        return (best, entry) if best is not None and entry is not None else None

    def _take_task(self, entry: Entry, *, served: bool) -> None:
        """Hide the task for the rest of this turn; a served one for all turns."""
        unindexed = self._unindexed.get(entry.group)
        if unindexed and unindexed[0][4] is entry:
            heappop(unindexed)
            if served:
                del self._waiting[entry.task_id]
        else:
            self._index.hide(entry)
            if not served:
                self._passed_over.append(entry)

    def _gates(self, entry: Entry) -> Verdicts:
        """Return the gate of each cell now: the group's verdicts, and `credit` where the tenant cannot pay."""
        group = entry.group
        costs = entry.costs
        if costs is None:
            return group.gates
        unpaid = self._index.fleet.unpaid(costs, self._index.balances.left[entry.tenant])
        own = tuple("credit" if gate is None and unpaid >> i & 1 else gate for i, gate in enumerate(group.gates))
        return group.gates if own == group.gates else own

    def _take_slot(self, entry: Entry, mask: int, gates: Verdicts) -> Pair:
        free, index = self._free, self._index
        group = entry.group
        next_free_model = free.next_free_model(group.able_mask | group.mask)
        pair = Pair(entry, choose(entry, mask, free, index), gates, next_free_model)
        if entry.costs is not None:
            tenant = entry.tenant
            cost = entry.costs[index.fleet.model_of[pair.bit]]
            index.balances.leave(tenant, MicroUsd(index.balances.left[tenant] - (cost or 0)))
        return pair
