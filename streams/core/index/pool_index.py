"""The line-up of a pool: who waits for which models and what is free, indexed so that deciding never scans.

Waiting tasks stand in groups (`groups.py`); a group's tasks compete for the same slots and, while they wait, have the
same headline. Shapes are looked up, not computed, for the second task of a kind.

An index, not the truth: it is built from the rows of `state.pool` and can be thrown away. `align` brings it in
line with a fleet, percentiles, marks and budgets that the step being computed would bring about, and `release`
undoes what a decision hid.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush
from itertools import islice

from schemas.decision import LedgerRow, Percentiles, SlotRow, TaskRow
from schemas.events import TaskPending
from schemas.vocabulary import Gate, Millis, ReasonCode, to_millis
from streams.core.index.balances import Balances
from streams.core.index.due import DueList
from streams.core.index.fleet import Cell, Fleet, cell_of
from streams.core.index.free_slots import FreeSlots
from streams.core.index.groups import Bill, Costs, Family, Group, GroupKey, Scores, Shape, Verdicts, size_of
from streams.core.index.score_cache import ScoreCache
from streams.core.index.shapes import Shapes
from streams.core.index.waiting import Entry
from streams.core.policy.case import Candidate, Moment
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import emergency, refusing_now
from streams.core.policy.rules.premium import PERCENTILE_ERROR
from streams.core.state.marks import Marks
from streams.core.state.pool import Pool


class PoolIndex:
    """The index of one pool."""

    def __init__(self, pool: Pool, rulebook: Rulebook, now_ms: Millis) -> None:
        self.pool = pool
        self.rulebook = rulebook
        #: The state's `now`.
        self.now_ms = now_ms
        #: The fleet that the groups are made for.
        self.fleet = Fleet((), {}, frozenset())
        self.percentiles: Percentiles | None = None
        #: What marks say of each cell at the moment of the decision, and what is to be pointed out.
        self.conditions: Verdicts = ()
        self.flags: tuple[str, ...] = ()
        #: The marks as looked at, until when what was seen holds.
        self.marks: Marks = pool.marks
        self.marks_ms = now_ms
        self._marks_seen: tuple[Marks, int, Millis, float] | None = None
        self.balances = Balances(pool.ledgers, self._costs_max)
        #: Families that became mixed.
        self._mixed: dict[GroupKey, None] = {}
        self.families: dict[GroupKey, Family] = {}
        #: Groups and waiting tasks by tenant.
        self.billed: dict[str, dict[GroupKey, Group]] = {}
        self._by_tenant: dict[str, dict[str, Entry]] = {}
        self.groups: dict[GroupKey, Group] = {}
        self.entries: dict[str, Entry] = {}
        self.free: dict[Cell, FreeSlots] = {}
        #: Slots in service by cell, as the state has it.
        self.in_service: dict[Cell, int] = {}
        #: Free slots by cell, as the state has it.
        self.free_counts: list[int] = []
        #: Free mask under which every headline was last found to be told; None: look again.
        self.announced_mask: int | None = None
        self._hidden_tasks: list[Entry] = []
        self._hidden_in: dict[FreeSlots, None] = {}
        #: By cell: free slots, free longest first; stale ones go when they surface.
        self._lines: dict[Cell, list[tuple[Millis, str]]] = {}
        self._hidden_slots: set[str] = set()
        self._parked_lines: list[tuple[list[tuple[Millis, str]], tuple[Millis, str]]] = []
        self.due = DueList(pool)
        #: How many were told that they wait because of the percentiles.
        self._reserved_for_ev = 0
        #: Classified while deciding; used again when the decision becomes part of the state.
        self.prepared: dict[str, Entry] = {}
        self.shapes = Shapes(rulebook, self.fleet)
        self._score_cache = ScoreCache(rulebook, self.fleet)
        #: Groups of tenants with a budget that came up in this decision; those without tasks go with it.
        self._came_up: list[Group] = []
        self._by_ev: dict[int, dict[str, Entry]] = {}
        self._ev_keys: list[int] = []
        self._unknown_ev: dict[str, Entry] = {}
        self._bands: list[int] = []
        self._band_counts: list[int] = []
        self._slot_rows: dict[str, SlotRow] = {}
        for slot in pool.slots.values():
            self.sync_slot(slot.slot_id)
        self.align(frozenset(self.in_service), pool.percentiles, pool.marks, {}, len(pool.slots), now_ms)
        for row in pool.tasks.values():
            self.sync_task(row.task.task_id)

    # What is, by shape and standing.

    def classify(self, row: TaskRow) -> Entry:
        """A place in the line-up for the task: its shape and its group."""
        task = row.task
        shape = self.shapes.of(row)
        low = self.rulebook.policy.premium.is_low(row.ev, task.priority, self.percentiles)
        lifted = self.is_lifted(row)
        group = shape.groups.get((low, lifted))
        if group is None:
            group = self._group(shape, low=low, lifted=lifted)
        entry = Entry(row, self.rulebook.ageing_ms, shape)
        entry.group = group
        if self._is_watched(task, shape):
            entry.costs = self.shapes.costs(task, shape)
            entry.group = self._billed_group(group, entry.tenant, entry.costs)
        return entry

    def scores(self, entry: Entry, cells: int) -> Scores | None:
        """Score of each model with a cell in the mask, compared with each other; None for the others."""
        return self._score_cache.among(cells, entry.row.task, entry.shape.complexity)

    def _costs_max(self, tenant: str) -> Iterator[int]:
        """Bounds of what the tenant's waiting tasks cost."""
        cost_max = self.rulebook.cost_max_uusd
        for entry in self._by_tenant.get(tenant, {}).values():
            yield cost_max(entry.row.task, entry.shape.complexity)

    def _is_watched(self, task: TaskPending, shape: Shape) -> bool:
        tenant = task.tenant_id
        if tenant is None or tenant not in self.balances.left:
            return False
        return self.balances.is_watched(tenant, self.rulebook.cost_max_uusd(task, shape.complexity))

    def is_lifted(self, row: TaskRow) -> bool:
        """Whether the task may claim a higher tier than it needs."""
        if row.task.quest_priority >= self.rulebook.policy.lift.quest_priority_min:
            return True
        percentiles = self.percentiles
        if percentiles is None or percentiles.p90 is None or row.ev is None:
            return False
        return row.ev > percentiles.p90 + abs(percentiles.p90) * PERCENTILE_ERROR

    def _group(self, shape: Shape, *, low: bool, lifted: bool) -> Group:
        key = GroupKey(shape.verdicts_low if low else shape.verdicts, lifted, shape.emergency_mask, shape.failed, None)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = self._new_group(key, None)
        shape.groups[low, lifted] = group
        return group

    def _billed_group(self, unbilled: Group, tenant: str, costs: Costs) -> Group:
        """The group of those who are like the others, and whose tenant has a budget."""
        bill = Bill(tenant, size_of(costs), None)
        key = unbilled.key._replace(bill=bill)
        family = self.families.get(key)
        if family is None:
            family = self.families[key] = Family(costs)
        elif family.widen(costs) and key in self.groups:
            self.groups[key].look(self.fleet, self.conditions, self.balances.left)
        if not family.split and family.is_mixed(self.balances.left[tenant]):
            self._mixed[key] = None
        if family.split or key in self._mixed:
            key = key._replace(bill=bill._replace(exact=costs))
        group = self.groups.get(key)
        if group is None:
            group = self._new_group(key, family)
            self._put_billed(group, tenant)
            self._came_up.append(group)
        return group

    def _put_billed(self, group: Group, tenant: str) -> None:
        family = group.family
        if family is not None:
            self.groups[group.key] = group
            self.billed.setdefault(tenant, {})[group.key] = group
            family.groups += 1

    def _drop_billed(self, group: Group) -> None:
        """Nobody waits there; its family goes with the last of its groups."""
        bill = group.bill
        if bill is None or group.queue.live or self.groups.get(group.key) is not group:
            return
        del self.groups[group.key]
        del self.billed[bill.tenant][group.key]
        if group.family is not None:
            group.family.groups -= 1
            if not group.family.groups:
                whole = _whole(group.key)
                self.families.pop(whole, None)
                self._mixed.pop(whole, None)

    def _new_group(self, key: GroupKey, family: Family | None) -> Group:
        group = Group(key, self.fleet, self.rulebook.ageing_ms, family)
        group.look(self.fleet, self.conditions, self.balances.left)
        return group

    # Keeping in line with the rows.

    def sync_task(self, task_id: str) -> None:
        """The task's row changed: it waits here, waits differently, or waits no longer."""
        row = self.pool.tasks.get(task_id)
        old = self.entries.get(task_id)
        waiting = row is not None and row.status.state == "waiting"
        prepared = self.prepared.pop(task_id, None)
        if old is not None:
            if waiting and row is not None and old.row.status.attempt == row.status.attempt:
                self._reannounce(old, row)
                return
            self._remove(old)
        if row is None:
            return
        if waiting:
            # The row of a decoded step is equal to the prepared one, that of the own step is the same object.
            entry = prepared if prepared is not None and prepared.row is row else self.classify(row)
            self._add(entry)
        self._expect(row)

    def _reannounce(self, entry: Entry, row: TaskRow) -> None:
        before, after = entry.row.status.headline, row.status.headline
        entry.row = row
        if before != after:
            self._withdraw(entry, before)
            self._announce(entry)

    def _expect(self, row: TaskRow) -> None:
        """What will fall due for this task."""
        task, status = row.task, row.status
        if status.state == "delayed" and status.due_ms is not None:
            self.due.push((status.due_ms, "due", task.task_id, status.attempt))
        if task.deadline is not None and status.state != "running":
            self.due.push((to_millis(task.deadline), "deadline", task.task_id, status.attempt))

    def _add(self, entry: Entry) -> None:
        self.entries[entry.task_id] = entry
        self._join(entry)
        band = entry.band
        i = bisect_left(self._bands, band)
        if i == len(self._bands) or self._bands[i] != band:
            self._bands.insert(i, band)
            self._band_counts.insert(i, 0)
        self._band_counts[i] += 1
        self._ev_bucket(entry)[entry.task_id] = entry
        if (tenant := entry.row.task.tenant_id) is not None:
            self._by_tenant.setdefault(tenant, {})[entry.task_id] = entry

    def _remove(self, entry: Entry) -> None:
        del self.entries[entry.task_id]
        self._leave(entry)
        i = bisect_left(self._bands, entry.band)
        self._band_counts[i] -= 1
        if not self._band_counts[i]:
            del self._bands[i]
            del self._band_counts[i]
        del self._ev_bucket(entry)[entry.task_id]
        if (tenant := entry.row.task.tenant_id) is not None:
            theirs = self._by_tenant[tenant]
            del theirs[entry.task_id]
            if not theirs:
                del self._by_tenant[tenant]

    def _join(self, entry: Entry) -> None:
        if entry.costs is not None and self.groups.get(entry.group.key) is not entry.group:
            # It went with the decision that it came up in.
            entry.group = self.classify(entry.row).group
        group: Group = entry.group
        group.queue.push(entry)
        self._announce(entry)

    def _leave(self, entry: Entry) -> None:
        group: Group = entry.group
        group.queue.remove(entry)
        self._withdraw(entry, entry.row.status.headline)
        self._drop_billed(group)

    def _announce(self, entry: Entry) -> None:
        entry.group.announce(entry)
        self._reserved_for_ev += entry.row.status.headline == "reserved_for_ev"

    def _withdraw(self, entry: Entry, headline: ReasonCode | None) -> None:
        entry.group.withdraw(headline)
        self._reserved_for_ev -= headline == "reserved_for_ev"

    def applied(self, now_ms: Millis) -> None:
        """A step became part of the state."""
        self.now_ms = now_ms
        self.prepared.clear()
        self._tidy()

    def _tidy(self) -> None:
        """Groups in which nobody came to wait go."""
        for group in self._came_up:
            self._drop_billed(group)
        self._came_up.clear()

    def sync_ledger(self, tenant: str) -> None:
        """The tenant's money changed."""
        self.balances.sync(tenant, self.pool.ledgers[tenant].available_uusd)

    def sync_slot(self, slot_id: str) -> None:
        """The slot's row changed."""
        row = self.pool.slots.get(slot_id)
        old = self._slot_rows.get(slot_id)
        if old is row:
            return
        if old is not None:
            cell = cell_of(old)
            if not old.retired:
                self.in_service[cell] -= 1
                if not self.in_service[cell]:
                    del self.in_service[cell]
            if old.state == "free" and not old.retired:
                self.free[cell].remove(slot_id)
                if cell in self.fleet.bit:
                    self.free_counts[self.fleet.bit[cell]] -= 1
        if row is None:
            del self._slot_rows[slot_id]
            return
        self._slot_rows[slot_id] = row
        if not row.retired:
            cell = cell_of(row)
            self.in_service[cell] = self.in_service.get(cell, 0) + 1
            if row.state == "free":
                self.free_slots(cell).add(slot_id, row.since_ms)
                heappush(self._lines.setdefault(cell, []), (row.since_ms, slot_id))
                if cell in self.fleet.bit:
                    self.free_counts[self.fleet.bit[cell]] += 1
        if row.state == "leased" and row.lease_expires_at_ms is not None:
            self.due.push((row.lease_expires_at_ms, "lease", slot_id, row.lease))

    def free_slots(self, cell: Cell) -> FreeSlots:
        """The free slots of a cell."""
        free = self.free.get(cell)
        if free is None:
            free = self.free[cell] = FreeSlots(self.pool.busy)
        return free

    # Keeping in line with what verdicts depend on.

    def align(
        self,
        fleet: AbstractSet[Cell],
        percentiles: Percentiles | None,
        marks: Marks,
        ledgers: Mapping[str, LedgerRow],
        slots_max: int,
        now_ms: Millis,
    ) -> None:
        """From here on the fleet, the usual EVs, the marks and the credit of these tenants are these.

        `slots_max` is how many slots the pool may have.
        """
        for tenant, row in ledgers.items():
            self.balances.leave(tenant, row.available_uusd)
        self.balances.has_slots(slots_max)
        if fleet != self.fleet.bit.keys():
            self.percentiles = percentiles
            self._refleet(fleet, marks, now_ms)
            return
        if percentiles is not self.percentiles and percentiles != self.percentiles:
            before, self.percentiles = self.percentiles, percentiles
            self._regroup(before, percentiles)
        changed = self._see(marks, now_ms)
        # Credit first: a group that has just been looked at shows no more that its family is to be split.
        self.look_at_credit()
        if changed:
            self.announced_mask = None
            for group in self.groups.values():
                group.look(self.fleet, self.conditions, self.balances.left)

    def look_at_credit(self) -> bool:
        """Look again at the groups of those whose credit has changed; whether tasks had to change groups."""
        balances = self.balances
        moved = False
        if not balances.changed and not self._mixed:
            return moved
        changed = sorted(balances.changed)
        # Looking may find that somebody's tasks cost more than was known.
        balances.changed.clear()
        for tenant in changed:
            if balances.look(tenant):
                moved = True
                self._move(list(self._by_tenant.get(tenant, {}).values()))
            if tenant not in balances.watched:
                continue
            self.announced_mask = None
            left = balances.left[tenant]
            for group in list(self.billed.get(tenant, {}).values()):
                if not group.is_valid(left):
                    group.look(self.fleet, self.conditions, balances.left)
                    family = group.family
                    if family is not None and family.is_mixed(left) != family.split:
                        self._mixed[_whole(group.key)] = None
        for key in list(self._mixed):
            moved |= self._split(key)
        self._mixed.clear()
        return moved

    def _split(self, key: GroupKey) -> bool:
        """Split a family by exact costs, or bring it together again."""
        family, bill = self.families.get(key), key.bill
        if family is None or bill is None:
            return False
        mixed = family.is_mixed(self.balances.left[bill.tenant])
        family.split = mixed
        theirs = self._by_tenant.get(bill.tenant, {})
        self._move([entry for entry in theirs.values() if entry.group.bill and _whole(entry.group.key) == key])
        return True

    def _move(self, entries: list[Entry]) -> None:
        """What they cost, or what is usual, may put them into other groups."""
        self.announced_mask = None
        for entry in entries:
            fresh = self.classify(entry.row)
            if fresh.group is not entry.group:
                self._replace(entry, fresh)

    def _replace(self, entry: Entry, fresh: Entry) -> None:
        # A queue's entries are its own: leave with the old one, join with a new one.
        self._leave(entry)
        self.entries[entry.task_id] = fresh
        self._ev_bucket(entry)[entry.task_id] = fresh
        if (tenant := entry.row.task.tenant_id) is not None:
            self._by_tenant[tenant][entry.task_id] = fresh
        self._join(fresh)
        if entry.taken:
            self.hide(fresh)

    def _see(self, marks: Marks, now_ms: Millis) -> bool:
        """Look at the marks; whether what they say of the fleet has changed."""
        seen = self._marks_seen
        if seen is not None and seen[0] is marks and seen[1] == marks.version and seen[2] <= now_ms < seen[3]:
            return False
        self._marks_seen = (marks, marks.version, now_ms, marks.next_change_ms(now_ms))
        self.marks, self.marks_ms = marks, now_ms
        before = self.conditions
        self.conditions = tuple(self._condition(cell, marks, now_ms) for cell in self.fleet.cells)
        flags: dict[str, None] = {}
        if marks.quotas:
            for account in dict.fromkeys(cell.account for cell in self.fleet.cells):
                flags.update(dict.fromkeys(self.rulebook.policy.quota.flags(account, marks, now_ms)))
        self.flags = tuple(flags)
        return before != self.conditions

    def _condition(self, cell: Cell, marks: Marks, now_ms: Millis) -> Gate | None:
        if not marks:
            return None
        moment = Moment(rulebook=self.rulebook, marks=marks, now_ms=now_ms)
        rule = refusing_now(moment, Candidate(self.rulebook.models[cell.model], cell.account))
        return rule.gate if rule is not None else None

    def _refleet(self, fleet: AbstractSet[Cell], marks: Marks, now_ms: Millis) -> None:
        models, rank = self.rulebook.models, self.rulebook.rank
        cells = sorted(fleet, key=lambda cell: (rank[cell.model], cell.account or ""))
        emergency_models = frozenset(cell.model for cell in cells if emergency.is_emergency(models[cell.model]))
        self.fleet = Fleet(cells, {cell.model: models[cell.model].tier for cell in cells}, emergency_models)
        self.free_counts = [len(self.free_slots(cell)) for cell in self.fleet.cells]
        self.announced_mask = None
        self._marks_seen = None
        self._see(marks, now_ms)
        self.shapes = Shapes(self.rulebook, self.fleet)
        self._score_cache = ScoreCache(self.rulebook, self.fleet)
        self.groups.clear()
        self.families.clear()
        self.billed.clear()
        self._came_up.clear()
        self._mixed.clear()
        self.balances.begin_again(priced=all(model.is_priced for model in self.shapes.models))
        self.prepared.clear()
        self._reserved_for_ev = 0
        for entry in self.entries.values():
            fresh = self.classify(entry.row)
            entry.group, entry.shape, entry.costs = fresh.group, fresh.shape, fresh.costs
            self._join(entry)
        self.look_at_credit()

    def _regroup(self, before: Percentiles | None, after: Percentiles | None) -> None:
        """Tasks whose EV lies between an old and a new percentile change sides."""
        self.prepared.clear()
        movers: dict[str, Entry] = {}
        for old, new in zip(_lines(before), _lines(after), strict=True):
            if (old is None) != (new is None):
                movers = self.entries
                break
            if old is not None and new is not None and old != new:
                # An EV that equals a line up to its last digits may stand in the bucket beside it.
                low, high = min(old, new), max(old, new)
                margin = 2 * PERCENTILE_ERROR
                for bucket in self._ev_buckets(low - abs(low) * margin, high + abs(high) * margin):
                    movers.update(bucket)
        self._move(list(movers.values()))

    def _ev_bucket(self, entry: Entry) -> dict[str, Entry]:
        ev = entry.row.ev
        if ev is None:
            return self._unknown_ev
        key = _bucket_key(ev)
        bucket = self._by_ev.get(key)
        if bucket is None:
            bucket = self._by_ev[key] = {}
            insort(self._ev_keys, key)
        return bucket

    def _ev_buckets(self, low: float, high: float) -> Iterator[dict[str, Entry]]:
        keys = self._ev_keys
        last = _bucket_key(high)
        for key in islice(keys, bisect_left(keys, _bucket_key(low)), None):
            if key > last:
                return
            yield self._by_ev[key]

    # For the decision being computed.

    def ahead(self, entry: Entry) -> int:
        """An upper bound of who is served up to it: lifted ones, and the bands that may have as many points."""
        lifted = sum(group.queue.live for group in self.groups.values() if group.lifted)
        i = bisect_left(self._bands, entry.band + 2)
        as_old = sum(self._band_counts[:i])
        group: Group = entry.group
        return min(lifted, as_old) if group.lifted else min(len(self.entries), lifted + as_old)

    def free_mask(self) -> int:
        """Cells with a free slot, as the state has it."""
        return sum([1 << bit for bit, count in enumerate(self.free_counts) if count])

    def may_serve(self, free_mask: int) -> bool:
        """Whether somebody may use what is free; a local model that waits for an emergency is free most of the time."""
        return any(group.mask & free_mask for group in self.groups.values())

    def due_from_ms(self) -> float:
        """Nothing falls due before this; whether something does then, `is_due` tells."""
        return min(self.due.from_ms(), self._other_from_ms())

    def is_due(self, now_ms: Millis) -> bool:
        """Whether something fell due by `now_ms`."""
        return self.due_from_ms() <= now_ms and min(self.due.first_ms(), self._other_from_ms()) <= now_ms

    def next_due_ms(self) -> Millis | None:
        """When the next thing falls due: a row's, or what somebody waits for changes by itself."""
        due_ms = min(self.due.first_ms(), self._other_from_ms())
        return None if due_ms == math.inf else Millis(int(due_ms))

    def _other_from_ms(self) -> float:
        """When percentiles may be recomputed, or the next mark ends, where somebody waits."""
        if self.pool.marks and self.entries:
            return min(self._stale_from_ms(), self.pool.marks.next_change_ms(self.now_ms))
        return self._stale_from_ms()

    def _stale_from_ms(self) -> float:
        """When percentiles may be recomputed, where somebody waits because of them."""
        percentiles = self.pool.percentiles
        if not self._reserved_for_ev or percentiles is None or percentiles.p50 is None:
            return math.inf
        return percentiles.at_ms + self.rulebook.recompute_ms

    def is_free(self, slot_id: str) -> bool:
        """Whether the slot is free in the state and not hidden."""
        row = self._slot_rows.get(slot_id)
        return row is not None and row.state == "free" and not row.retired and slot_id not in self._hidden_slots

    def hide(self, entry: Entry) -> None:
        """The task is not waiting any more, for the rest of this decision."""
        group: Group = entry.group
        group.queue.take(entry)
        self._hidden_tasks.append(entry)

    def hide_slot(self, cell: Cell, slot_id: str) -> None:
        """The slot is not free any more, for the rest of this decision."""
        free = self.free_slots(cell)
        free.take(slot_id)
        self._hidden_in[free] = None
        self._hidden_slots.add(slot_id)

    def longest_free(self, cell: Cell) -> tuple[Millis, str] | None:
        """(since, slot id) of the cell's slot that has been free longest."""
        line = self._lines.get(cell)
        while line:
            since_ms, slot_id = line[0]
            row = self._slot_rows.get(slot_id)
            if row is None or row.state != "free" or row.since_ms != since_ms or row.retired or cell_of(row) != cell:
                heappop(line)
            elif slot_id in self._hidden_slots:
                self._parked_lines.append((line, heappop(line)))
            else:
                return since_ms, slot_id
        return None

    def release(self) -> None:
        """End of a decision: everything it hid is there again."""
        for entry in self._hidden_tasks:
            entry.group.queue.release()
        self._hidden_tasks.clear()
        for free in self._hidden_in:
            free.release()
        self._hidden_in.clear()
        self._hidden_slots.clear()
        self.balances.release()
        self._tidy()
        for line, place in self._parked_lines:
            heappush(line, place)
        self._parked_lines.clear()
        self.due.release()


def _whole(key: GroupKey) -> GroupKey:
    """The key of the family that a billed group belongs to."""
    return key if key.bill is None or key.bill.exact is None else key._replace(bill=key.bill._replace(exact=None))


def _lines(percentiles: Percentiles | None) -> tuple[float | None, float | None]:
    return (None, None) if percentiles is None else (percentiles.p50, percentiles.p90)


def _bucket_key(ev: float) -> int:
    """Monotone in `ev`; neighbours differ by some three percent."""
    mantissa, exponent = math.frexp(abs(ev))
    key = 0 if ev == 0 else (exponent + 1100) * 32 + int(mantissa * 32)
    return key if ev >= 0 else -key
